"""Two calls, A and B, timed in turns so that nothing but their own time tells them apart. No torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeAlias

from elattn_bench import signed_rank
from elattn_bench.sampling import CHECK_GROWTH, Call, Stopwatch, warm_up
from elattn_bench.signed_rank import Interval
from elattn_bench.stats import Budget
from elattn_bench.timers import Clock
from elattn_bench.units import Milliseconds, Seconds

ROUNDS = 8  # before an interval counts as narrow: of fewer it would span nearly their whole range
ALIKE = 2  # blocks whose numbers of calls differ by no more get the same number
TURNS = 3  # in a round at least, where time allows: their median forgives one disturbance
PRIMED: Seconds = 0.1  # a call as long as this overwrites what the other left in the caches many times

FOLDED_SPREAD = math.sqrt(1 - 2 / math.pi)  # standard deviation of |x| over that of x, normal about 0

A, B = 0, 1
ORDERS = ((A, B, B, A), (B, A, A, B))

Make: TypeAlias = Callable[[], Call]


@dataclass(frozen=True, slots=True)
class Turn:
    """Two pairs in opposite order, A B and B A: what going second costs, and a steady drift, cancel.

    a, b: per call, one value per timed block, in the order taken.
    """

    a: tuple[Milliseconds, ...]
    b: tuple[Milliseconds, ...]

    @property
    def log_ratio(self) -> float:
        """Logarithm of B's latency over A's: the mean over the turn's pairs."""
        return statistics.fmean(map(math.log, self.b)) - statistics.fmean(map(math.log, self.a))


@dataclass(frozen=True, slots=True)
class Paired:
    """What timing two calls in turns gave.

    rounds: the turns of each round. Within one, tensors stay where they lie in memory.
    stopped_by: ``precision`` or ``time``.
    timed_s: time inside warm-up and timed calls.
    others_share: of the CPU that other processes used meanwhile.
    throttled: what slowed the device down, in a sentence, or None.
    """

    rounds: tuple[tuple[Turn, ...], ...]
    stopped_by: str
    timed_s: Seconds
    others_share: float = 0.0
    throttled: str | None = None

    @property
    def a_ms(self) -> list[Milliseconds]:
        """Latencies of A, one per pair."""
        return [value for turns in self.rounds for turn in turns for value in turn.a]

    @property
    def b_ms(self) -> list[Milliseconds]:
        """Latencies of B, one per pair."""
        return [value for turns in self.rounds for turn in turns for value in turn.b]

    @property
    def log_ratio(self) -> Interval:
        """Logarithm of B's latency over A's, with its 95 % interval."""
        return log_ratio(self.rounds)


def log_ratio(rounds: Sequence[Sequence[Turn]]) -> Interval:
    """Logarithm of B's latency over A's, with its 95 % interval.

    A round counts as one value, the median of its turns: they share the place of their tensors in memory.
    Orders are drawn, so if A and B are equally fast each round's value is as likely to be its negative,
    whatever the noise, its drift and its outliers are: the condition under which the interval is exact.
    """
    return signed_rank.interval(_values(rounds))


def precision_of(rounds: Sequence[Sequence[Turn]]) -> float:
    """About half the width of the interval of the logarithm, blind to which of the two is faster.

    Looks at magnitudes alone. If A and B are equally fast, signs are coins that fall after stopping is
    decided, so that looking often makes no difference out of noise. If one is clearly faster, it
    overestimates, and more is measured than needed.
    """
    return signed_rank.interval([abs(value) for value in _values(rounds)]).half_width / FOLDED_SPREAD


def _values(rounds: Sequence[Sequence[Turn]]) -> list[float]:
    return [statistics.median(turn.log_ratio for turn in turns) for turns in rounds]


@dataclass(frozen=True, slots=True)
class PairBudget:
    """How long to compare two calls.

    Rounds go on until there are eight and the interval of the ratio is within ``precision``, or
    ``max_time`` has passed, with six at least; never longer than ``time_limit``.

    precision: a share: half the width of the interval of the logarithm.
    time_limit: for everything, warm-up included.
    """

    each: Budget
    precision: float
    time_limit: Seconds

    @property
    def max_time(self) -> Seconds:
        """Time after which rounds end: two calls get that of all visits to two cases."""
        return 2 * self.each.visits * self.each.max_time

    def ends_round(self, turns: int, elapsed: Seconds) -> bool:
        """Whether a round has all that it needs, or its share of the time is over."""
        enough = turns >= max(TURNS, math.ceil(self.each.min_samples / ROUNDS))
        return elapsed >= (2 * self.each.min_time if enough else self.max_time) / ROUNDS

    def is_over(self, rounds: int, sampled: Seconds, elapsed: Seconds) -> bool:
        """Whether the time is over, or would be after one more round."""
        if elapsed + sampled / rounds > self.time_limit:
            return True
        return sampled >= self.max_time and rounds >= signed_rank.FEWEST_VALUES


@dataclass(frozen=True, slots=True)
class _Block:
    """How a call is timed: so many at once, after an untimed one or not."""

    calls: int
    primed: bool


def sample_pairs(
    makes: tuple[Make, Make],
    clock: Clock,
    budget: PairBudget,
    random: Random,
    first_calls: tuple[Seconds, Seconds] = (0.0, 0.0),
) -> Paired:
    """Time what the two ``makes`` return, A and B, in turns, until the budget is met.

    Every round makes both calls anew in random order, so that their tensors lie elsewhere in memory; every
    turn draws who begins. An untimed call precedes every block of short calls with hot caches: it finds there
    what its own kind left, as in a sweep, not what the other did.

    Args:
        makes: make the calls of A and of B.
        clock: times them.
        budget: when to stop.
        random: decides the orders.
        first_calls: how long the first call of each took; too slow ones are not warmed up.

    Raises:
        ClockError: the clock does not move forwards.
    """
    watch = Stopwatch(clock)
    watch.elapsed()
    blocks = _plan_blocks(makes, watch, budget.each, first_calls)
    start, next_check = watch.elapsed(), ROUNDS
    rounds: list[tuple[Turn, ...]] = []
    while True:
        rounds.append(_round(makes, blocks, watch, budget, random))
        elapsed = watch.elapsed()
        if len(rounds) >= next_check:
            # By precision or time, never by significance: who stops when a difference shows finds one in noise.
            if precision_of(rounds) <= budget.precision:
                return Paired(tuple(rounds), "precision", watch.timed)
            next_check = math.ceil(len(rounds) * CHECK_GROWTH)
        if budget.is_over(len(rounds), elapsed - start, elapsed):
            return Paired(tuple(rounds), "time", watch.timed)


def _plan_blocks(
    makes: Sequence[Make], watch: Stopwatch, budget: Budget, first_calls: Sequence[Seconds]
) -> list[_Block]:
    blocks = []
    for make, first_call in zip(makes, first_calls, strict=True):
        call = make()
        calls = warm_up(call, watch, budget, first_call)
        per_call = watch.time(call, calls) / calls
        blocks.append(_Block(calls, primed=watch.clock.min_block > 0 and per_call < PRIMED))
    longest = max(block.calls for block in blocks)
    if longest <= ALIKE * min(block.calls for block in blocks):  # A against A must differ in nothing
        return [replace(block, calls=longest) for block in blocks]
    return blocks


def _round(
    makes: Sequence[Make], blocks: Sequence[_Block], watch: Stopwatch, budget: PairBudget, random: Random
) -> tuple[Turn, ...]:
    calls = _make_both(makes, random)
    for call, block in zip(calls, blocks, strict=True):
        watch.clock.time(call, block.calls)  # the first use of new tensors is no sample
    start = watch.elapsed()
    turns: list[Turn] = []
    while not turns or not budget.ends_round(len(turns), watch.elapsed() - start):
        turns.append(_turn(calls, blocks, watch, random))
    return tuple(turns)


def _make_both(makes: Sequence[Make], random: Random) -> list[Call]:
    made = {side: makes[side]() for side in random.sample((A, B), 2)}
    return [made[A], made[B]]


def _turn(calls: Sequence[Call], blocks: Sequence[_Block], watch: Stopwatch, random: Random) -> Turn:
    took: tuple[list[Milliseconds], list[Milliseconds]] = ([], [])
    for side in random.choice(ORDERS):
        call, block = calls[side], blocks[side]
        if block.primed:
            call()
        took[side].append(watch.time(call, block.calls) / block.calls * 1e3)
    return Turn(tuple(took[A]), tuple(took[B]))
