"""The cases of a sweep over a cluster: what is left, where rows go, how far things are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from elattn_bench import control
from elattn_bench.cases import Case
from elattn_bench.cluster import records
from elattn_bench.cluster.hand import Hand, kind_of, predictor_of
from elattn_bench.cluster.progress import ClusterProgress
from elattn_bench.cluster.queue import MOST_LOSSES, Queue
from elattn_bench.results import Outcome, Row, Skipped
from elattn_bench.rundir import RunDir
from elattn_bench.sweep import Foresight, case_of
from elattn_bench.units import Seconds


@dataclass
class Work:
    """What a foreman has done.

    Args:
        estimate: the time of a case, guessed.
        half: of the estimated time of all cases; past it the control case has its middle visit.
        session: which of the run's sweeps over a cluster this is.
    """

    queue: Queue
    run_dir: RunDir
    progress: ClusterProgress
    estimate: Callable[[Case], Seconds]
    half: Seconds
    session: int = 1
    _past: Seconds = 0.0
    _foresights: dict[tuple[str, int], Foresight] = field(default_factory=dict)

    @property
    def half_done(self) -> bool:
        """Whether half of the estimated time is behind."""
        return self._past >= self.half

    def enlist(self, hand: Hand, introduction: Mapping[str, Any]) -> None:
        """An entry in run.json for the device, and one foresight for all of its kind."""
        info = self.run_dir.info
        hand.record["session"] = self.session
        new, hand.record = hand.record, records.entered(info, hand.record)
        if hand.record is new:
            case_id = control.CASES[hand.slot.device].case_id
            watched = info.setdefault("control", {"case_id": case_id, "sessions": []})
            watched["sessions"].append(new["control"])
        self.run_dir.write_info()
        kind = kind_of(introduction)
        if kind not in self._foresights:
            self._foresights[kind] = Foresight(predictor_of(introduction))
            for row in self.run_dir.done.values():
                self._learn(row)
        hand.foresight = self._foresights[kind]

    def append(self, hand: Hand, outcome: Outcome) -> None:
        """The outcome of the case in hand goes to disk; then the device is free."""
        assert isinstance(hand.task, Case)
        case, took = hand.task, time.monotonic() - hand.since
        hand.record["cases"] += case.case_id not in self.run_dir.done  # else it is a further visit to a case
        row = self.run_dir.append(case, outcome, case_s=took, place=hand.place)
        self.queue.finish(hand.slot)
        self._past += self.estimate(case)
        hand.foresight.note(case, row)
        hand.unseen += 1
        hand.task = None
        self.progress.finished(case, row)

    def lose(self, hand: Hand, reason: str, warn: Callable[[str], None]) -> None:
        """The case in hand goes back to the front; one that loses its node again and again becomes a row."""
        case, goes_back = self.queue.lose(hand.slot)
        if goes_back:
            warn(f"{hand.slot.name} was lost ({reason}); its case is measured elsewhere: {case.case_id}")
            return
        self.append(hand, Skipped("error", f"lost its node {MOST_LOSSES} times, the last time: {reason}"))

    def _learn(self, row: Row) -> None:
        for (device_name, _), foresight in self._foresights.items():
            if row.device_name == device_name:
                foresight.note(case_of(row), row)
