"""The cost model of a sequence over ranks: its limits, what it predicts of a run that obeys it, what it refuses."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import simulated_ranks as simulated

from elattn_bench.cases import Case
from elattn_bench.errors import RunDirError, UsageError
from elattn_bench.projection.compute import fit_compute, seconds_of, work
from elattn_bench.projection.exchanges import exchange_seconds, exchanges, received
from elattn_bench.projection.fitting import fit_relative
from elattn_bench.projection.interval import Errors
from elattn_bench.projection.links import KINDS, assumed_links, collectives_of, factors, fit_links
from elattn_bench.projection.model import Projected, Projection, project
from elattn_bench.projection.validation import factor
from elattn_bench.rundir import Run

MODES, MASKS = ("forward", "train"), (False, True)
M, G = 2**20, 2**30


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    found = simulated.cases(modes=MODES, masks=MASKS)
    return simulated.write_run(tmp_path_factory.mktemp("projection") / "run", found)


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Ranks among others do half as much again, and the rows say what they do."""
    found = simulated.cases(modes=MODES, masks=MASKS)
    return simulated.write_run(tmp_path_factory.mktemp("projection") / "worked", found, has_work=True)


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Over ranks everything takes 1.25 times as long as the model says."""
    return simulated.write_run(
        tmp_path_factory.mktemp("projection") / "slower", simulated.cases(), slower=1.25
    )


def of_line(found: Projected, label: str, mode: str = "forward", causal: bool = False) -> list[Projection]:
    return [
        each
        for each in found.projections
        if each.line.label.startswith(label)
        and (each.line.facet.mode, each.line.facet.causal) == (mode, causal)
    ]


# Links


@pytest.mark.parametrize(
    ("kind", "ranks", "expected"),
    [
        ("total", 1, (0, 0)), ("total", 2, (2, 1)), ("total", 8, (14, 1.75)), ("total", 5, (8, 1.6)),
        ("before", 1, (0, 0)), ("before", 2, (1, 1)), ("before", 5, (3, 3)), ("gather", 8, (7, 7)),
        ("scatter", 8, (7, 7)),
    ],
)  # fmt: skip
def test_a_collective_takes_the_messages_and_bytes_of_its_algorithm(
    kind: str, ranks: int, expected: tuple[float, float]
) -> None:
    assert factors(kind, ranks, "gloo") == pytest.approx(expected)


@pytest.mark.parametrize("ranks", [1, 2, 3, 8, 100, 512])
def test_nccl_sums_up_two_trees_and_sends_all_else_as_gloo(ranks: int) -> None:
    messages, share = factors("total", ranks, "nccl")
    assert (messages, share) == (2 * math.ceil(math.log2(ranks)), factors("total", ranks, "gloo")[1])
    for kind in set(KINDS) - {"total"}:
        assert factors(kind, ranks, "nccl") == factors(kind, ranks, "gloo")


@pytest.mark.parametrize(
    ("device", "said", "library"),
    [("cpu", {}, "gloo"), ("cuda", {}, "nccl"), ("cpu", {"backend": "nccl"}, "nccl")],
)
def test_the_library_is_as_said_or_the_devices_usual_one(
    run: Run, device: str, said: dict[str, str], library: str
) -> None:
    info = {"collectives": [{**each, **said} for each in simulated.collectives()]}
    moved = replace(run, info=info, rows=[replace(run.rows[0], device=device)])
    assert {link.library for link in fit_links(collectives_of(moved)).values()} == {library}


def test_a_link_is_found_again_in_the_times_it_makes(run: Run) -> None:
    links = fit_links(collectives_of(run))
    assert set(links) == set(KINDS)
    for link in links.values():
        assert (link.latency, 1 / link.seconds_per_byte) == pytest.approx((1e-4, 2e9), rel=1e-9)
        assert max(map(factor, link.residuals)) == pytest.approx(1, abs=1e-9)
        assert not link.is_assumed


def test_half_a_time_is_as_wrong_as_twice() -> None:
    """Of two times of one design the fit is the geometric mean, which no least squares of the times would find."""
    (found,) = fit_relative([[1.0], [1.0]], [1.0, 100.0])
    assert found == pytest.approx(10, rel=1e-6)


def test_a_coefficient_that_would_be_negative_is_nothing() -> None:
    start, slope = fit_relative([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]], [1.0, 0.9, 0.8])
    assert start == pytest.approx((1.0 * 0.9 * 0.8) ** (1 / 3), rel=1e-3)
    assert 0 <= slope < 1e-4


def test_a_link_that_fits_badly_says_so(run: Run) -> None:
    timed = collectives_of(run)
    crooked = [replace(each, seconds=each.seconds * (2 if each.ranks == 4 else 1)) for each in timed]
    worst = max(factor(ratio) for link in fit_links(crooked).values() for ratio in link.residuals)
    assert 1.2 < worst < 2


@pytest.mark.parametrize(
    ("text", "latency", "rate"),
    [
        ("5us,50GB/s", 5e-6, 5e10), ("1.5ms, 1.25GB/s", 1.5e-3, 1.25e9), ("0s,2GiB/s", 0, 2**31),
        ("20ns,1TB/s", 2e-8, 1e12),
    ],
)  # fmt: skip
def test_a_link_may_be_assumed(text: str, latency: float, rate: float) -> None:
    for kind, link in assumed_links(text).items():
        assert (link.kind, link.is_assumed, link.library) == (kind, True, "nccl")
        assert (link.latency, 1 / link.seconds_per_byte) == pytest.approx((latency, rate))


@pytest.mark.parametrize(
    "text", ["", "5us", "50GB/s,5us", "5,50GB/s", "5us,50Gb/s", "-5us,1GB/s", "5us,0GB/s"]
)
def test_what_is_no_link_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(UsageError, match="write a latency and a bandwidth in bytes per second: 5us,50GB/s"):
        assumed_links(text)


def test_collectives_that_cannot_be_read_are_an_error_of_the_run(run: Run) -> None:
    entry = {"kind": "total", "ranks": 2, "bytes": 8, "seconds": 1}
    for broken in ([{"kind": "total"}], [{**entry, "seconds": 0}], [{**entry, "backend": "mpi"}], {"a": 1}):
        with pytest.raises(RunDirError, match="sweep again with --ranks"):
            collectives_of(replace(run, info={"collectives": broken}))


# What is exchanged


@pytest.mark.parametrize("case", simulated.cases(lengths=[M], ranks=[1], modes=MODES, masks=MASKS))
def test_one_rank_exchanges_nothing(case: Case) -> None:
    assert exchanges(case) == []
    assert exchange_seconds(case, {}) == 0


@pytest.mark.parametrize("ranks", [2, 3, 8, 64])
@pytest.mark.parametrize("case", simulated.cases(lengths=[M], ranks=[2], modes=MODES, masks=MASKS))
def test_what_is_received_follows_from_the_collectives(case: Case, ranks: int) -> None:
    """The formula read back: sums count once, a gathered tensor once for every other rank, a scan in every round."""
    found = exchanges(replace(case, ranks=ranks))
    kinds = {each.kind for each in found}
    total = sum(each.bytes for each in found)
    if "gather" in kinds:
        assert kinds == ({"gather", "scatter"} if case.mode == "train" else {"gather"})
        assert total * (ranks - 1) == pytest.approx(received(case, ranks), rel=1e-5)
    elif kinds == {"total"}:
        assert total == received(case, ranks)
    else:
        most = max(each.bytes for each in found) * factors("before", ranks)[0]
        assert kinds == {"before"}
        assert most <= received(case, ranks) <= total * factors("before", ranks)[0]


@pytest.mark.parametrize(
    "case", simulated.cases(["ea-series/fused", "linear/eager"], [4096], [64], MODES, MASKS)
)
def test_a_linear_attention_exchanges_the_same_at_any_length(case: Case) -> None:
    assert exchanges(case) == exchanges(replace(case, seq_len=G))


def test_softmax_receives_in_proportion_to_the_length() -> None:
    (case,) = simulated.cases(["softmax/sdpa"], [M], [64])
    assert received(replace(case, seq_len=4 * M), 64) == 4 * received(case, 64)


# One rank's work


def test_the_work_of_one_rank_is_the_whole_and_of_many_the_longest_shard() -> None:
    assert work("linear", 10, 1, causal=True) == 10
    assert work("linear", 10, 4, causal=True) == 3
    assert work("quadratic", 1000, 1, causal=False) == work("quadratic", 1000, 1, causal=True) == 1000**2
    assert work("quadratic", 1000, 10, causal=False) == 1000**2 / 10


@pytest.mark.parametrize("ranks", [1, 2, 4, 5, 10])
def test_the_last_causal_rank_has_more_than_its_share(ranks: int) -> None:
    """(2 P - 1) / P^2 of what one rank alone does, for its queries see nearly all keys."""
    share = work("quadratic", 1000, ranks, causal=True) / work("quadratic", 1000, 1, causal=True)
    assert share == pytest.approx((2 * ranks - 1) / ranks**2)


def test_the_fit_finds_start_and_slope_again(run: Run) -> None:
    rows = [
        row for row in run.rows if row.label == "linear/eager" and row.ranks == 1 and row.mode == "forward"
    ]
    fitted = fit_compute([row for row in rows if not row.causal], "linear", causal=False)
    assert (fitted.start, fitted.per_work) == pytest.approx(
        (simulated.START, simulated.PER_WORK["linear"]), rel=1e-6
    )
    assert (fitted.shortest, fitted.longest) == (4096, 262144)


# The projection


def test_a_run_that_obeys_the_model_is_predicted_exactly(run: Run) -> None:
    found = project(run, [M, G], [1, 8, 64, 512])
    assert len(found.projections) == 3 * 4 * 2 * 4
    for each in found.projections:
        assert each.seconds == pytest.approx(
            simulated.seconds(each.line.at(each.tokens, each.ranks)), rel=1e-6
        )


def test_its_validation_finds_no_error(run: Run) -> None:
    found = project(run, [M], [8]).found
    assert {each.what for each in found} == {"ranks", "length"}
    assert sum(each.rows for each in found if each.what == "ranks") == 3 * 4 * 2 * 4
    assert [each.worst for each in found] == pytest.approx([1.0] * len(found), abs=1e-6)


def test_a_distorted_run_states_its_error_and_the_interval_holds_it(slower: Run) -> None:
    found = project(slower, [M], [8])
    assert [each.median for each in found.found if each.what == "ranks"] == pytest.approx([0.8] * 3, rel=1e-6)
    for each in found.projections:
        assert (each.low, each.high) == pytest.approx((each.seconds, 1.25 * each.seconds), rel=1e-5)


def test_the_longest_left_out_tells_where_the_growth_is_another(tmp_path: Path) -> None:
    """A longest row that took thrice the time was predicted three times too fast, and the interval says so."""
    cases = simulated.cases(["linear/eager"])
    run = simulated.write_run(tmp_path / "run", cases)
    rows = [
        replace(row, latency_ms_p50=3e3 * seconds_of(row)) if (row.ranks, row.seq_len) == (1, 262144) else row
        for row in run.rows
    ]
    found = project(replace(run, rows=rows), [M], [8])
    (length,) = (each for each in found.found if each.what == "length")
    assert length.worst == pytest.approx(1 / 3, rel=1e-6)
    (each,) = found.projections
    assert each.high is not None
    assert each.high >= 3 * (each.seconds - each.exchange) + each.exchange


# Work that several ranks were measured with


def test_work_over_ranks_is_what_ranks_did_and_of_one_rank_what_one_did(worked: Run) -> None:
    found = project(worked, [M, G], [1, 8, 512])
    assert len(found.projections) == 3 * 4 * 2 * 3
    for each in found.projections:
        case = each.line.at(each.tokens, each.ranks)
        assert each.seconds == pytest.approx(simulated.seconds(case, simulated.PASSES), rel=1e-5)
        assert (each.low, each.high) == pytest.approx((each.seconds, each.seconds), rel=1e-4)


def test_without_it_the_extra_passes_are_missing(run: Run, worked: Run) -> None:
    known, left_out = (of_line(project(each, [G], [8]), "linear", causal=True) for each in (worked, run))
    assert known[0].seconds / left_out[0].seconds == pytest.approx(simulated.PASSES, rel=1e-3)


def test_validation_covers_one_rank_and_several_and_finds_no_error(worked: Run) -> None:
    found = project(worked, [M], [8]).found
    assert [each.worst for each in found] == pytest.approx([1.0] * len(found), abs=1e-4)
    # The longest row of one rank, and those of two and of four.
    assert {(each.rows, each.ranks) for each in found if each.what == "length"} == {(3, 4)}


@pytest.mark.parametrize("has_work", [True, False])
def test_nothing_measured_at_a_length_predicts_the_rows_of_that_length(
    run: Run, worked: Run, has_work: bool
) -> None:
    """Ten times the work and one rank's latency at 16k leave the predictions of 16k as they were, not the others."""
    source = worked if has_work else run
    rows = [
        replace(
            row, work_ms=10 * (row.work_ms or 0) or None, latency_ms_p50=1e4 * seconds_of(row) if row.ranks == 1 else 1
        )
        if row.seq_len == 16384
        else row
        for row in source.rows
    ]  # fmt: skip
    before, after = (
        {(check.row.case_id): check.predicted for check in project(each, [M], [8]).checks if check.what == "ranks"}
        for each in (source, replace(source, rows=rows))
    )  # fmt: skip
    own = {row.case_id for row in rows if row.seq_len == 16384}
    assert len(own & set(before)) == 3 * 4 * 2
    for case_id, predicted in before.items():
        assert (after[case_id] == pytest.approx(predicted, rel=1e-12)) is (case_id in own)


# The interval


def test_work_and_exchange_are_each_as_far_off_as_they_were_themselves() -> None:
    assert Errors([0.5, 0.8], [2.0]).interval(10, 4) == (10 + 2, 20 + 4)
    assert Errors([], []).interval(10, 4) == (14, 14)


@pytest.mark.parametrize("times", [1 / 3, 3])
def test_with_links_that_say_too_little_or_too_much_the_interval_holds_the_truth(
    tmp_path: Path, times: float
) -> None:
    """Also where nearly all is exchange, though most of the rows checked was work."""
    timed = [{**each, "seconds": times * each["seconds"]} for each in simulated.collectives()]
    run = simulated.write_run(tmp_path / "run", simulated.cases(), timed=timed, has_work=True)
    found = project(run, [4096, M], [8, 512]).projections
    assert max(each.exchange_share for each in found) > 0.9
    for each in found:
        truth = simulated.seconds(each.line.at(each.tokens, each.ranks), simulated.PASSES)
        assert each.low is not None
        assert each.high is not None
        assert each.low * (1 - 1e-4) <= truth <= each.high * (1 + 1e-4)


def test_links_that_fit_their_own_times_badly_widen_the_exchange_alone(worked: Run) -> None:
    crooked = [
        {**each, "seconds": each["seconds"] * (2 if each["ranks"] == 4 else 1)}
        for each in simulated.collectives()
    ]
    found = project(replace(worked, info={**worked.info, "collectives": crooked}), [4096], [1, 512])
    for each in of_line(found, "linear"):
        assert each.low is not None
        work = each.seconds - each.exchange
        residual = max(found.links["total"].residuals)
        assert each.low == pytest.approx(work + each.exchange / residual, rel=0.01)


def test_mostly_exchange_over_more_ranks_than_were_timed_is_marked(worked: Run) -> None:
    found = of_line(project(worked, [4096], [4, 512]), "linear")
    assert [each.is_timed for each in found] == [True, False]
    assert [each.is_mostly_untimed for each in found] == [False, True]
    assert not any(each.is_mostly_untimed for each in of_line(project(worked, [G], [512]), "softmax"))
    assumed = project(worked, [4096], [512], link="5us,50GB/s").projections
    assert not any(each.is_mostly_untimed for each in assumed)


# What it says of limits


def test_one_rank_has_no_exchange_and_its_own_time(run: Run) -> None:
    for each in project(run, [262144], [1]).projections:
        assert (each.exchange, each.received, each.exchange_share) == (0, 0, 0)


def test_softmax_falls_as_one_over_the_ranks_until_the_gather_dominates(run: Run) -> None:
    slow_link = project(run, [M], [1, 2, 4, 100_000], link="1ns,10MB/s")
    times = [each.seconds for each in of_line(slow_link, "softmax")]
    assert times[0] / times[1] == pytest.approx(2, rel=0.2)
    last = of_line(slow_link, "softmax")[-1]
    assert last.exchange_share > 0.99
    assert last.exchange == pytest.approx(last.received / 1e7, rel=0.01)


def test_linear_attentions_receive_the_same_at_any_length(run: Run) -> None:
    found = project(run, [M, G], [64])
    for mode, mask in itertools.product(MODES, MASKS):
        for label in ("ea-series", "linear"):
            short, long = of_line(found, label, mode, mask)
            assert short.received == long.received > 0


def test_memory_is_inputs_and_workspace_by_formula_and_says_whether_it_fits(run: Run) -> None:
    found = of_line(project(run, [M], [1, 64], memory=2**30), "ea-series")
    for each in found:
        case = each.line.at(each.tokens, each.ranks)
        assert each.memory == 3 * 4 * 512 * M // each.ranks + (case.analytic_memory_bytes or 0)
    assert [each.fits for each in found] == [False, True]


def test_memory_without_a_formula_is_unknown_and_nobody_says_that_it_fits(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elattn_bench.cases.Case.analytic_memory_bytes", None)
    assert {(each.memory, each.fits) for each in project(run, [M], [8]).projections} == {(None, None)}


def test_the_machine_of_the_run_says_how_much_memory_a_rank_has(run: Run) -> None:
    assert project(run, [M], [8]).memory == simulated.MEMORY
    assert project(replace(run, info={**run.info, "environment": {}}), [M], [8]).memory is None


def test_only_what_was_measured_as_long_over_as_many_ranks_is_no_extrapolation(run: Run) -> None:
    found = of_line(project(run, [512, 65536, G], [4, 8]), "linear")
    assert [each.is_extrapolated for each in found] == [True, True, False, True, True, True]


def test_an_assumed_link_says_so_and_leaves_the_checks_to_the_measured_one(slower: Run) -> None:
    found = project(slower, [M], [8], link="5us,50GB/s")
    assert found.is_assumed
    assert [each.median for each in found.found if each.what == "ranks"] == pytest.approx([0.8] * 3, rel=1e-6)
    for each in found.projections:
        assert each.high == pytest.approx(each.exchange + 1.25 * (each.seconds - each.exchange), rel=1e-5)


def test_rows_in_one_piece_do_where_there_are_none_of_one_rank(tmp_path: Path) -> None:
    run = simulated.write_run(tmp_path / "run", simulated.cases(ranks=(None, 2)))
    lines = project(run, [M], [8]).lines
    assert {line.of_one_rank for line in lines} == {False}
    assert [line.most_ranks for line in lines] == [2, 2, 2]


def test_a_line_that_is_refused_at_one_setting_alone_is_named_with_it(tmp_path: Path) -> None:
    few = simulated.cases(["linear/eager"], lengths=[4096], masks=[True])
    found = project(simulated.write_run(tmp_path / "run", [*simulated.cases(), *few]), [M], [8])
    (name,) = found.refused
    assert name == "linear/eager (op, forward, float32, causal, batch 1, heads 8, dim 512)"


def test_what_cannot_be_spread_is_named_and_left_out(tmp_path: Path) -> None:
    cases = [*simulated.cases(), *simulated.cases(["softmax/eager"], ranks=(None,))]
    found = project(simulated.write_run(tmp_path / "run", cases), [M], [8])
    assert found.refused == {"softmax/eager": "has no form for a sequence that is spread over ranks"}


@pytest.mark.parametrize(
    ("cases", "timed", "message"),
    [
        (simulated.cases(lengths=[4096]), None, "rows of one rank at fewer than two lengths.*sweep -i"),
        (simulated.cases(ranks=[1]), [], "timed no collectives.*--ranks 1,2.*--link 5us,50GB/s"),
        (simulated.cases(ranks=[2, 4]), None, "rows of one rank at fewer than two lengths.*sweep -i"),
    ],
)
def test_a_run_that_lacks_what_the_model_needs_is_told_what_to_sweep(
    tmp_path: Path, cases: list[Case], timed: list[dict[str, object]] | None, message: str
) -> None:
    run = simulated.write_run(tmp_path / "run", cases, timed=timed)
    with pytest.raises(UsageError, match=message):
        project(run, [M], [8])


def test_without_collectives_an_assumed_link_still_projects_unchecked_over_ranks(tmp_path: Path) -> None:
    run = simulated.write_run(tmp_path / "run", simulated.cases(ranks=[1]), timed=[])
    found = project(run, [M], [8], link="5us,50GB/s")
    assert {each.what for each in found.found} == {"length"}


def test_a_filter_that_leaves_one_rank_out_is_named_as_the_cause(run: Run) -> None:
    kept = replace(run, rows=[row for row in run.rows if row.ranks == 2])
    with pytest.raises(
        UsageError, match="rows of one rank at fewer than two lengths.*--where keeps are not enough"
    ):
        project(kept, [M], [8], is_filtered=True)


def test_training_softmax_needs_the_scattered_sum_timed(run: Run) -> None:
    timed = [each for each in simulated.collectives() if each["kind"] != "scatter"]
    found = project(replace(run, info={**run.info, "collectives": timed}), [M], [8])
    assert len(found.refused) == 2
    for name, reason in found.refused.items():
        assert name.startswith("softmax/sdpa (op, train")
        assert "did not time (scatter)" in reason


def test_more_ranks_than_tokens_are_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="every rank needs one token at least"):
        project(run, [4], [8])
