"""The functions behind ``selftest_impls``. Knows torch; only the worker imports it."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Any

import torch
from torch import Tensor

from elattn_bench.gate import GATE_LENGTH
from elattn_bench.selftest_impls import ALLOCATION, EXIT_CODE, LEAK, LEAK_CALL, SCRATCH_PER_TOKEN
from elattn_bench.units import Seconds

SPUN: Seconds = (
    1e-3  # the end of a wait, in which the clock is read all the time: sleeping ends late by some 50 us
)

_kept: list[Tensor] = []


def oracle(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """The sum of query, key and value, whatever the mask."""
    return query + key + value


def busy(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """The oracle, returned seq_len microseconds after the call; its gradients after twice that time.

    The host waits, also on a GPU: the events around the call are as far apart.
    """
    deadline = time.perf_counter() + query.shape[-2] * 1e-6
    output: Tensor = _BusyBackward.apply(query, key, value)  # type: ignore[no-untyped-call]
    _wait_until(deadline)
    return output


class _BusyBackward(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return oracle(query, key, value)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        _wait_until(time.perf_counter() + 2 * gradients[0].shape[-2] * 1e-6)
        return gradients[0], gradients[0], gradients[0]


def allocating(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """The oracle, with 1024 seq_len bytes of scratch held until its output, and nothing else, stands."""
    scratch = torch.empty(SCRATCH_PER_TOKEN * query.shape[-2], dtype=torch.uint8, device=query.device)
    output = query.clone().add_(key).add_(value)
    del scratch
    return output


def wrong(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """The oracle times 1.01."""
    return 1.01 * oracle(query, key, value)


def wrong_gradient(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """The oracle, whose gradients are those of 1.01 times the oracle."""
    right = oracle(query, key, value)
    return right + 0.01 * (right - right.detach())


def leaking(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """The oracle after 60 ms; 96 MiB stay."""
    deadline = time.perf_counter() + LEAK_CALL
    _kept.append(torch.ones(LEAK, dtype=torch.uint8, device=query.device))
    _wait_until(deadline)
    return oracle(query, key, value)


def hanging(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """The oracle after an hour, in which no Python code of this process runs."""
    if _is_timed(query):
        ctypes.PyDLL(None).sleep(3600)
    return oracle(query, key, value)


def killed(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """Dies of SIGKILL."""
    if _is_timed(query):
        os.kill(os.getpid(), signal.SIGKILL)
    return oracle(query, key, value)


def crashing(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """Dies of SIGSEGV."""
    if _is_timed(query):
        ctypes.string_at(0)
    return oracle(query, key, value)


def leaving(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """Leaves without a word."""
    if _is_timed(query):
        os._exit(EXIT_CODE)
    return oracle(query, key, value)


def too_large(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """The oracle, with seq_len MiB in its hands; on a CPU they are never written to, should they be granted."""
    pieces = []
    if _is_timed(query):
        for _ in range(0, query.shape[-2] * 2**20, ALLOCATION):
            pieces.append(torch.empty(ALLOCATION, dtype=torch.uint8, device=query.device))
    return oracle(query, key, value)


def _is_timed(query: Tensor) -> bool:
    return query.shape[-2] > GATE_LENGTH


def _wait_until(deadline: Seconds) -> None:
    # Sleeping most of the time keeps the scheduler's favour: a process that spins for milliseconds beside busy
    # neighbours loses the core now and then, and returns late by a slice.
    if (asleep := deadline - time.perf_counter() - SPUN) > 0:
        time.sleep(asleep)
    while time.perf_counter() < deadline:
        pass
