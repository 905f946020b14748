"""The sweep: order, resume, append after every case. ``measure`` is an argument, so no torch is needed."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Protocol, TypeAlias

from elattn_bench.cases import Case
from elattn_bench.knobs import as_knobs_have_them
from elattn_bench.prediction import Predictor
from elattn_bench.results import Outcome, Row, Skipped
from elattn_bench.rundir import RunDir

Measure: TypeAlias = Callable[[Case], Outcome]


class Observer(Protocol):
    """Whoever watches a sweep: the progress bar, or a test."""

    def started(self, case: Case) -> None:
        """The case is about to be measured."""

    def finished(self, case: Case, row: Row) -> None:
        """The case's row is on disk."""


def run(
    cases: Iterable[Case],
    run_dir: RunDir,
    measure: Measure,
    observer: Observer,
    predictor: Predictor | None = None,
    visits: int = 1,
) -> None:
    """Measure the cases in the order given, each as often as it stands there and still needs a visit.

    Args:
        visits: how many visits a case needs in all.
        predictor: refuses cases that cannot fit; None tries them all.
    """
    foresight = Foresight(predictor)
    for row in run_dir.done.values():
        foresight.note(case_of(row), row)
    for case in cases:
        if not run_dir.remaining(case.case_id, visits):
            continue
        observer.started(case)
        start = time.monotonic()
        known = case.case_id in run_dir.done
        outcome = (None if known else foresight.verdict(case)) or measure(case)
        # Append before the next case: a later crash must not lose this row.
        row = run_dir.append(case, outcome, case_s=time.monotonic() - start)
        foresight.note(case, row)
        observer.finished(case, row)


def in_order(cases: Sequence[Case], seed: int) -> list[Case]:
    """The cases in seeded random order within increasing cost.

    Random, so that a drift of the machine does not become a trend; increasing, so that results come
    early and running out of memory is met from below. Filling in a context counts as cost: the step after
    it takes the same time whatever its length.
    """
    shuffled = list(cases)
    random.Random(seed).shuffle(shuffled)
    return sorted(shuffled, key=_cost_bucket)


def in_visits(cases: Sequence[Case], run_dir: RunDir, visits: int, seed: int) -> list[Case]:
    """The cases as often as each still needs a visit, in rounds through all of them, each in an order of its own."""
    left = {case: run_dir.remaining(case.case_id, visits) for case in cases}
    return [
        case
        for visit in range(visits)
        for case in in_order([case for case in cases if left[case] > visit], seed + visit)
    ]


def _cost_bucket(case: Case) -> int:
    cost = case.guessed_cost + case.context_cost
    return int(math.log2(max(2, cost.flops + cost.bytes)))


@dataclass
class Exhausted:
    """Cases that ran out of memory or time: whatever needs at least as much is not tried."""

    _failed: list[tuple[Case, str]] = field(default_factory=list)

    def note(self, case: Case, status: str) -> None:
        """Remember the case if it ran out."""
        if status in ("oom", "timeout"):
            self._failed.append((case, status))

    def verdict(self, case: Case) -> Skipped | None:
        """The outcome of a case that cannot do better than one that failed, else None."""
        for smaller, status in self._failed:
            if _needs_at_least(case, smaller):
                if status == "oom":
                    return Skipped("predicted_oom", f"not tried: {smaller.case_id} ran out of memory")
                return Skipped("timeout", f"not tried: {smaller.case_id} took too long")
        return None


@dataclass
class Foresight:
    """What is known of a case before it starts: what ran out below it, and what it needs by prediction."""

    predictor: Predictor | None
    _exhausted: Exhausted = field(default_factory=Exhausted)

    def note(self, case: Case, row: Row) -> None:
        """Learn from a case's row."""
        self._exhausted.note(case, row.status)
        if self.predictor is not None:
            self.predictor.note(case, row)

    def verdict(self, case: Case) -> Skipped | None:
        """The outcome of a case that need not be tried, else None."""
        known = self._exhausted.verdict(case)
        if known is not None and case.unsupported_reasons():
            return None  # for its own reason to be given
        if known is not None or self.predictor is None:
            return known
        return self.predictor.verdict(case)


_KIND = (
    "attention", "backend", "level", "mode", "dtype", "device", "causal", "heads", "hyperparameters", "ranks",
    "device_type",
)  # fmt: skip
_SIZES = ("batch", "seq_len", "dim", "order")


def _needs_at_least(case: Case, smaller: Case) -> bool:
    same_kind = all(getattr(case, name) == getattr(smaller, name) for name in _KIND)
    return same_kind and all((getattr(case, name) or 0) >= (getattr(smaller, name) or 0) for name in _SIZES)


def case_of(row: Row) -> Case:
    """The case that the row is of."""
    case = Case(**{column.name: getattr(row, column.name) for column in fields(Case)})
    knobs = as_knobs_have_them(row.hyperparameters, case.spec.hyperparameters) if row.hyperparameters else ()
    return replace(case, hyperparameters=knobs)
