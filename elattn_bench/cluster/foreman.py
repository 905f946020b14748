"""The loop of a sweep over a cluster: gives every device that rests the next case, and keeps what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from elattn_bench import __version__, conditions, control
from elattn_bench.cases import Case
from elattn_bench.cluster import records
from elattn_bench.cluster.crew import Crew, Lost, Refused, Report
from elattn_bench.cluster.hand import MOST_DEATHS, Hand, Visit
from elattn_bench.cluster.progress import ClusterProgress
from elattn_bench.cluster.queue import Queue, Station
from elattn_bench.cluster.slots import Slot
from elattn_bench.cluster.work import Work
from elattn_bench.errors import RunDirError
from elattn_bench.rundir import RunDir
from elattn_bench.units import Seconds, format_duration
from elattn_bench.worker import START_TIMEOUT

LOOK: Seconds = 1.0  # at the cluster: who came and who left
PATIENCE: Seconds = 60.0  # without a node that could take a case; a node that restarts is back by then
STARTED: Seconds = 10.0  # by then a node's process runs, of which Ray needs a few, if its device is free
TO_START: Seconds = 3 * START_TIMEOUT  # for a node to introduce itself: Ray's process, torch, ceilings


@dataclass
class Foreman:
    """Whoever leads a sweep over a cluster.

    Args:
        warn: says a warning.
        advice: what to type to resume the sweep.
        timeout: of a case.
        now: the time, as run.json has it.
        patience: how long to wait for a node that can take a case.
        allowed: what speaks against a machine, of its environment; empty where nothing does.
    """

    crew: Crew
    warn: Callable[[str], None]
    advice: str
    timeout: Seconds
    now: Callable[[], str]
    patience: Seconds = PATIENCE
    allowed: Callable[[Mapping[str, Any]], Sequence[str]] = lambda here: ()
    hands: dict[Slot, Hand] = field(default_factory=dict)
    _unusable: set[Slot] = field(default_factory=set)
    _met: dict[Slot, Mapping[str, Any]] = field(default_factory=dict)
    _first: dict[str, tuple[Slot, Mapping[str, Any]]] = field(default_factory=dict)
    _waits: set[Slot] = field(default_factory=set)
    _looked: Seconds = float("-inf")
    _idle_since: Seconds | None = None

    def meet(self) -> Mapping[str, Any]:
        """What the first machine that may measure said of itself.

        Raises:
            RunDirError: there is none for a while, or none of those there are can be used.
        """
        while not self._met:
            self._look()
            for report in self.crew.wait(LOOK):
                self._hear(report)
            if self._unusable and not self.hands:
                raise RunDirError(
                    f"none of the cluster's {len(self._unusable)} devices can be used (the warnings above say why); "
                    f"mend them, then type: {self.advice}"
                )
            self._be_patient(bool(self._met) or any(map(_is_starting, self.hands.values())))
        return next(iter(self._met.values()))

    def lead(
        self, queue: Queue, run_dir: RunDir, progress: ClusterProgress, estimate: Callable[[Case], Seconds]
    ) -> None:
        """Have all cases of the queue measured into the run directory.

        Raises:
            RunDirError: no node can take a case for a while; the message says how to go on.
        """
        half = sum(map(estimate, queue.pending)) / 2
        session = records.begin_session(run_dir.info, (row.host for row in run_dir.done.values()))
        work = Work(queue, run_dir, progress, estimate, half, session)
        for slot in self._met:
            self._enlist(work, self.hands[slot])
        while self._assign(work):
            for report in self.crew.wait(LOOK):
                self._keep(work, report)
            self._look(work)
            self._be_patient(self._goes_on(work))

    def _look(self, work: Work | None = None) -> None:
        """Hire who came; forget who left, their case goes back; end who does not answer."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        here = self.crew.slots()
        for slot in [slot for slot in self.hands if slot not in here]:
            self._lose(work, slot, "its node has left the cluster")
        for slot in here:
            if slot not in self.hands and slot not in self._unusable:
                self.hands[slot] = Hand(slot)
                self.crew.hire(slot)
        for hand in [
            hand for hand in self.hands.values() if hand.works and hand.task and self._is_overdue(hand)
        ]:
            self._lose(work, hand.slot, "it does not answer")
        self._tell_of_busy_devices()

    def _tell_of_busy_devices(self) -> None:
        """Say once of each device that it is not ours yet: Ray waits for it without a word."""
        starting = [hand.slot for hand in self.hands.values() if hand.was_hired_for(STARTED)]
        busy = [slot for slot in starting if slot not in self._waits and not self.crew.has_device(slot)]
        self._waits.update(busy)
        if busy:
            names = ", ".join(slot.name for slot in busy)
            self.warn(
                f"waiting for {names}: most likely another job holds the device (ray status); it is used once that ends"
            )

    def _is_overdue(self, hand: Hand) -> bool:
        # The node's own time-out comes first, and a fresh worker may have to start before and after.
        return time.monotonic() - hand.since > self.timeout + 2 * START_TIMEOUT

    def _hear(self, report: Report, work: Work | None = None) -> None:
        """An introduction, or what came instead of one."""
        hand = self.hands[report.slot]
        if isinstance(report.result, Lost):
            self._lose(work, report.slot, report.result.reason)
            return
        if reasons := self._objections(report.slot, report.result):
            self._dismiss(report.slot, "; ".join(reasons))
            return
        self._met[report.slot] = report.result
        hand.record = records.record_of(report.slot, report.result)
        if work is not None:
            self._enlist(work, hand)

    def _objections(self, slot: Slot, said: Any) -> Sequence[str]:
        if isinstance(said, Refused):
            return [said.reason]
        if said["elattn_bench"] != __version__:
            return [
                f"elattn-bench {said['elattn_bench']} is installed there, {__version__} here; install one version"
            ]
        here = said["environment"]
        return self.allowed(here) or self._unlike_the_first(slot, here)

    def _unlike_the_first(self, slot: Slot, here: Mapping[str, Any]) -> Sequence[str]:
        """Rows of one model of device lie on one line, wherever they were measured: the set-up must be the same."""
        first, there = self._first.setdefault(here["device_name"], (slot, here))
        reason = records.unlike(there, here, (f"on {first.name}", f"on {slot.name}"))
        return [reason] if reason else []

    def _dismiss(self, slot: Slot, reason: str) -> None:
        self.crew.dismiss(slot)
        del self.hands[slot]
        self._unusable.add(slot)
        self.warn(f"{slot.name} is not used: {reason}")

    def _enlist(self, work: Work, hand: Hand) -> None:
        """The device works from now on: an entry in run.json, and what is known of its kind."""
        introduction = self._met[hand.slot]
        work.enlist(hand, introduction)
        for warning in conditions.warnings(introduction["environment"]):
            self.warn(f"{hand.slot.name}: {warning}")
        niceness = introduction["environment"].get("niceness") or 0
        if niceness > 0:
            self.warn(
                f"{hand.slot.name}: Ray runs its processes there with niceness {niceness}, so that other programs go "
                "first; start that node with RAY_worker_niceness=0 ray start ..."
            )

    def _assign(self, work: Work) -> bool:
        """Give every resting device something to do; whether anything is left to wait for."""
        working = [hand.station for hand in self.hands.values() if hand.works]
        for hand in self.hands.values():
            while hand.rests and self._give(work, hand, working):
                pass
        busy = any(hand.task for hand in self.hands.values())
        return busy or bool(work.queue.pending)

    def _give(self, work: Work, hand: Hand, working: Sequence[Station]) -> bool:
        """Whether the device got something; a case that is foreseen to fail is over at once."""
        at = hand.due(half_done=work.half_done)
        if at == "start" and not work.queue.fitting([hand.station]):
            return False
        case = None if at else work.queue.take(hand.station, working)
        if case is None and at is None and hand.unseen:
            at = "end"
        if at:
            hand.begin(Visit(at))
            work.progress.does(hand.slot.name, "control case")
            self.crew.send(hand.slot, "measure", control.CASES[hand.slot.device])
        elif case is not None:
            self._start(work, hand, case)
        else:
            work.progress.does(hand.slot.name, None)
        return bool(at or case)

    def _start(self, work: Work, hand: Hand, case: Case) -> None:
        hand.begin(case)
        known = None if case.case_id in work.run_dir.done else hand.foresight.verdict(case)
        if known is not None:
            work.append(hand, known)
            return
        work.progress.began(hand.slot.name, case)
        self.crew.send(hand.slot, "measure", case)

    def _keep(self, work: Work, report: Report) -> None:
        """What came back: an introduction, a visit to the control case, or a case's outcome."""
        hand = self.hands.get(report.slot)
        if hand is None:
            return
        if hand.task is None:
            self._hear(report, work)
        elif isinstance(report.result, (Lost, Refused)):
            self._lose(work, report.slot, report.result.reason)
        elif isinstance(hand.task, Visit):
            hand.keep(self.now(), report.result)
            hand.deaths = 0
            work.run_dir.write_info()
        else:
            hand.deaths = 0
            work.append(hand, report.result)

    def _lose(self, work: Work | None, slot: Slot, reason: str) -> None:
        """The slot's process is gone: its case goes back, and a node that lives gets a new process."""
        hand = self.hands.pop(slot)
        self.crew.dismiss(slot)
        self._met.pop(slot, None)
        if work is not None:
            work.progress.does(slot.name, None)
            if isinstance(hand.task, Case):
                work.lose(hand, reason, self.warn)
        if slot not in self.crew.slots():
            return
        if hand.deaths + 1 >= MOST_DEATHS:
            self._unusable.add(slot)
            self.warn(
                f"{slot.name} is not used any more: its process died {MOST_DEATHS} times in a row: {reason}"
            )
            return
        self.hands[slot] = Hand(slot, deaths=hand.deaths + 1)
        self.crew.hire(slot)

    def _goes_on(self, work: Work) -> bool:
        """Whether anything will come of waiting: a task under way, or a device that can take what is left."""
        if not work.queue.pending or any(hand.task for hand in self.hands.values()):
            return True
        starting = any(map(_is_starting, self.hands.values()))
        return starting or work.queue.fitting([hand.station for hand in self.hands.values() if hand.works])

    def _be_patient(self, goes_on: bool) -> None:
        if goes_on:
            self._idle_since = None
            return
        if self._idle_since is None:
            self._idle_since = time.monotonic()
            self.warn(f"no node can take a case; waiting up to {format_duration(self.patience)} for one")
        elif time.monotonic() - self._idle_since > self.patience:
            raise RunDirError(
                f"no node could take a case for {format_duration(self.patience)}; what is measured is on disk: mend "
                f"the cluster (ray status), then go on with: {self.advice}"
            )


def _is_starting(hand: Hand) -> bool:
    return not hand.works and time.monotonic() - hand.since < TO_START
