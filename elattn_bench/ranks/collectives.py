"""How long the exchanges that sharded attentions are made of take, as a call meets them: after work. Knows torch."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Mapping
from typing import Any

import torch

from attention_impls.sharded.exchange import Exchange, Silent
from elattn_bench import device as devices
from elattn_bench import stats
from elattn_bench.ranks.lockstep import BACKENDS, RankClock, joined
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

WORK: Seconds = 1e-3  # before each exchange: threads fall asleep meanwhile and ranks end apart, as in a call
CPU_L2: Bytes = 2**21  # the greatest of a core of usual servers (Intel Golden Cove; AMD Zen 4 has 1 MiB)
L2S = 4  # times the L2 cache are copied: what an exchange reads is then cold, as after a call's own work
LEAST: Seconds = 1e-7  # that an exchange is said to take, where the noise of the work is greater than it


def measure(context: Context, meeting: Meeting) -> list[dict[str, Any]]:
    """An entry for run.json for each kind of exchange and size of one rank's tensor."""
    device = context.settings.device
    with joined(device, meeting) as (exchange, agreement):
        clock = RankClock(clock_for(device), agreement.highest)
        work, silent = _work(device, clock), Silent(exchange.rank, exchange.size)
        known = {"ranks": exchange.size, "backend": BACKENDS[device]}
        return [
            {**known, "kind": kind, "bytes": size, **summary(_samples(_after(work, call), alone, clock))}
            for size in SIZES
            for kind, call in _calls(exchange, size, device).items()
            for alone in [_after(work, _calls(silent, size, device)[kind])]
        ]


def summary(seconds: list[Seconds]) -> dict[str, Any]:
    """Median and quartiles, as those of a case's samples."""
    found = stats.summarise(seconds)
    quartiles = {"seconds": found.p50, "seconds_low": found.p25, "seconds_high": found.p75}
    return {**quartiles, "samples": len(seconds)}


def _calls(exchange: Exchange, size: Bytes, device: str) -> Mapping[str, Call]:
    tensor = torch.ones(1, 1, size // 4, 1, device=device)
    return {
        "total": lambda: exchange.total(tensor),
        "before": lambda: exchange.before(tensor, operator.add),
        "gather": lambda: exchange.gather(tensor),
        "scatter": lambda: exchange.scatter_total([tensor] * exchange.size),
    }


def _work(device: str, clock: RankClock) -> Call:
    """About ``WORK`` seconds of copying, as many copies on every rank; its tensors are larger than the L2 cache."""
    size = L2S * CPU_L2 if device == "cpu" else devices.cache_bytes(device)
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    once = min(
        clock.time(lambda: target.copy_(source), 1) for _ in range(FEWEST)
    )  # neighbours make no work shorter
    copies = max(1, round(WORK / once))

    def work() -> None:
        for _ in range(copies):
            target.copy_(source)

    return work


def _after(work: Call, call: Call) -> Call:
    def both() -> None:
        work()
        call()

    return both


def _samples(both: Call, alone: Call, clock: RankClock) -> list[Seconds]:
    """Times of single exchanges: of work and exchange, less the median of the same without messages in between.

    The clock says the same on all ranks, so all make as many.
    """
    pair = statistics.median(_sum_of(both, alone, clock) for _ in range(WARM_UP))
    wanted = int(min(MOST, max(FEWEST, ENOUGH / pair)))
    times = [(clock.time(both, 1), clock.time(alone, 1)) for _ in range(wanted)]
    work = statistics.median(of_alone for _, of_alone in times)
    return [max(LEAST, of_both - work) for of_both, _ in times]


def _sum_of(both: Call, alone: Call, clock: RankClock) -> Seconds:
    return clock.time(both, 1) + clock.time(alone, 1)
