"""``compare --live`` from the options to the report, with a worker that the test makes up."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import made_up
import pytest
import typer
from rich.console import Console

from elattn_bench import live, runner
from elattn_bench.cases import Case
from elattn_bench.commands import compare
from elattn_bench.errors import Interrupted, UsageError
from elattn_bench.live import LiveComparison
from elattn_bench.live_progress import LiveProgress
from elattn_bench.pairs import Paired, Turn
from elattn_bench.results import Skipped
from elattn_bench.stats import BUDGETS
from elattn_bench.tables import pairs, render
from elattn_bench.worker import Settings, Worker

THRESHOLD = 0.05
MACHINE = {"device_name": "Made-up CPU 9000", "threads": 2, "torch": "2.9"}
ON_CPU = {"device": "cpu"}
RAN_OUT = Skipped("oom", "the CPU allocator ran out of memory")


class Made:
    """A worker that answers what the test says, and remembers what it was asked."""

    def __init__(self, tried: Callable[[Case], Any], compared: Callable[[Case, Case], Any]) -> None:
        self._tried, self._compared = tried, compared
        self.asked: list[tuple[Any, ...]] = []

    def __call__(self, settings: Settings) -> Made:
        return self

    def __enter__(self) -> Made:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def environment(self) -> dict[str, Any]:
        return dict(MACHINE)

    def call(self, target: str, *arguments: Any, timeout: float) -> Any:
        self.asked.append((target, *arguments))
        return self._compared(*arguments[:2]) if target.endswith(":compare") else self._tried(*arguments)

    @property
    def tried(self) -> list[Case]:
        return [arguments[0] for target, *arguments in self.asked if target.endswith(":try_out")]


def paired(b_over_a: float, spread: float = 0.01, others_share: float = 0.0) -> Paired:
    """Eight rounds of one turn; A takes 2 ms, the ratios lie within the spread."""
    ratios = [b_over_a * (1 + spread * (n - 3.5) / 3.5) for n in range(8)]
    rounds = tuple((Turn((2.0, 2.0), (2 * each, 2 * each)),) for each in ratios)
    return Paired(rounds, "precision", 1.0, others_share)


def planned(a: str = "softmax/sdpa", b: str = "linear/eager", **flags: str) -> LiveComparison:
    return live.plan(a, b, {**ON_CPU, **flags}, THRESHOLD)


def run(
    monkeypatch: pytest.MonkeyPatch,
    comparison: LiveComparison,
    compared: Callable[[Case, Case], Any] = lambda a, b: paired(1.0),
    tried: Callable[[Case], Any] = lambda case: 0.01,
) -> tuple[Made, str]:
    worker, stderr = Made(tried, compared), io.StringIO()
    monkeypatch.setattr(runner, "Worker", worker)
    live.run(comparison, LiveProgress(comparison, Console(file=stderr, width=80)))
    return worker, stderr.getvalue()


def shown(comparison: LiveComparison, format: str = "table") -> str:
    out = io.StringIO()
    render.show(pairs.live_report(comparison), format, Console(file=out, width=80))
    return out.getvalue()


def names(comparison: LiveComparison) -> set[tuple[str, str]]:
    return {(pair.a.label, pair.b.label) for pair in comparison.pairs}


def test_impls_without_an_order_are_compared_once_per_case() -> None:
    comparison = planned(**{"seq-len": "256,1k", "dim": "64,128"})
    assert len(comparison.pairs) == 4
    assert all(pair.a.seq_len == pair.b.seq_len and pair.a.dim == pair.b.dim for pair in comparison.pairs)


def test_without_axes_one_case_is_compared() -> None:
    assert [pair.b.seq_len for pair in planned().pairs] == [1024]
    assert [pair.b.mode for pair in planned().pairs] == ["forward"]


def test_where_one_impl_has_an_order_each_order_is_compared() -> None:
    expected = {("softmax/sdpa", "ea-series/eager t=2"), ("softmax/sdpa", "ea-series/eager t=6")}
    assert names(planned("softmax/sdpa", "ea-series/eager", order="2,6")) == expected
    assert names(planned("ea-series/eager", "softmax/sdpa", order="2,6")) == {(b, a) for a, b in expected}


def test_where_both_have_an_order_equal_orders_are_compared() -> None:
    found = names(planned("ea-series/eager", "ea-series/eager", order="2,6"))
    assert found == {(f"ea-series/eager t={order}",) * 2 for order in (2, 6)}


def test_an_impl_may_be_compared_with_itself() -> None:
    pair = planned("softmax/sdpa", "softmax/sdpa").pairs[0]
    assert pair.a == pair.b


@pytest.mark.parametrize(
    ("a", "b", "flags", "message"),
    [
        ("softmax,linear", "efficient", {}, "one impl with one other"),
        ("sofmax", "linear", {}, "did you mean 'softmax'"),
        ("softmax", "linear", {"order": "2"}, "polynomial order"),
        ("softmax", "linear", {"dim": "100"}, "not divisible"),
    ],
)
def test_what_makes_no_sense_is_refused(a: str, b: str, flags: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        planned(a, b, **flags)


def test_memory_cannot_fail_a_comparison_of_time() -> None:
    with pytest.raises(UsageError, match="latency alone"):
        live.check_failure("memory")


def test_pairs_come_in_random_order_within_increasing_cost() -> None:
    grid = {"seq-len": "128:8k:x4", "dim": "64:512:64"}
    pairs = planned(**grid).pairs
    assert pairs == planned(**grid).pairs
    assert pairs != planned(**grid, seed="1").pairs
    assert pairs[0].a.seq_len == 128
    assert pairs[-1].a.seq_len == 8192


def test_intervals_are_asked_to_be_narrow_enough_to_call_two_the_same() -> None:
    assert live.precision_for(threshold=0.05, precision=0.10) == 0.025
    assert live.precision_for(threshold=0.05, precision=0.01) == 0.01
    assert live.precision_for(threshold=0.0, precision=0.02) == 0.02


def test_each_case_is_tried_out_once_however_many_pairs_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, _ = run(monkeypatch, planned("softmax/sdpa", "ea-series/eager", order="2,4,6"))
    assert len(worker.tried) == 1 + 3
    assert len(set(worker.tried)) == len(worker.tried)


def test_a_failing_case_says_whose_it_is_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = planned(**{"seq-len": "256,1k,4k"})

    def tried(case: Case) -> Any:
        return RAN_OUT if case.attention == "softmax" and case.seq_len == 1024 else 0.01

    worker, stderr = run(monkeypatch, comparison, tried=tried)
    found = {each.pair.b.seq_len: each for each in comparison.results}
    assert found[256].verdict(THRESHOLD) == "same"
    assert found[1024].outcome == RAN_OUT
    assert found[1024].failed == "A"
    assert found[4096].outcome.status == "predicted_oom"  # type: ignore[union-attr]
    assert 4096 not in {case.seq_len for case in worker.tried}
    assert "A: oom: the CPU allocator" in stderr
    assert "A (softmax/sdpa:op:forward:float32:full:b1:h8:L1024:D256) oom" in " ".join(
        shown(comparison).split()
    )


def test_what_happens_while_both_are_timed_is_blamed_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = planned()
    run(monkeypatch, comparison, compared=lambda a, b: RAN_OUT)
    assert comparison.results[0].failed == "A and B"
    assert shown(comparison).count("oom") == 3  # in both cells, and in the reason


@pytest.mark.parametrize(
    ("b_over_a", "spread", "expected"),
    [
        (1.10, 0.01, "slower"), (0.90, 0.01, "faster"), (1.01, 0.01, "same"), (1.05, 0.03, "unclear"),
    ],
)  # fmt: skip
def test_the_verdict_is_about_b(
    monkeypatch: pytest.MonkeyPatch, b_over_a: float, spread: float, expected: str
) -> None:
    comparison = planned()
    run(monkeypatch, comparison, compared=lambda a, b: paired(b_over_a, spread))
    assert comparison.results[0].verdict(THRESHOLD) == expected
    assert expected in shown(comparison)


def test_a_busy_neighbour_leaves_every_verdict_unclear(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = planned()
    run(monkeypatch, comparison, compared=lambda a, b: paired(3.0, others_share=0.5))
    assert comparison.results[0].verdict(THRESHOLD) == "unclear"
    assert "other processes used up to 50% of the CPU" in shown(comparison)


def test_fail_on_slower_means_slower_beyond_doubt_and_on_error_means_errors() -> None:
    pair = planned().pairs[0]
    slower, same = live.PairResult(pair, paired(1.2)), live.PairResult(pair, paired(1.0))
    failed = live.PairResult(pair, Skipped("error", "ValueError: no luck"), "B")
    out = live.PairResult(pair, RAN_OUT, "B")
    found = [slower, same, failed, out]
    assert len(live.fails(found, "slower", THRESHOLD)) == 1
    assert "takes 1.2x as long" in live.fails(found, "slower", THRESHOLD)[0]
    assert live.fails(found, "error", THRESHOLD) == [
        f"{pair.b.case_id}: B ended with an error: ValueError: no luck"
    ]


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> LiveComparison:
    comparison = planned(
        "softmax/sdpa", "ea-series/eager", order="2,6", mode="forward,train", **{"seq-len": "256,1k"}
    )
    run(monkeypatch, comparison, compared=lambda a, b: paired(1 + (b.order or 0) / 10))
    return comparison


def test_the_table_fits_eighty_columns_and_ends_with_what_its_words_mean(finished: LiveComparison) -> None:
    table = shown(finished)
    assert max(map(len, table.splitlines())) <= 80
    assert "(1 of" not in table
    assert "faster when the whole 95 % interval lies below 0.952x" in " ".join(table.split())
    assert "threshold 5 %" in table


def test_every_format_holds_every_pair(finished: LiveComparison) -> None:
    assert len(finished.pairs) == 8
    assert shown(finished, "markdown").count("| slower") == 8
    assert shown(finished, "latex").count(r"slower \\") == 8
    rows = list(csv.DictReader(io.StringIO(shown(finished, "csv"))))
    assert {(row["order_a"], row["order_b"]) for row in rows} == {("", "2"), ("", "6")}
    assert all(float(row["latency_ratio_low"]) < float(row["latency_ratio"]) for row in rows)
    document = json.loads(shown(finished, "json"))
    assert len(document["records"]) == 8
    assert document["environment"]["torch"] == "2.9"


def test_an_interval_that_too_few_rounds_give_is_empty_in_every_format(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    comparison = planned()
    run(monkeypatch, comparison, compared=lambda a, b: Paired(paired(2.0).rounds[:5], "time", 1.0))
    assert math.isinf(comparison.results[0].ratio.high)  # type: ignore[union-attr]
    assert "unclear" in shown(comparison)
    assert "inf" not in shown(comparison)
    record = json.loads(shown(comparison, "json"))["records"][0]
    assert record["latency_ratio_high"] is None
    assert record["latency_ratio"] == pytest.approx(2, abs=0.1)


def test_an_interrupt_keeps_what_was_compared_and_says_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = planned(**{"seq-len": "256,1k"})

    def compared(a: Case, b: Case) -> Paired:
        if a.seq_len == 1024:
            raise Interrupted("SIGINT")
        return paired(1.0)

    with pytest.raises(Interrupted, match="1 of 2"):
        run(monkeypatch, comparison, compared=compared)
    assert "1 of 2 cases: 1 same" in shown(comparison)


@pytest.mark.parametrize(("b_over_a", "code"), [(1.2, 3), (1.0, None)])
def test_fail_on_slower_ends_with_three_after_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], b_over_a: float, code: int | None
) -> None:
    monkeypatch.setattr(runner, "Worker", Made(lambda case: 0.01, lambda a, b: paired(b_over_a)))
    ended = None
    try:
        compare.compare_live(["softmax", "linear"], {"device": "cpu"}, "5%", "slower", "csv")
    except typer.Exit as end:
        ended = end.exit_code
    assert ended == code
    assert len(capsys.readouterr().out.splitlines()) == 2


def case(seq_len: int = 64) -> Case:
    return made_up.case("softmax/eager", seq_len=seq_len, dim=16, heads=2)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(Settings("cpu", BUDGETS["quick"], threads=1)) as worker:
        yield worker


def test_a_worker_times_two_cases_in_turns(worker: Worker) -> None:
    first = worker.call("elattn_bench.pair_task:try_out", case(), timeout=60)
    assert 0 < first < 60
    found = worker.call(
        "elattn_bench.pair_task:compare", case(), case(2048), (first, first), 0.1, 50.0, timeout=60
    )
    assert isinstance(found, Paired), found
    assert len(found.a_ms) == len(found.b_ms) >= 12
    assert found.log_ratio.centre > 0  # a thousand times the work


@pytest.mark.parametrize("fault", ["raises", "wrong_dtype"])
def test_neither_what_fails_the_gate_nor_what_raises_is_timed(worker: Worker, fault: str) -> None:
    refused = made_up.case(f"faulty:{fault}/eager")
    assert worker.call("elattn_bench.pair_task:try_out", refused, timeout=60).status == "error"
    outcome = worker.call(
        "elattn_bench.pair_task:compare", case(), refused, (0.01, 0.01), 0.1, 50.0, timeout=60
    )
    assert outcome.status == "error"
