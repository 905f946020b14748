"""A crew without Ray: nodes that answer at once, refuse or die as a test says; and what a foreman needs besides."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import made_up
from rich.console import Console

from elattn_bench import __version__
from elattn_bench.cases import Case
from elattn_bench.cluster.crew import Lost, Report
from elattn_bench.cluster.foreman import Foreman
from elattn_bench.cluster.progress import ClusterProgress
from elattn_bench.cluster.queue import Home, Queue
from elattn_bench.cluster.slots import Slot
from elattn_bench.results import SCHEMA_VERSION, Outcome
from elattn_bench.rundir import RunDir


def slot(host: str = "one", device: str = "cpu", kinds: tuple[str, ...] = (), number: int = 0) -> Slot:
    """A device of the node with that name."""
    return Slot(f"id-of-{host}", number, host, device, kinds)


def introduction(device_name: str = "Made-up CPU 9000", **said: Any) -> dict[str, Any]:
    """What a node says of itself."""
    environment = {**made_up.ENVIRONMENT, "device": "cpu", "device_name": device_name}
    usual = {
        "elattn_bench": __version__, "environment": environment, "memory_limit": 8 * 2**30, "ceilings": {},
        "ceilings_missing": None,
    }  # fmt: skip
    return {**usual, **said}


Answer = Callable[[Slot, Case], Any]


def quick(slot: Slot, case: Case) -> Outcome:
    """Every case is measured."""
    return made_up.measured(1.0)


@dataclass
class FakeCrew:
    """Nodes that answer in the order asked.

    answer: an outcome, or ``Lost``; ``GONE`` takes the node out of the cluster as well.
    busy: devices that another job holds.
    said: what nodes say of themselves, by their hosts.
    """

    present: list[Slot]
    answer: Answer = quick
    said: Mapping[str, Any] = field(default_factory=dict)
    busy: set[Slot] = field(default_factory=set)
    sent: list[tuple[Slot, Case]] = field(default_factory=list)
    hired: list[Slot] = field(default_factory=list)
    _reports: list[Report] = field(default_factory=list)

    def slots(self) -> Sequence[Slot]:
        return list(self.present)

    def hire(self, slot: Slot) -> None:
        self.hired.append(slot)
        if slot not in self.busy:
            self._reports.append(Report(slot, self.said.get(slot.host, introduction())))

    def has_device(self, slot: Slot) -> bool:
        return slot not in self.busy

    def send(self, slot: Slot, task: str, *arguments: Any) -> None:
        (case,) = arguments
        self.sent.append((slot, case))
        result = self.answer(slot, case)
        if result is GONE:
            self.present.remove(slot)
        self._reports.append(Report(slot, result))

    def dismiss(self, slot: Slot) -> None:
        self._reports = [report for report in self._reports if report.slot != slot]

    def wait(self, timeout: float) -> Sequence[Report]:
        return [self._reports.pop(0)] if self._reports else []


GONE = Lost("the node has died")


@dataclass
class Office:
    """A run directory and a foreman over a crew."""

    crew: FakeCrew
    run_dir: RunDir
    warnings: list[str] = field(default_factory=list)
    screen: io.StringIO = field(default_factory=io.StringIO)

    @classmethod
    def over(cls, crew: FakeCrew, path: Path) -> Office:
        """A new run."""
        info = {"schema": SCHEMA_VERSION, "environment": introduction()["environment"], "ceilings": {}}
        return cls(crew, RunDir.create(path, info))

    def measure(
        self, cases: Sequence[Case], visits: int = 1, homes: Mapping[str, Home] | None = None, **options: Any
    ) -> None:
        """Lead the crew through the cases."""
        foreman = Foreman(
            self.crew, self.warnings.append, "elattn-bench sweep --resume", timeout=60.0, now=lambda: "now",
            patience=0.05, **options,
        )  # fmt: skip
        pending = [case for _ in range(visits) for case in cases]
        queue = Queue(
            pending, lambda case: self.run_dir.remaining(case.case_id, visits) > 0, dict(homes or {})
        )
        with self.run_dir, ClusterProgress(pending, lambda case: 1.0, Console(file=self.screen)) as progress:
            assert isinstance(progress, ClusterProgress)
            foreman.meet()
            foreman.lead(queue, self.run_dir, progress, lambda case: 1.0)

    @property
    def hosts(self) -> dict[str, str]:
        """Where each case was measured."""
        return {case_id: row.host for case_id, row in self.run_dir.done.items()}
