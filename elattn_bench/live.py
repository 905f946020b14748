"""``compare --live``: which cases to compare, and comparing them one pair after the other in a worker."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from random import Random
from typing import TYPE_CHECKING, Any

from elattn_bench import config, environment, knob_axes, runner
from elattn_bench.analysis import Ratio
from elattn_bench.cases import Case, Impl
from elattn_bench.config import Plan
from elattn_bench.defaults import LIVE_DEFAULTS
from elattn_bench.errors import Interrupted, UsageError
from elattn_bench.knob_axes import Request
from elattn_bench.neighbours import DISTURBED
from elattn_bench.pairs import Paired
from elattn_bench.results import Skipped
from elattn_bench.sweep import Exhausted, in_order
from elattn_bench.units import Seconds
from elattn_bench.verdicts import runs
from elattn_bench.verdicts.runs import Verdict
from elattn_bench.worker import Worker

if TYPE_CHECKING:
    from elattn_bench.live_progress import LiveProgress

TIME_FOR_PAIRS = 0.9  # of the time-out: stop then and keep what is measured, rather than be killed
FAILURES = ("slower", "error")
OF_AN_IMPL = (
    "attention",
    "backend",
    "order",
    "hyperparameters",
)  # in these may A and B differ, in nothing else


@dataclass(frozen=True, slots=True)
class Pair:
    """Two cases to compare, alike in all but the impl."""

    a: Case
    b: Case

    @property
    def shown(self) -> Case:
        """The case to name the pair by: B, or A where only that one has an order or knobs."""
        return self.a if self.b.label == self.b.impl and self.a.label != self.a.impl else self.b


@dataclass(frozen=True, slots=True)
class PairResult:
    """What came of a pair.

    failed: whose failing it is, ``A``, ``B`` or ``A and B``; empty where there is none.
    """

    pair: Pair
    outcome: Paired | Skipped
    failed: str = ""

    @property
    def ratio(self) -> Ratio | None:
        """Latency of B over that of A, with its interval; None where not measured."""
        if isinstance(self.outcome, Skipped):
            return None
        log = self.outcome.log_ratio
        return Ratio(math.exp(log.centre), math.exp(log.low), math.exp(log.high))

    def verdict(self, threshold: float) -> Verdict:
        """What the interval of the ratio allows to say about B; ``unclear`` where others disturbed it."""
        if isinstance(self.outcome, Paired) and self.outcome.others_share > DISTURBED:
            # A busy neighbour does not slow both alike: whoever meets more barriers waits for it more often.
            return "unclear"
        return runs.judge(self.ratio, threshold)


@dataclass
class LiveComparison:
    """A comparison that is under way: what was asked for, and what is found so far."""

    impl_a: str
    impl_b: str
    threshold: float
    plan: Plan
    pairs: Sequence[Pair]
    environment: dict[str, Any] = field(default_factory=dict)
    results: list[PairResult] = field(default_factory=list)


def plan(impl_a: str, impl_b: str, flags: Mapping[str, str], threshold: float) -> LiveComparison:
    """What the two impls and the axes ask for, ready to run.

    Raises:
        UsageError: an option breaks its rule, or the impls are not one each.
    """
    for impl in (impl_a, impl_b):
        if "," in impl or impl.strip() == config.ALL:
            raise UsageError(
                f"compare --live {impl}: compares one impl with one other; name one in each place"
            )
    settings = config.merge(LIVE_DEFAULTS, flags)
    made = config.make_plan({**settings, "impl": f"{impl_a},{impl_b}"})
    requests = knob_axes.parse(settings[knob_axes.OPTION])
    a_cases, b_cases = (_cases_of(impl, settings, requests) for impl in (impl_a, impl_b))
    apart = {each.knob for each in requests if each.attention}
    pairs = in_random_order(match(a_cases, b_cases, apart), made.seed)
    return LiveComparison(impl_a, impl_b, threshold, made, pairs)


def _cases_of(impl: str, settings: Mapping[str, str], requests: Sequence[Request]) -> Sequence[Case]:
    parsed = Impl.parse(impl)
    order = settings["order"] if parsed.has_order else ""
    hp = knob_axes.text_for(requests, parsed.attention)
    return config.make_plan({**settings, "impl": impl, "order": order, knob_axes.OPTION: hp}).cases


def match(a_cases: Iterable[Case], b_cases: Iterable[Case], apart: Collection[str] = ()) -> list[Pair]:
    """One pair for each two cases alike in all but the impl; what both have of order and knobs is equal.

    Args:
        apart: knobs that were asked for of one attention: two attentions may differ in them.
    """
    alike: dict[tuple[object, ...], list[Case]] = {}
    for case in a_cases:
        alike.setdefault(_shared(case), []).append(case)
    return [Pair(a, b) for b in b_cases for a in alike.get(_shared(b), ()) if _agree(a, b, apart)]


def _agree(a: Case, b: Case, apart: Collection[str]) -> bool:
    """Whether order and knobs are equal, as far as both have them."""
    of_a, of_b = a.problem.hyperparameters, b.problem.hyperparameters
    free = apart if a.attention != b.attention else ()
    return all(of_a[name] == of_b[name] for name in of_a if name in of_b and name not in free)


def _shared(case: Case) -> tuple[object, ...]:
    return tuple(getattr(case, each.name) for each in fields(Case) if each.name not in OF_AN_IMPL)


def in_random_order(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """The pairs in seeded random order within increasing cost, as a sweep visits its cases."""
    shuffled = list(pairs)
    Random(seed).shuffle(shuffled)
    cases = dict.fromkeys(case for pair in pairs for case in (pair.a, pair.b))
    rank = {case: index for index, case in enumerate(in_order(list(cases), seed))}
    return sorted(shuffled, key=lambda pair: max(rank[pair.a], rank[pair.b]))


def run(comparison: LiveComparison, progress: LiveProgress) -> None:
    """Compare every pair; results are in ``comparison`` as they come.

    Raises:
        WorkerError: a worker cannot be started.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    plan = comparison.plan
    try:
        with runner.interruptible(), runner.worker_for(plan) as worker:
            comparison.environment |= environment.of_run(plan.device, worker.environment())
            with progress:
                compare_pairs(comparison, worker, progress)
    except Interrupted:
        done, total = len(comparison.results), len(comparison.pairs)
        raise Interrupted(f"{done} of {total} comparisons were finished") from None


def compare_pairs(comparison: LiveComparison, worker: Worker, progress: LiveProgress) -> None:
    """Compare every pair in the worker."""
    trials = Trials(worker, comparison.plan.timeout)
    for pair in comparison.pairs:
        progress.started(pair)
        comparison.results.append(_compare(pair, comparison, worker, trials))
        progress.finished(comparison.results[-1])


def _compare(pair: Pair, comparison: LiveComparison, worker: Worker, trials: Trials) -> PairResult:
    first_calls = []
    for name, case in (("A", pair.a), ("B", pair.b)):
        tried = trials.of(case)
        if isinstance(tried, Skipped):
            return PairResult(pair, tried, name)
        first_calls.append(tried)
    timeout = comparison.plan.timeout
    precision = precision_for(comparison.threshold, comparison.plan.budget.precision_of_all)
    outcome = worker.call(
        "elattn_bench.pair_task:compare",
        pair.a, pair.b, tuple(first_calls), precision, TIME_FOR_PAIRS * timeout,
        timeout=timeout,
    )  # fmt: skip
    return PairResult(pair, outcome, "A and B" if isinstance(outcome, Skipped) else "")


def precision_for(threshold: float, precision: float) -> float:
    """How narrow an interval to ask for: as the budget says, and narrow enough to tell ``same``."""
    return min(precision, threshold / 2) if threshold else precision


@dataclass
class Trials:
    """Tries each case out once, alone: gate, tensors, first call. What is larger than a failed one is not tried."""

    worker: Worker
    timeout: Seconds
    _known: dict[Case, Seconds | Skipped] = field(default_factory=dict)
    _exhausted: Exhausted = field(default_factory=Exhausted)

    def of(self, case: Case) -> Seconds | Skipped:
        """How long the case's first call takes, or why it may not be timed."""
        if case not in self._known:
            self._known[case] = self._try(case)
        return self._known[case]

    def _try(self, case: Case) -> Seconds | Skipped:
        if verdict := self._exhausted.verdict(case):
            return verdict
        tried: Seconds | Skipped = self.worker.call(
            "elattn_bench.pair_task:try_out", case, timeout=self.timeout
        )
        if isinstance(tried, Skipped):
            self._exhausted.note(case, tried.status)
        return tried


def check_failure(kind: str | None) -> None:
    """Refuse what cannot fail here, before anything is measured.

    Raises:
        UsageError: the kind is one of another comparison.
    """
    if kind not in (None, *FAILURES):
        raise UsageError(f"--fail-on {kind}: --live measures latency alone; write {' or '.join(FAILURES)}")


def fails(results: Iterable[PairResult], kind: str, threshold: float) -> list[str]:
    """One sentence per pair that crosses the line; empty when none does.

    Args:
        results: of the pairs.
        kind: ``slower``: B is slower than A by more than the threshold, beyond doubt; ``error``: either
            ended with an error.
        threshold: a share: 0.05 is 5 %.
    """
    return [
        f"{each.pair.b.case_id}: {sentence}"
        for each in results
        if (sentence := (_slower if kind == "slower" else _error)(each, threshold))
    ]


def _slower(result: PairResult, threshold: float) -> str:
    ratio = result.ratio
    if ratio is None or result.verdict(threshold) != "slower":
        return ""
    return f"takes {ratio.value:.3g}x as long as A, interval [{ratio.low:.3g}, {ratio.high:.3g}]"


def _error(result: PairResult, threshold: float) -> str:
    outcome = result.outcome
    if isinstance(outcome, Skipped) and outcome.status == "error":
        return f"{result.failed} ended with an error: {outcome.reason}"
    return ""
