"""Ranks seen from the sweep: each does the same task at the same time; one that fails ends it for all. No torch."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from elattn_bench.cases import Case
from elattn_bench.ranks import verdict
from elattn_bench.ranks.nouns import MARGIN, Meeting, Member
from elattn_bench.results import Outcome, Skipped
from elattn_bench.units import Bytes, Seconds, counted

MEASURE = "elattn_bench.ranks.measure:measure"
COLLECTIVES = "elattn_bench.ranks.collectives:measure"
COLLECTIVES_TIMEOUT: Seconds = 60.0  # they take some seconds
GRACE: Seconds = 2.0  # for the others' own reasons once a rank has failed: its death shows in all of them
LOOK: Seconds = 0.2  # how soon an interruption reaches the one who waits


@dataclass(frozen=True, slots=True)
class Share:
    """What a rank gets of a machine, the same however many ranks a case has: a rank stands for a device.

    threads: of each on a CPU.
    memory: that it may hold.
    cpus: that the ranks of one host share; None where each has a GPU.
    """

    threads: int
    memory: Bytes
    cpus: int | None


class RankGroup:
    """Members that measure cases together; a world of P is the first P of them.

    Args:
        members: one for each rank of the largest world, not started yet.
        address_of: where the ranks of the task with that number meet.
        share: what each member gets.
        most: how many have a device.
    """

    def __init__(
        self,
        members: Sequence[Member],
        address_of: Callable[[int], str],
        share: Share,
        most: int | None = None,
    ) -> None:
        self.starting_s: Seconds = 0.0
        self.share = share
        self._members, self._address_of, self._most = members, address_of, most
        self._tasks = 0

    def environment(self) -> dict[str, Any]:
        """What run.json says of the ranks."""
        hosts = len({member.host for member in self._members})
        return {"threads_per_rank": self.share.threads, "rank_hosts": hosts}

    def measure(self, case: Case, timeout: Seconds) -> Outcome:
        """The outcome of a case with ranks, whatever happens to any of them.

        Raises:
            WorkerError: a member cannot be started, or has gone for good.
        """
        ranks = case.ranks or 1
        if reasons := [*case.unsupported_reasons(), *self._lacking(ranks)]:
            return Skipped("unsupported", "; ".join(reasons))
        found = self.call(MEASURE, ranks, case, timeout=timeout)
        if isinstance(found, Skipped):
            return found
        warnings = [*(sentence for each in found for sentence in each.warnings), *self._crowded(ranks)]
        outcome: Outcome = replace(found[0], warnings=tuple(dict.fromkeys(warnings)))
        return outcome

    def collectives(self, ranks: int) -> list[dict[str, Any]] | Skipped:
        """How long collectives take among so many ranks: entries of run.json."""
        found = self.call(COLLECTIVES, ranks, timeout=COLLECTIVES_TIMEOUT)
        return found if isinstance(found, Skipped) else list(found[0])

    def call(self, target: str, ranks: int, *arguments: Any, timeout: Seconds) -> list[Any] | Skipped:
        """What the ranks return from the same call at the same time, or why one of them does not."""
        self._start(ranks)
        self._tasks += 1
        address = self._address_of(self._tasks)

        def do(rank: int, member: Member) -> Any:
            meeting = Meeting(rank, ranks, address, timeout + MARGIN)
            return member.call(target, *arguments, meeting, timeout=timeout)

        results = _Together(self._members[:ranks], do).results()
        failure = verdict.failure(results, ranks)
        return failure or [results[rank] for rank in range(ranks)]

    def _start(self, ranks: int) -> None:
        # All at once, and before the call: the first would wait for the last, and its time be counted.
        start = time.monotonic()
        _Together(self._members[:ranks], lambda rank, member: member.environment()).results()
        self.starting_s += time.monotonic() - start

    def has(self, ranks: int) -> bool:
        """Whether there is a device for each of so many."""
        return self._most is None or ranks <= self._most

    def _lacking(self, ranks: int) -> list[str]:
        if self.has(ranks):
            return []
        return [f"{ranks} ranks need a GPU each, and {self._most} are here"]

    def _crowded(self, ranks: int) -> list[str]:
        """What a reader must know of ranks that have no CPU of their own."""
        hosts = [member.host for member in self._members[:ranks]]
        together, cpus, threads = max(map(hosts.count, hosts)), self.share.cpus, self.share.threads
        if cpus is None or together * threads <= cpus:
            return []
        each = f" of {threads} threads" if threads > 1 else ""
        return [
            f"ranks: {together} ranks{each} share {counted(cpus, 'CPU')}, so they wait for each other as devices "
            "would not"
        ]

    def __enter__(self) -> RankGroup:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            for member in self._members:
                member.end()
        for member in self._members:
            member.close()


class _Together:
    """Members at the same thing at the same time, each in a thread that waits for it."""

    def __init__(self, members: Sequence[Member], do: Callable[[int, Member], Any]) -> None:
        self._members, self._do = members, do
        self._done: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._wait_for, args=item, daemon=True) for item in enumerate(members)
        ]

    def results(self) -> dict[int, Any]:
        """By rank, in the order in which they came. Once one has failed, the others soon have to be there too, or are
        ended; all get a fresh process then.

        Raises:
            BaseException: what the first that raised did.
        """
        results: dict[int, Any] = {}
        try:
            for thread in self._threads:
                thread.start()
            self._gather(results)
        except BaseException:
            self._end()
            raise
        if len(results) < len(self._members) or _is_split(list(results.values())):
            self._end()
        return results

    def _gather(self, results: dict[int, Any]) -> None:
        deadline = float("inf")
        while len(results) < len(self._members) and time.monotonic() < deadline:
            try:
                rank, result, error = self._done.get(timeout=LOOK)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            results[rank] = result
            if isinstance(result, Skipped):
                deadline = min(deadline, time.monotonic() + GRACE)

    def _end(self) -> None:
        for member in self._members:
            member.end()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        for member in self._members:
            member.renew()

    def _wait_for(self, rank: int, member: Member) -> None:
        try:
            self._done.put((rank, self._do(rank, member), None))
        except BaseException as error:  # raised in the thread that waits
            self._done.put((rank, None, error))


def _is_split(results: Sequence[Any]) -> bool:
    """Whether some failed otherwise than the rest: a group that is left in the middle cannot be trusted again."""
    skipped = [each for each in results if isinstance(each, Skipped)]
    return bool(skipped) and (len(skipped) < len(results) or any(each != skipped[0] for each in skipped))
