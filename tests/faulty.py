"""Attentions that misbehave. ``faulty:raises`` is the AttentionSpec of ``Ops.raises``. No torch at import."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from attention_impls import AttentionSpec
from elattn_bench.selftest_impls import spec

if TYPE_CHECKING:
    from torch import Tensor

MEGABYTE = "x" * 2**20 + "\n"
PIECE = 64 * 2**20
PIECES = 1024  # 64 GiB: far beyond any limit that a test sets
SPINNING = threading.Event()
KEPT: list[Any] = []
DONE: set[str] = set()


def __getattr__(name: str) -> AttentionSpec:
    if name.startswith("_") or name not in vars(Ops):
        raise AttributeError(name)
    return spec(f"faulty:Ops.{name}", name.replace("_", " "))


def once(name: str) -> bool:
    """Whether this is the first time in this process."""
    first = name not in DONE
    DONE.add(name)
    return first


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Ops:
    """Each returns the sum of its tensors, as it should, unless its name says otherwise."""

    @staticmethod
    def wrong_shape(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        return (query + key + value)[..., :1]

    @staticmethod
    def wrong_dtype(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        return (query + key + value).double()

    @staticmethod
    def not_a_number(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        return (query + key + value) / 0

    @staticmethod
    def modifies_its_input(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        return query.add_(key).add_(value)

    @staticmethod
    def returns_none(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> None:
        return None

    @staticmethod
    def returns_a_tuple(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> tuple[Tensor, ...]:
        return (query + key + value,)

    @staticmethod
    def returns_an_array(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Any:
        return (query + key + value).detach().numpy()

    @staticmethod
    def raises(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        raise ValueError("no luck\ntoday")

    @staticmethod
    def raises_a_megabyte(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        raise ValueError(MEGABYTE)

    @staticmethod
    def raises_unprintably(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        raise Unprintable

    @staticmethod
    def interrupts(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        raise KeyboardInterrupt

    @staticmethod
    def exits(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        sys.exit(0)

    @staticmethod
    def recurses(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        return Ops.recurses(query, key, value, causal=causal)

    @staticmethod
    def overflows_the_stack(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        sys.setrecursionlimit(2**31 - 1)
        KEPT.append(ctypes.CFUNCTYPE(None)(lambda: KEPT[-1]()))
        KEPT[-1]()
        return query + key + value

    @staticmethod
    def leaves_with_0(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        os._exit(0)

    @staticmethod
    def leaves_with_3(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        os.write(2, b"not my day\n")
        os._exit(3)

    @staticmethod
    def segfaults(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        ctypes.string_at(0)
        raise AssertionError

    @staticmethod
    def aborts(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        os.abort()

    @staticmethod
    def closes_its_connection(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        os.closerange(3, 1024)
        time.sleep(3600)
        raise AssertionError

    @staticmethod
    def hangs(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        ctypes.PyDLL(None).sleep(3600)  # holds Python's lock all the while
        return query + key + value

    @staticmethod
    def forks_and_hangs(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        if os.fork() == 0:
            time.sleep(3600)
        return Ops.hangs(query, key, value, causal=causal)

    @staticmethod
    def takes_all_memory(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        import torch

        pieces = [torch.empty(PIECE, dtype=torch.uint8) for _ in range(PIECES)]
        return query + key + value + len(pieces)

    @staticmethod
    def prints_megabytes(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        for stream in (sys.stdout, sys.stderr):
            stream.write(MEGABYTE)
            stream.flush()
            os.write(stream.fileno(), MEGABYTE.encode())
        return query + key + value

    @staticmethod
    def leaks(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        import torch

        time.sleep(1e-3)  # fewer calls: what they keep stays below a gibibyte
        KEPT.append(torch.empty(2**20, dtype=torch.uint8))
        return query + key + value

    @staticmethod
    def keeps_a_thread(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        if once("thread"):
            threading.Thread(target=SPINNING.wait).start()
        return query + key + value

    @staticmethod
    def keeps_a_child(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        if once("child") and os.fork() == 0:
            time.sleep(3600)
        return query + key + value

    @staticmethod
    def returns_twice(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        if once("twice"):
            os.fork()  # the copy goes on measuring, as if it were the worker
        return query + key + value

    @staticmethod
    def changes_directory(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        os.chdir("/")
        return query + key + value

    @staticmethod
    def handles_signals(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        return query + key + value

    @staticmethod
    def closes_its_streams(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        os.closerange(1, 3)
        return query + key + value

    @staticmethod
    def sets_threads(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        import torch

        torch.set_num_threads(2)
        return query + key + value
