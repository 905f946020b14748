"""How long the exchanges that sharded attentions are made of take, alone, by size. Knows torch; all ranks at once."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from attention_impls.sharded.exchange import Exchange
from elattn_bench.ranks.lockstep import RankClock, joined
from elattn_bench.ranks.nouns import Meeting
from elattn_bench.sampling import Call
from elattn_bench.timers import clock_for
from elattn_bench.units import Bytes, Seconds
from elattn_bench.worker_process import Context

SIZES: tuple[Bytes, ...] = tuple(2**power for power in range(8, 25, 4))
"""Of one rank's tensor, 256 B to 16 MiB: from what latency decides to what bandwidth does."""

ENOUGH: Seconds = 0.1  # of samples per kind and size
FEWEST, MOST = 7, 200  # samples
WARM_UP = 3  # calls: connections come up in the first


def measure(context: Context, meeting: Meeting) -> list[dict[str, Any]]:
    """An entry for run.json for each kind of exchange and size of one rank's tensor."""
    device = context.settings.device
    with joined(device, meeting) as (exchange, agreement):
        clock = RankClock(clock_for(device), agreement.highest)
        return [
            {"ranks": exchange.size, "kind": kind, "bytes": size, **summary(_samples(call, clock))}
            for size in SIZES
            for kind, call in _calls(exchange, size, device).items()
        ]


def summary(seconds: list[Seconds]) -> dict[str, Any]:
    """Median and quartiles (Hyndman & Fan 1996, definition 7)."""
    low, middle, high = map(float, np.percentile(seconds, [25, 50, 75]))
    return {"seconds": middle, "seconds_low": low, "seconds_high": high, "samples": len(seconds)}


def _calls(exchange: Exchange, size: Bytes, device: str) -> Mapping[str, Callable[[], object]]:
    tensor = torch.ones(1, 1, size // 4, 1, device=device)
    return {
        "total": lambda: exchange.total(tensor),
        "before": lambda: exchange.before(tensor, operator.add),
        "gather": lambda: exchange.gather(tensor),
    }


def _samples(call: Call, clock: RankClock) -> list[Seconds]:
    """Times of single calls. The clock says the same on all ranks, so all make as many."""
    first = statistics.median(clock.time(call, 1) for _ in range(WARM_UP))
    wanted = int(min(MOST, max(FEWEST, ENOUGH / first)))
    return list(_timed(call, clock, wanted))


def _timed(call: Call, clock: RankClock, samples: int) -> Iterator[Seconds]:
    for _ in range(samples):
        yield clock.time(call, 1)
