"""One rank's share of a case: join, gate, first call, memory pass, warm-up, samples, its work alone, in lockstep."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from attention_impls.sharded.exchange import Exchange, Traffic
from elattn_bench import workload
from elattn_bench.cases import Case
from elattn_bench.gate import GateError
from elattn_bench.measure import BrokenContract, Subject, measurement
from elattn_bench.monitor import Monitor
from elattn_bench.neighbours import CpuTimes, others_share
from elattn_bench.ranks import gate
from elattn_bench.ranks.lockstep import Agreement, RankClock, joined
from elattn_bench.ranks.nouns import Meeting
from elattn_bench.ranks.work import part_of, silent, with_work
from elattn_bench.results import Measurement, Outcome, Skipped
from elattn_bench.sampling import Call, sample
from elattn_bench.timers import clock_for
from elattn_bench.units import Seconds
from elattn_bench.worker_process import Context, Settings


def measure(context: Context, case: Case, meeting: Meeting) -> Outcome:
    """The measurement of a case by all its ranks, the same on each, or why there is none.

    What one rank alone meets, out of memory too, is raised: the harness then ends the others.
    """
    form = case.sharding
    if form is None:
        return Skipped("unsupported", "; ".join(case.unsupported_reasons()))
    start = time.monotonic()
    with joined(case.device, meeting) as (exchange, agreement):
        error = gate.check(case, form, exchange, agreement, context.settings.input_std)
        if failure := error.failure(case.dtype):
            return Skipped("error", failure)
        try:
            found, inputs, clock = _sampled(case, context.settings, exchange, agreement, error)
        except BrokenContract as broken:
            return Skipped("error", str(broken))
        call, left = silent(case, exchange, inputs), meeting.limit - (time.monotonic() - start)
        return with_work(found, call, agreement, clock, part_of(context.settings.budget), left)


def _sampled(
    case: Case, settings: Settings, exchange: Exchange, agreement: Agreement, error: GateError
) -> tuple[Measurement, Sequence[Tensor], RankClock]:
    """What was measured, and of what and with what, for the work to be measured too."""
    load = workload.build_shard(case, exchange, settings.seed, settings.input_std)
    subject = RankSubject(case, load, exchange, agreement)
    clock = RankClock(clock_for(case.device), agreement.highest)
    before = CpuTimes.read()
    with Monitor(clock, case.device) as monitor:
        samples = sample(subject.call, monitor, settings.budget, subject.memory_pass)
    others = _others(agreement, before, CpuTimes.read())
    seen = monitor.observed
    throttled = next(filter(None, agreement.every(seen.throttled)), None)
    if exchange.size > 1:
        seen = replace(seen, energy_j=None)  # the energy of one device is not that of all
    found = measurement(
        case, error, samples, replace(seen, throttled=throttled), others, subject.memory_fields()
    )
    return found, load.inputs, clock


class RankSubject(Subject):
    """A rank's call; what is found of it is that of the rank which holds, or receives, most."""

    def __init__(self, case: Case, load: workload.Workload, exchange: Exchange, agreement: Agreement) -> None:
        super().__init__(case, load)
        self._exchange, self._agreement = exchange, agreement
        self._received = 0

    def memory_pass(self, call: Call) -> Seconds:
        """Measure one call's memory and what it receives, on all ranks at once."""
        self._exchange.traffic = Traffic()
        took, broken = 0.0, None
        try:
            took = super().memory_pass(call)
        except BrokenContract as error:
            broken = str(error)
        self._received = int(self._agreement.highest(self._exchange.traffic.received_bytes))
        if self._peak is not None and self._peak.kept <= self._received:
            # A collective lets its tensor go in a thread of its own, where the profiler does not look: no leak.
            self._peak = replace(self._peak, kept=0)
        # On all ranks or on none: the others would wait for this one.
        if reasons := [each for each in self._agreement.every(broken) if each]:
            raise BrokenContract(reasons[0])
        return took

    def memory_fields(self) -> dict[str, Any]:
        """The fields of ``Measurement`` that the memory pass found."""
        fields = most_of(self._agreement.every(super().memory_fields()))
        return {**fields, "received_bytes": self._received}


def most_of(every: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The greatest of every figure over the ranks, where one is known; the warnings of all."""
    found: dict[str, Any] = {}
    for name in every[0]:
        values = [each[name] for each in every]
        if name == "warnings":
            found[name] = tuple(dict.fromkeys(sentence for warnings in values for sentence in warnings))
        else:
            found[name] = max((value for value in values if value is not None), default=None)
    return found


def _others(agreement: Agreement, before: CpuTimes, after: CpuTimes) -> float:
    """Share of the CPUs that processes other than the ranks used, on the host where they used most."""
    host = socket.gethostname()
    used = agreement.every((host, after.own - before.own))
    ours = sum(seconds for name, seconds in used if name == host)
    return max(agreement.every(others_share(before, replace(after, own=before.own + ours))))
