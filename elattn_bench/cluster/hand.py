"""A slot that was hired: what it said of itself, what it does now, and what is known of its cases beforehand."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from elattn_bench import control
from elattn_bench.cases import Case
from elattn_bench.cluster.queue import Station
from elattn_bench.cluster.slots import Slot
from elattn_bench.prediction import Predictor
from elattn_bench.results import Outcome, Place
from elattn_bench.roofline import Ceilings
from elattn_bench.sweep import Foresight
from elattn_bench.units import Seconds

MOST_DEATHS = 3  # of a slot's process in a row, on a node that lives: something there ends it


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit to the control case that is under way: ``start``, ``middle`` or ``end``."""

    at: str


@dataclass
class Hand:
    """A hired slot.

    task: the case or the visit in hand, since when; None while it rests, or introduces itself.
    record: its entry in run.json; empty until it has introduced itself.
    unseen: cases since its last visit to the control case.
    deaths: of its process in a row, without a task done between.
    """

    slot: Slot
    record: dict[str, Any] = field(default_factory=dict)
    foresight: Foresight = field(default_factory=lambda: Foresight(None))
    task: Case | Visit | None = None
    since: Seconds = field(default_factory=time.monotonic)
    unseen: int = 0
    deaths: int = 0

    @property
    def works(self) -> bool:
        """Whether it has introduced itself."""
        return bool(self.record)

    def was_hired_for(self, duration: Seconds) -> bool:
        """Whether it has not introduced itself, so long after it was hired."""
        return not self.works and time.monotonic() - self.since > duration

    @property
    def rests(self) -> bool:
        """Whether it could be given something."""
        return self.works and self.task is None

    @property
    def station(self) -> Station:
        """The slot, and its device's model."""
        return Station(self.slot, self.record["device_name"])

    @property
    def place(self) -> Place:
        """Where its rows are measured."""
        return Place(self.slot.host, self.record["device_name"], Ceilings.from_json(self.record["ceilings"]))

    def begin(self, task: Case | Visit) -> None:
        """It has the task in hand."""
        self.task, self.since = task, time.monotonic()

    def due(self, *, half_done: bool) -> str | None:
        """The visit to the control case that it owes before its next case."""
        visits = {each["at"] for each in self.record["control"]["visits"]}
        if not visits:
            return "start"
        return "middle" if half_done and self.unseen and not visits & {"middle", "end"} else None

    def keep(self, when: str, outcome: Outcome) -> None:
        """The visit in hand is over."""
        assert isinstance(self.task, Visit)
        visits = self.record["control"]["visits"]
        visits.append(control.visit(self.task.at, when, outcome))
        self.record["control"]["drift"] = control.drift(visits)
        self.task, self.unseen = None, 0


def kind_of(introduction: Mapping[str, Any]) -> tuple[str, int]:
    """What must be the same for one device's lack of memory or time to tell of another's."""
    return introduction["environment"]["device_name"], introduction["memory_limit"]


def predictor_of(introduction: Mapping[str, Any]) -> Predictor:
    """What foresees the cases that cannot fit on the device."""
    return Predictor(introduction["memory_limit"], introduction["environment"].get("held_bytes", 0))
