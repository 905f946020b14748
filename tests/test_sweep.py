"""Order, resume, crash and exhaustion of a sweep, with a made-up measure: no torch, no clock."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from elattn_bench import sweep
from elattn_bench.cases import Case
from elattn_bench.prediction import Predictor
from elattn_bench.results import Measurement, Outcome, Row, Skipped
from elattn_bench.rundir import SAMPLES, RunDir, read_run
from elattn_bench.samples_file import read_samples

CASES = [
    Case("softmax", "eager", "op", "forward", "float32", "cpu", False, batch, 8, seq_len, 64)
    for batch in (1, 2)
    for seq_len in (128, 256, 512, 1024)
]


class Silent:
    """An observer that remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def started(self, case: Case) -> None:
        self.seen.append(("started", case.case_id))

    def finished(self, case: Case, row: Row) -> None:
        self.seen.append(("finished", row.case_id))


def measured(case: Case) -> Outcome:
    return Measurement(
        latency_ms=(float(case.seq_len),) * 10, stability="stable", peak_memory_bytes=case.seq_len
    )


def run(path: Path, measure: Callable[[Case], Outcome] = measured, cases: Sequence[Case] = CASES) -> Silent:
    resume = path.exists()
    observer = Silent()
    with RunDir.resume(path) if resume else RunDir.create(path, {"config": {}}) as run_dir:
        sweep.run(cases, run_dir, measure, observer)
    return observer


def ids(path: Path) -> list[str]:
    with (path / "results.csv").open(newline="") as stream:
        return [record["case_id"] for record in csv.DictReader(stream)]


def test_every_case_becomes_one_row_in_the_order_given(tmp_path: Path) -> None:
    run(tmp_path / "run")
    assert ids(tmp_path / "run") == [case.case_id for case in CASES]


def test_the_row_is_on_disk_before_the_observer_hears_of_it(tmp_path: Path) -> None:
    class Reader(Silent):
        def finished(self, case: Case, row: Row) -> None:
            assert ids(tmp_path / "run")[-1] == case.case_id
            super().finished(case, row)

    observer = Reader()
    with RunDir.create(tmp_path / "run", {}) as run_dir:
        sweep.run(CASES, run_dir, measured, observer)
    assert len(observer.seen) == 2 * len(CASES)


def test_a_crash_loses_nothing_and_resume_measures_only_the_rest(tmp_path: Path) -> None:
    calls: list[str] = []

    def crashing(case: Case) -> Outcome:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(case.case_id)
        return measured(case)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", crashing)
    assert ids(tmp_path / "run") == calls
    observer = run(tmp_path / "run")
    assert ids(tmp_path / "run") == [case.case_id for case in CASES]
    assert ("started", CASES[0].case_id) not in observer.seen


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_half_written_last_line_is_cut_and_measured_again(tmp_path: Path, cut: int) -> None:
    run(tmp_path / "run")
    for name in ("results.csv", "samples.jsonl"):
        content = (tmp_path / "run" / name).read_bytes()
        (tmp_path / "run" / name).write_bytes(content[:-cut])
    observer = run(tmp_path / "run")
    assert observer.seen == [("started", CASES[-1].case_id), ("finished", CASES[-1].case_id)]
    assert ids(tmp_path / "run") == [case.case_id for case in CASES]
    assert set(read_samples(tmp_path / "run" / SAMPLES)) == {case.case_id for case in CASES}


def test_a_crash_between_samples_and_row_leaves_one_set_of_samples(tmp_path: Path) -> None:
    run(tmp_path / "run", cases=CASES[:2])
    with (tmp_path / "run" / "samples.jsonl").open("a") as stream:
        stream.write(f'{{"case_id": "{CASES[2].case_id}", "latency_ms": [1.0]}}\n')
    run(tmp_path / "run")
    assert read_samples(tmp_path / "run" / SAMPLES)[CASES[2].case_id] == [512.0] * 10


@pytest.mark.parametrize(("status", "follows"), [("oom", "predicted_oom"), ("timeout", "timeout")])
def test_what_needs_more_than_a_case_that_ran_out_is_not_tried(
    tmp_path: Path, status: str, follows: str
) -> None:
    tried: list[Case] = []

    def limited(case: Case) -> Outcome:
        tried.append(case)
        return measured(case) if case.seq_len < 512 else Skipped(status, "no more")  # type: ignore[arg-type]

    run(tmp_path / "run", limited)
    statuses = {(row.batch, row.seq_len): row.status for row in read_run(tmp_path / "run").rows}
    assert statuses[1, 512] == status
    assert [statuses[1, 1024], statuses[2, 512], statuses[2, 1024]] == [follows] * 3
    assert [(case.batch, case.seq_len) for case in tried if case.seq_len >= 512] == [(1, 512)]


def test_exhaustion_is_remembered_across_a_resume(tmp_path: Path) -> None:
    run(tmp_path / "run", lambda case: Skipped("oom", "no more"), CASES[:1])
    observer = run(tmp_path / "run", lambda case: pytest.fail("must not be tried"))
    assert len(observer.seen) == 2 * (len(CASES) - 1)


def test_an_error_in_one_case_does_not_stop_the_others(tmp_path: Path) -> None:
    run(
        tmp_path / "run",
        lambda case: Skipped("error", "it broke", "Traceback\n") if case.batch == 1 else measured(case),
    )
    assert [row.status for row in read_run(tmp_path / "run").rows] == ["error"] * 4 + ["ok"] * 4
    assert (tmp_path / "run" / "errors.log").read_text().count("Traceback") == 4


def test_costly_cases_come_late_and_the_seed_decides_the_rest() -> None:
    ordered = sweep.in_order(CASES, seed=1)
    assert ordered == sweep.in_order(CASES, seed=1)
    assert sorted(map(hash, ordered)) == sorted(map(hash, CASES))
    costs = [case.cost.flops + case.cost.bytes for case in ordered]
    assert all(later > earlier / 2 for earlier, later in itertools.pairwise(costs))


def test_equal_costs_are_shuffled() -> None:
    same_cost = [
        Case(attention, "eager", "op", "forward", "float32", "cpu", False, 1, heads, 128, 64)
        for attention in ("softmax", "element-wise")
        for heads in (1, 2, 4, 8, 16, 32)
    ]
    assert len({tuple(sweep.in_order(same_cost, seed)) for seed in range(5)}) > 1


def test_a_case_predicted_not_to_fit_is_a_row_and_is_not_tried(tmp_path: Path) -> None:
    tried: list[Case] = []

    def honest(case: Case) -> Outcome:
        tried.append(case)
        return Measurement((1.0,) * 10, "stable", peak_memory_bytes=case.analytic_memory_bytes)

    with RunDir.create(tmp_path / "run", {}) as run_dir:
        sweep.run(CASES, run_dir, honest, Silent(), Predictor(memory_limit=48 * 2**20))
    rows = {(row.batch, row.seq_len): row for row in read_run(tmp_path / "run").rows}
    refused = {sizes for sizes, row in rows.items() if row.status == "predicted_oom"}
    assert refused == {(1, 1024), (2, 1024)}
    assert "--memory-limit allows 48.0 MiB" in rows[1, 1024].reason
    assert "corrected by the 512 measurement" in rows[1, 1024].reason
    assert {(case.batch, case.seq_len) for case in tried} == set(rows) - refused


def test_a_resumed_sweep_predicts_from_the_rows_on_disk(tmp_path: Path) -> None:
    small, large = CASES[0], CASES[3]
    thrifty = small.analytic_memory_bytes
    assert thrifty is not None
    with RunDir.create(tmp_path / "run", {}) as run_dir:
        run_dir.append(small, Measurement((1.0,) * 10, "stable", peak_memory_bytes=thrifty // 10))
    with RunDir.resume(tmp_path / "run") as run_dir:
        sweep.run([small, large], run_dir, measured, Silent(), Predictor(memory_limit=20 * 2**20))
    assert [row.status for row in read_run(tmp_path / "run").rows] == ["ok", "ok"]


VISITS = 3


def visited(path: Path, measure: Callable[[Case], Outcome]) -> Silent:
    observer = Silent()
    with RunDir.resume(path) if path.exists() else RunDir.create(path, {}) as run_dir:
        steps = sweep.in_visits(CASES[:2], run_dir, VISITS, seed=0)
        sweep.run(steps, run_dir, measure, observer, visits=VISITS)
    return observer


class Drifting:
    """A machine on which every later call takes a millisecond more, and some fail."""

    def __init__(self, failing: dict[int, Outcome] | None = None) -> None:
        self.calls = 0
        self.failing = failing or {}

    def __call__(self, case: Case) -> Outcome:
        self.calls += 1
        if self.calls in self.failing:
            outcome = self.failing[self.calls]
            if isinstance(outcome, Skipped):
                return outcome
        return Measurement((100.0 + self.calls,) * 5, "stable", timed_s=1.0, compile_s=float(self.calls))


def test_each_case_is_visited_in_every_pass_before_any_is_visited_again(tmp_path: Path) -> None:
    seen = [case_id for what, case_id in visited(tmp_path / "run", Drifting()).seen if what == "finished"]
    assert len(seen) == 2 * VISITS
    assert all(len(set(seen[start : start + 2])) == 2 for start in (0, 2, 4))


def test_the_row_of_a_case_holds_all_of_its_visits(tmp_path: Path) -> None:
    visited(tmp_path / "run", Drifting())
    rows = read_run(tmp_path / "run").rows
    assert [row.case_id for row in rows] == list(dict.fromkeys(row.case_id for row in rows))
    for row in rows:
        assert (row.visits, row.samples, row.timed_s) == (VISITS, 5 * VISITS, 3.0)
        assert row.latency_ms_ci_high is not None
        assert row.latency_ms_ci_low is not None
        assert row.latency_ms_ci_high - row.latency_ms_ci_low > 1.0  # what lies between the visits
        assert row.compile_s in (1.0, 2.0)  # of the first visit
    samples = read_samples(tmp_path / "run" / SAMPLES)
    assert {len(each) for each in samples.values()} == {5 * VISITS}


@pytest.mark.parametrize("crash", range(1, 2 * VISITS + 1))
def test_a_crash_at_any_visit_costs_no_visit_and_doubles_none(tmp_path: Path, crash: int) -> None:
    whole = Drifting()

    def crashing(case: Case) -> Outcome:
        if whole.calls + 1 == crash:
            whole.calls += 1
            raise KeyboardInterrupt
        return whole(case)

    with pytest.raises(KeyboardInterrupt):
        visited(tmp_path / "run", crashing)
    visited(tmp_path / "run", whole)
    assert whole.calls == 2 * VISITS + 1
    assert {row.visits for row in read_run(tmp_path / "run").rows} == {VISITS}


def test_samples_without_their_row_are_forgotten_on_resume(tmp_path: Path) -> None:
    visited(tmp_path / "run", Drifting())
    raw = tmp_path / "run" / SAMPLES
    first = raw.read_text().splitlines()[0]
    raw.write_text(
        raw.read_text()
        + first
        + "\n"
        + first.replace(CASES[0].case_id, "gone").replace(CASES[1].case_id, "gone")
        + "\n"
    )
    visited(tmp_path / "run", Drifting())
    assert {case_id: len(each) for case_id, each in read_samples(raw).items()} == {
        case.case_id: 5 * VISITS for case in CASES[:2]
    }


def test_a_visit_that_fails_leaves_a_warning_and_the_row(tmp_path: Path) -> None:
    visited(tmp_path / "run", Drifting({3: Skipped("timeout", "took longer than 1 s")}))
    rows = read_run(tmp_path / "run").rows
    assert {row.status for row in rows} == {"ok"}
    assert sorted(row.visits or 0 for row in rows) == [VISITS - 1, VISITS]
    assert sum("visit: one failed with timeout" in (row.warnings or "") for row in rows) == 1


def test_a_case_that_fails_at_its_first_visit_is_not_visited_again(tmp_path: Path) -> None:
    machine = Drifting({1: Skipped("error", "wrong")})
    visited(tmp_path / "run", machine)
    assert machine.calls == 1 + VISITS
