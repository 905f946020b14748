"""What ranks are made of, seen from outside: a member of the group, and where its members meet. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from elattn_bench.units import Seconds

MARGIN: Seconds = 60.0  # that an exchange waits longer than the harness, which has the better reason


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where the ranks of a case find each other.

    rank, size: this one's number, and how many there are.
    address: ``file:///path`` on one machine; ``tcp://host:port/prefix`` of a store that runs already.
    timeout: of every exchange; longer than the case may take, so that the harness is first to give up.
    """

    rank: int
    size: int
    address: str
    timeout: Seconds

    @property
    def limit(self) -> Seconds:
        """How long the harness waits for the task."""
        return self.timeout - MARGIN


class Member(Protocol):
    """The process that does one rank's share, seen from the sweep. Safe to ``end`` from another thread."""

    host: str

    def environment(self) -> dict[str, Any]:
        """What it says of torch and its device; starts it."""
        ...

    def call(self, target: str, *arguments: Any, timeout: Seconds) -> Any:
        """As ``Worker.call``."""
        ...

    def end(self) -> None:
        """End what it does at this moment: the call that waits for it comes back, or raises."""
        ...

    def renew(self) -> None:
        """Once no call waits any more: the next one gets a fresh process."""
        ...

    def close(self) -> None:
        """Leave in order."""
        ...
