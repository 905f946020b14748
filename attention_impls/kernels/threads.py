"""Running a kernel's tasks on as many threads as torch uses. Kernels called through ctypes release the GIL."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

Task = Callable[[], None]

_pools: dict[int, tuple[int, ThreadPoolExecutor]] = {}
"""By process, for a forked child has the pool but not its threads: how many threads, and the pool."""


def run(tasks: Sequence[Task]) -> None:
    """Run all tasks at once, one of them here; return when all are done."""
    if len(tasks) == 1:
        tasks[0]()
        return
    others = [_pool(len(tasks) - 1).submit(task) for task in tasks[1:]]
    try:
        tasks[0]()
    finally:
        # All of them, whatever happens: they write into the caller's tensors.
        for other in others:
            other.result()


def _pool(threads: int) -> ThreadPoolExecutor:
    count, pool = _pools.get(os.getpid(), (0, None))
    if pool is None or count < threads:
        pool = ThreadPoolExecutor(threads, thread_name_prefix="attention_impls")
        _pools[os.getpid()] = threads, pool
    return pool
