"""Which case goes to which device: in order, of the right type, all visits in one place, lost ones first. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from elattn_bench.cases import Case
from elattn_bench.cluster.slots import Slot

MOST_LOSSES = 3  # of its node, for one case: chance does not do that, the case does


@dataclass(frozen=True, slots=True)
class Station:
    """A slot that works, and the model of its device."""

    slot: Slot
    device_name: str


@dataclass(frozen=True, slots=True)
class Home:
    """Where a case was visited: later visits are made on the same host, or where that is gone on the same model."""

    host: str
    device_name: str
    slot: Slot | None = None

    def admits(self, station: Station, working: Collection[Station]) -> bool:
        """Whether a further visit may be made there."""
        here = [each for each in working if self._is_here(each)]
        return station in here if here else station.device_name == self.device_name

    def _is_here(self, station: Station) -> bool:
        if self.slot is not None:
            return station.slot == self.slot
        return (station.slot.host, station.device_name) == (self.host, self.device_name)


@dataclass
class Queue:
    """The cases that are left, each as often as it needs a visit, in the order in which they should be tried.

    homes: by case id, where cases were visited before.
    is_wanted: whether a case still needs a visit; one that failed needs no second.
    """

    pending: list[Case]
    is_wanted: Callable[[Case], bool] = lambda case: True
    homes: dict[str, Home] = field(default_factory=dict)
    losses: Counter[str] = field(default_factory=Counter)
    _in_hand: dict[Slot, Case] = field(default_factory=dict)
    _settled: set[str] = field(default_factory=set)
    _left: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._settled |= self.homes.keys()
        self._left.update(case.case_id for case in self.pending)

    def take(self, station: Station, working: Collection[Station]) -> Case | None:
        """The next case for the device, which has it in hand from now on; None where there is none.

        Args:
            working: all devices that work now, this one among them.
        """
        for index, case in enumerate(self.pending):
            if self._may(case, station, working):
                del self.pending[index]
                self._left[case.case_id] -= 1
                self._in_hand[station.slot] = case
                self.homes.setdefault(
                    case.case_id, Home(station.slot.host, station.device_name, station.slot)
                )
                return case
        return None

    def finish(self, slot: Slot) -> None:
        """The case that the device had in hand is on disk."""
        case = self._in_hand.pop(slot)
        self._settled.add(case.case_id)
        self.pending = (
            self.pending if self.is_wanted(case) else [each for each in self.pending if each != case]
        )

    def lose(self, slot: Slot) -> tuple[Case, bool]:
        """The device is gone: the case that it had in hand, and whether it goes back to the front.

        It does not where it lost its node three times.
        """
        case = self._in_hand[slot]
        self.losses[case.case_id] += 1
        if self.losses[case.case_id] >= MOST_LOSSES:
            return case, False
        del self._in_hand[slot]
        self.pending.insert(0, case)
        self._left[case.case_id] += 1
        if case.case_id not in self._settled:
            self.homes.pop(case.case_id, None)  # nothing was measured there: any device will do
        return case, True

    def fitting(self, stations: Iterable[Station]) -> bool:
        """Whether any of the devices may take a case that is left."""
        working = list(stations)
        return any(self._may(case, each, working) for case in self.pending for each in working)

    def _may(self, case: Case, station: Station, working: Collection[Station]) -> bool:
        if not station.slot.fits(case, station.device_name):
            return False
        home = self.homes.get(case.case_id)
        return home is None or home.admits(station, working)
