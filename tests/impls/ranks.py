"""Real ranks for tests: processes that exchange over gloo, started once for each number of them.

A rank that raises, dies or takes too long ends them all and fails the test that asked.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from attention_impls.sharded import Exchange

PATIENCE = 60.0  # s for one call, on a machine that does much else; a rank that fails is noticed at once
PRELOADED = ["torch", "torch.distributed", "attention_impls.sharded"]


class RankFailed(Exception):
    """What a rank raised, or how it ended; all ranks of its world have been ended."""


def run(ranks: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """``function(exchange, *arguments)`` on each of so many ranks at once; what it returned, by rank.

    Args:
        function: of a module, which the ranks import it from; ``exchange`` is new in each call, over the ranks.
        arguments: the same on every rank; they and the results are pickled.

    Raises:
        RankFailed: a rank raised (with its traceback), died, or took more than ``PATIENCE`` seconds.
    """
    world = _worlds.get(ranks) or _worlds.setdefault(ranks, _World(ranks))
    try:
        return world.run(function, arguments)
    except BaseException:
        del _worlds[ranks]
        world.end()
        raise


def end() -> None:
    """End all ranks; what a module that used them does last."""
    while _worlds:
        _worlds.popitem()[1].end()


class _World:
    """So many processes, each with a pipe to it."""

    def __init__(self, ranks: int) -> None:
        # From a server that has imported torch and begun no thread: a rank then starts in milliseconds.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._meeting = tempfile.TemporaryDirectory()
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for rank in range(ranks):
            ours, theirs = context.Pipe()
            place = Path(self._meeting.name) / "store"
            process = context.Process(target=_serve, args=(theirs, rank, ranks, place.as_uri()), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Any]:
        task = pickle.dumps((list(sys.path), function.__module__, function.__name__, arguments))
        for rank, pipe in enumerate(self._pipes):
            try:
                pipe.send_bytes(task)
            except OSError:
                raise RankFailed(self._died(rank)) from None
        deadline = time.monotonic() + PATIENCE
        results: dict[int, Any] = {}
        while waiting := [rank for rank in range(len(self._pipes)) if rank not in results]:
            ready = wait([self._pipes[rank] for rank in waiting], deadline - time.monotonic())
            if not ready:
                raise RankFailed(f"no result from rank {waiting} within {PATIENCE:g} s")
            for rank in waiting:
                if self._pipes[rank] in ready:
                    results[rank] = self._received(rank)
        return [results[rank] for rank in range(len(self._pipes))]

    def end(self) -> None:
        for process, pipe in zip(self._processes, self._pipes, strict=True):
            process.kill()
            process.join()
            pipe.close()
        self._meeting.cleanup()

    def _received(self, rank: int) -> Any:
        try:
            fine, result = pickle.loads(self._pipes[rank].recv_bytes())
        except (EOFError, OSError):
            raise RankFailed(self._died(rank)) from None
        if not fine:
            raise RankFailed(f"rank {rank} of {len(self._pipes)}:\n{result}")
        return result

    def _died(self, rank: int) -> str:
        self._processes[rank].join(5)
        return f"rank {rank} of {len(self._pipes)} died (exit code {self._processes[rank].exitcode})"


_worlds: dict[int, _World] = {}


def _serve(pipe: Connection, rank: int, ranks: int, meeting: str) -> None:
    """What a rank does: join the others, then run what comes through the pipe until it is ended."""
    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # the machine's own name need not resolve
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
    while True:
        try:
            task = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send_bytes(pickle.dumps(_answer(task)))


def _answer(task: bytes) -> tuple[bool, Any]:
    """Whether all went well, and the result or else the traceback."""
    try:
        sys.path[:], module, name, arguments = pickle.loads(task)
        return True, getattr(importlib.import_module(module), name)(Exchange(), *arguments)
    except Exception:
        return False, traceback.format_exc()
