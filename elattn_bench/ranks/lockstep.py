"""Ranks that decide alike: they join for a task, and read one clock. Knows torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import torch
import torch.distributed as dist

from attention_impls.sharded.exchange import Exchange
from elattn_bench.ranks.nouns import Meeting
from elattn_bench.timers import Clock
from elattn_bench.units import Seconds

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
PARTING: Seconds = 1e-3  # between looks at whether the others are done too

T = TypeVar("T")


class Agreement:
    """What the ranks of a joined group tell each other outside of what is measured.

    Every rank must ask the same in the same order.
    """

    def __init__(self, device: str) -> None:
        self._device = device

    def highest(self, value: float) -> float:
        """The greatest of all ranks' values, on every rank; all wait until the last has asked."""
        found = torch.tensor([value], dtype=torch.float64, device=self._device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return float(found)

    def every(self, value: T) -> list[T]:
        """The values of all ranks, in their order."""
        values: list[T | None] = [None] * dist.get_world_size()
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]


class RankClock:
    """A device's clock in lockstep: all ranks start together, and a call lasts until the last one is done.

    Every rank reads the same, so whoever decides by it decides the same on all.

    Args:
        clock: of this rank's device.
        highest: the greatest of all ranks' values; returns once all have asked.
    """

    def __init__(self, clock: Clock, highest: Callable[[float], float]) -> None:
        self._clock, self._highest = clock, highest
        self.min_block: Seconds = highest(clock.min_block)

    def now(self) -> Seconds:
        """Time on the wall of the rank whose clock is ahead: always the same one, so it is monotonic."""
        return self._highest(self._clock.now())

    def time(self, call: Callable[[], object], calls: int) -> Seconds:
        """How long so many calls in a row take on the slowest rank, counted from when all are there."""
        self._highest(0.0)
        return self._highest(self._clock.time(call, calls))


@contextmanager
def joined(device: str, meeting: Meeting) -> Iterator[tuple[Exchange, Agreement]]:
    """Within, this process is one of the ranks that meet.

    Raises:
        RuntimeError: the others do not come, or one of them has gone.
    """
    store, timeout = _store(meeting), timedelta(seconds=meeting.timeout)
    dist.init_process_group(
        BACKENDS[device], store=store, rank=meeting.rank, world_size=meeting.size, timeout=timeout
    )
    try:
        yield Exchange(), Agreement(device)
        _part(store, meeting.size)
    finally:
        dist.destroy_process_group()


def _store(meeting: Meeting) -> Any:
    """Where the ranks leave each other their addresses."""
    address = urlsplit(meeting.address)
    if address.scheme == "file":
        return dist.FileStore(address.path, meeting.size)  # type: ignore[attr-defined]
    assert address.hostname is not None
    assert address.port is not None
    timeout = timedelta(seconds=meeting.timeout)
    server = address.hostname, address.port
    store = dist.TCPStore(*server, is_master=False, timeout=timeout)  # type: ignore[attr-defined]
    return dist.PrefixStore(address.path, store)  # type: ignore[attr-defined]


def _part(store: Any, size: int) -> None:
    # Whoever closes its connections first would break a message that another still waits for.
    store.add("done", 1)
    while store.add("done", 0) < size:
        time.sleep(PARTING)
