"""The best of many tries: what a device reaches where something always disturbs. No torch.

As STREAM does (McCalpin 1995), the best counts: whatever else runs on the machine only makes a try slower.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from elattn_bench.roofline import Ceilings
from elattn_bench.sampling import Call, Stopwatch
from elattn_bench.timers import OVERHEAD_SHARE, Clock, overhead
from elattn_bench.units import Seconds

FEWEST_ROUNDS = 3  # of everything: a neighbour's burst spoils one round of a ceiling, not all
AGREEMENT = 1.05  # a ceiling is believed once two rounds come so close to it
ENOUGH: Seconds = 2.0  # in timed calls, if rounds never agree; on a quiet machine they do in one
FEWEST_TRIES = 5  # of each call, in a round; the first warms up
PROBE_TIME: Seconds = 0.005  # for the tries of one call, in a round


@dataclass(frozen=True)
class Tries:
    """Times calls over and over, to keep the shortest time.

    block: how long a try must last so that reading the clock does not count. Shorter than the blocks of a
        measurement: the shorter a try, the likelier it is that nothing disturbs it.
    """

    watch: Stopwatch
    block: Seconds

    @classmethod
    def with_clock(cls, clock: Clock) -> Tries:
        """Tries on the clock, as long as its overhead asks for."""
        return cls(Stopwatch(clock), overhead(clock) / OVERHEAD_SHARE)

    @property
    def spent(self) -> Seconds:
        """Time inside all tries so far."""
        return self.watch.timed

    def best(self, call: Call) -> Seconds:
        """The shortest time of a call."""
        start, best = self.spent, math.inf
        for done in itertools.count(1):
            calls = math.ceil(self.block / best) or 1
            best = min(best, self.watch.time(call, calls) / calls)
            if done >= FEWEST_TRIES and self.spent - start >= PROBE_TIME:
                break
        return best


class Job:
    """One ceiling, or a few of a kind, measured in rounds."""

    def __init__(self, one_round: Callable[[], Ceilings]) -> None:
        self._one_round = one_round
        self._rounds: list[Ceilings] = []

    @property
    def best(self) -> Ceilings:
        """The best of all rounds."""
        return functools.reduce(Ceilings.best_of, self._rounds, Ceilings.UNKNOWN)

    @property
    def settled(self) -> bool:
        """Whether every rate was all but reached twice."""
        rounds = [each.rates() for each in self._rounds]
        return len(rounds) >= FEWEST_ROUNDS and all(
            _agree(sorted((each[name] for each in rounds), reverse=True)) for name in rounds[0]
        )

    def run(self) -> None:
        """One more round."""
        self._rounds.append(self._one_round())


def _agree(rates: Sequence[float]) -> bool:
    return rates[0] <= AGREEMENT * rates[1]


def best_of_rounds(jobs: Sequence[Job], tries: Tries) -> Ceilings:
    """What all jobs found, taken in turns until they are settled or time is up."""
    pending = list(jobs)
    while pending and tries.spent < ENOUGH:
        for job in pending:
            job.run()
        pending = [job for job in pending if not job.settled]
    return functools.reduce(Ceilings.best_of, (job.best for job in jobs), Ceilings.UNKNOWN)
