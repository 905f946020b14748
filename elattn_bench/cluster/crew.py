"""Between the foreman and whoever carries tasks to nodes: tasks go out, reports come back. No Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from elattn_bench.cluster.slots import Slot
from elattn_bench.units import Seconds


@dataclass(frozen=True, slots=True)
class Lost:
    """The node or its process died before it answered; why, as far as anybody knows."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The process on the node is there, but cannot do what it was asked."""

    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What came back from a slot: the task's result, ``Lost`` or ``Refused``."""

    slot: Slot
    result: Any


class Crew(Protocol):
    """Processes on the nodes, one per slot, each with its device for itself."""

    def slots(self) -> Sequence[Slot]:
        """The devices that the cluster has now."""
        ...

    def hire(self, slot: Slot) -> None:
        """Start the slot's process; what it says of itself comes back as a report."""
        ...

    def has_device(self, slot: Slot) -> bool:
        """Whether the slot's process has its device; as long as another job holds that, it waits."""
        ...

    def send(self, slot: Slot, task: str, *arguments: Any) -> None:
        """Have the slot's process do the task, a method of ``Node``."""
        ...

    def dismiss(self, slot: Slot) -> None:
        """End the slot's process at once; a task that it had in hand is not reported any more."""
        ...

    def wait(self, timeout: Seconds) -> Sequence[Report]:
        """What has come back; empty after so many seconds without."""
        ...
