"""The paired comparison on a simulated machine: what it reports of no difference, and of a real one."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple

import pytest

from elattn_bench import signed_rank
from elattn_bench.analysis import Ratio
from elattn_bench.pairs import ROUNDS, PairBudget, Paired, Turn, precision_of, sample_pairs
from elattn_bench.stats import BUDGETS, Budget
from elattn_bench.verdicts.runs import DEFAULT_THRESHOLD, judge

BUDGET = Budget(min_samples=10, min_time=0.2, max_time=1.0, precision=0.02, warm_up_time=0.3)
PAIR_BUDGET = PairBudget(BUDGET, precision=0.02, time_limit=60.0)
TRIALS = 500  # under each trouble


class Made(NamedTuple):
    """What a simulated call returns: whose it is, and how long it takes."""

    name: str
    seconds: float


@dataclass
class Machine:
    """A clock, and the troubles of a real machine, in the logarithm of a block's time.

    noise: standard deviation, per block.
    drift: standard deviation of a slow change, of which nine tenths last until the next block.
    outliers: share of blocks that take up to three times as long.
    second: what the second block of a pair takes more.
    place: standard deviation of where a round's tensors lie, per call.
    """

    seed: int = 0
    noise: float = 0.0
    drift: float = 0.0
    outliers: float = 0.0
    second: float = 0.0
    place: float = 0.0
    min_block: float = 1e-3
    time_now: float = 0.0
    builds: list[str] = field(default_factory=list)
    block_sizes: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    readings: int = 0
    random: Random = field(init=False)
    _level: float = 0.0
    _blocks: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    def maker(self, name: str, seconds: float) -> Callable[[], Callable[[], object]]:
        """What makes a call of this length; where its tensors lie is drawn when it is made."""

        def make() -> Callable[[], object]:
            self.builds.append(name)
            self._blocks = 0
            here = seconds * math.exp(self.place * self.random.gauss(0, 1))
            return lambda: Made(name, here)

        return make

    def now(self) -> float:
        return self.time_now

    def time(self, call: Callable[[], object], calls: int) -> float:
        made = call()
        assert isinstance(made, Made)
        self.block_sizes[made.name].append(calls)
        self.readings += 1
        self._level = 0.9 * self._level + self.drift * math.sqrt(1 - 0.81) * self.random.gauss(0, 1)
        self._blocks += 1
        extra = self.second * (self._blocks % 2 == 0)
        trouble = self._level + extra + self.noise * self.random.gauss(0, 1)
        if self.random.random() < self.outliers:
            trouble += math.log(self.random.uniform(1, 3))
        took = made.seconds * calls * math.exp(trouble)
        self.time_now += took
        return took


TROUBLES = {
    "noise": Machine(noise=0.03),
    "drift": Machine(noise=0.01, drift=0.10),
    "outliers": Machine(noise=0.02, outliers=0.05),
    "order": Machine(noise=0.01, second=0.02),
    "place": Machine(noise=0.01, place=0.02),
    "all": Machine(noise=0.03, drift=0.05, outliers=0.03, second=0.02, place=0.02),
}


def compared(machine: Machine, b_over_a: float = 1.0, budget: PairBudget = PAIR_BUDGET) -> Paired:
    makes = (machine.maker("A", 2e-3), machine.maker("B", 2e-3 * b_over_a))
    return sample_pairs(makes, machine, budget, Random(machine.seed))


def ratio(found: Paired) -> Ratio:
    log = found.log_ratio
    return Ratio(math.exp(log.centre), math.exp(log.low), math.exp(log.high))


def verdict(found: Paired, threshold: float = DEFAULT_THRESHOLD) -> str:
    return judge(ratio(found), threshold)


def again(machine: Machine, seed: int) -> Machine:
    return replace(machine, seed=seed, builds=[])


@pytest.fixture(scope="module")
def a_against_a() -> dict[str, list[Paired]]:
    """Many comparisons of a call with itself, under each trouble."""
    return {
        name: [compared(again(machine, seed)) for seed in range(TRIALS)] for name, machine in TROUBLES.items()
    }


def excluding_one(found: Iterable[Paired]) -> int:
    """In how many the interval excludes that both are equally fast."""
    return sum(verdict(each, threshold=0.0) in ("faster", "slower") for each in found)


def test_a_against_a_seems_different_in_at_most_five_percent_of_trials(
    a_against_a: dict[str, list[Paired]],
) -> None:
    trials = [each for found in a_against_a.values() for each in found]
    assert excluding_one(trials) <= 0.05 * len(trials)


@pytest.mark.parametrize("trouble", list(TROUBLES))
def test_no_trouble_of_a_machine_raises_the_rate_beyond_five_percent(
    trouble: str, a_against_a: dict[str, list[Paired]]
) -> None:
    # What a rate of 5 % gives in all but one of a thousand repetitions of this test.
    luck = 3.1 * math.sqrt(0.05 * 0.95 / TRIALS)
    assert excluding_one(a_against_a[trouble]) <= (0.05 + luck) * TRIALS


def test_a_against_a_is_never_called_faster_or_slower_at_the_usual_threshold(
    a_against_a: dict[str, list[Paired]],
) -> None:
    found = Counter(verdict(each) for trials in a_against_a.values() for each in trials)
    assert set(found) <= {"same", "unclear"}
    assert found["same"] >= 0.95 * found.total()


@pytest.mark.parametrize(("b_over_a", "expected"), [(1.1, "slower"), (1 / 1.1, "faster")])
@pytest.mark.parametrize("trouble", list(TROUBLES))
def test_a_difference_of_ten_percent_is_found(trouble: str, b_over_a: float, expected: str) -> None:
    found = Counter(verdict(compared(again(TROUBLES[trouble], seed), b_over_a)) for seed in range(100))
    assert found[expected] >= 95


def test_the_interval_holds_the_true_ratio_in_ninety_five_of_a_hundred_trials() -> None:
    found = [ratio(compared(again(TROUBLES["all"], seed), 1.5)) for seed in range(TRIALS)]
    assert sum(each.low <= 1.5 <= each.high for each in found) >= 0.93 * TRIALS


def test_always_a_before_b_would_find_a_difference_that_is_none() -> None:
    machine = replace(TROUBLES["order"], builds=[])
    a, b = machine.maker("A", 2e-3)(), machine.maker("B", 2e-3)()
    one_order = [math.log(1 / machine.time(a, 1) * machine.time(b, 1)) for _ in range(100)]
    assert signed_rank.interval(one_order).low > 0.01
    ours = compared(again(machine, 0)).log_ratio
    assert ours.low < 0 < ours.high
    assert ours.half_width < 0.01


def test_a_turn_takes_both_orders_so_that_going_second_cancels() -> None:
    found = compared(Machine(second=0.2))
    assert all(turn.log_ratio == pytest.approx(0) for turns in found.rounds for turn in turns)


def test_which_is_timed_and_built_first_is_drawn_and_repeatable() -> None:
    machine, twin, other = Machine(seed=1), Machine(seed=1), Machine(seed=2)
    for each in (machine, twin, other):
        compared(each)
    first_built = machine.builds[2::2]  # the first two are for warming up
    assert {"A", "B"} == set(first_built)
    assert machine.builds == twin.builds
    assert machine.builds != other.builds


def test_every_round_makes_both_calls_anew() -> None:
    machine = Machine()
    found = compared(machine)
    assert len(found.rounds) == ROUNDS
    assert Counter(machine.builds) == {"A": ROUNDS + 1, "B": ROUNDS + 1}


def test_what_decides_to_stop_does_not_see_who_is_faster() -> None:
    rounds = [(Turn((1.0, 1.0), (1.1 + n / 100, 1.0)),) for n in range(8)]
    swapped = [(Turn(turn.b, turn.a) if n % 3 else turn,) for n, (turn,) in enumerate(rounds)]
    assert precision_of(swapped) == pytest.approx(precision_of(rounds))


def test_noise_prolongs_the_comparison_and_time_ends_it() -> None:
    quiet, noisy = compared(Machine(noise=0.01)), compared(Machine(noise=0.2, place=0.05))
    assert quiet.stopped_by == "precision"
    assert len(noisy.a_ms) > len(quiet.a_ms)
    wild = compared(Machine(noise=2.0))
    assert wild.stopped_by == "time"


@pytest.mark.parametrize("name", list(BUDGETS))
def test_every_budget_tells_a_quiet_difference(name: str) -> None:
    found = compared(Machine(noise=0.01), 1.1, PairBudget(BUDGETS[name], 0.02, 60.0))
    assert verdict(found) == "slower"


def slow(seconds: float, time_limit: float) -> Paired:
    machine = Machine(noise=0.01)
    makes = (machine.maker("A", seconds), machine.maker("B", seconds))
    budget = PairBudget(BUDGETS["default"], 0.02, time_limit)
    return sample_pairs(makes, machine, budget, Random(0), (seconds, seconds))


def test_slow_calls_get_the_six_rounds_that_an_interval_needs() -> None:
    found = slow(1.0, time_limit=100.0)
    assert len(found.rounds) >= signed_rank.FEWEST_VALUES
    assert verdict(found) == "same"


def test_what_the_time_limit_allows_is_kept_and_called_unclear() -> None:
    found = slow(3.0, time_limit=54.0)
    assert 1 <= len(found.rounds) < signed_rank.FEWEST_VALUES
    assert found.stopped_by == "time"
    assert verdict(found) == "unclear"
    assert ratio(found).value == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("min_block", "primed"), [(1e-3, True), (0.0, False)])
def test_an_untimed_call_restores_hot_caches_before_each_block_and_leaves_cold_ones_alone(
    min_block: float, primed: bool
) -> None:
    machine = Machine(min_block=min_block)
    calls = 0

    def make() -> Callable[[], object]:
        inner = machine.maker("A", 2e-3)()

        def call() -> object:
            nonlocal calls
            calls += 1
            return inner()

        return call

    found = sample_pairs((make, make), machine, PAIR_BUDGET, Random(0))
    # The machine calls once for each of its readings, whatever the number of calls in a block.
    assert calls - machine.readings == (len(found.a_ms) + len(found.b_ms) if primed else 0)


def test_calls_of_a_like_length_get_blocks_of_the_same_number_of_calls() -> None:
    machine = Machine()
    makes = (machine.maker("A", 1.1e-4), machine.maker("B", 0.9e-4))
    sample_pairs(makes, machine, PAIR_BUDGET, Random(0))
    sizes = machine.block_sizes
    assert sizes["A"][-1] == sizes["B"][-1]


@pytest.mark.parametrize("count", [*range(6, 20), 60, 61, 100])
def test_the_signed_rank_interval_misses_a_centre_at_most_one_time_in_twenty(count: int) -> None:
    outside = signed_rank._outside(count)
    assert outside is not None
    probabilities = signed_rank._rank_sum_probabilities(count)
    missed = 2 * float(probabilities[: outside + 1].sum())
    assert missed <= 0.05
    assert 2 * float(probabilities[: outside + 2].sum()) > 0.0499  # and none narrower would do


def test_the_signed_rank_interval_of_six_values_is_their_range_and_of_fewer_there_is_none() -> None:
    values = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    found = signed_rank.interval(values)
    assert (found.low, found.high) == (1.0, 32.0)
    assert 8 < found.centre < 10
    assert math.isinf(signed_rank.interval(values[:5]).high)
    with pytest.raises(ValueError, match="no values"):
        signed_rank.interval([])
