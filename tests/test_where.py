"""--where keeps the cases that it names, and refuses what no case has."""

from __future__ import annotations

from pathlib import Path

import made_up
import pytest

from elattn_bench.errors import UsageError
from elattn_bench.rundir import Run
from elattn_bench.where import Condition, filtered, parse


def kept(run: Run, *texts: str) -> int:
    return len(filtered(run, texts).rows)


def test_values_join_and_conditions_meet(wide_run: Run) -> None:
    whole = len(wide_run.rows)
    assert kept(wide_run) == whole
    assert kept(wide_run, "dim=64") == whole // 3
    assert kept(wide_run, "dim=64,256") == 2 * whole // 3
    assert kept(wide_run, "dim=64", "level=op") == kept(wide_run, "level=op,dim=64") == whole // 6
    assert {row.dim for row in filtered(wide_run, ["dim=64,256"]).rows} == {64, 256}


def test_sizes_have_the_grammar_of_axes(wide_run: Run) -> None:
    rows = filtered(wide_run, ["seq-len=512:2k:x4,8k"]).rows
    assert {row.seq_len for row in rows} == {512, 2048, 8192}
    assert kept(wide_run, "seq_len=8k") == kept(wide_run, "seq_len=8192") > 0


def test_a_case_without_the_axis_stays_as_in_a_sweep(wide_run: Run) -> None:
    rows = filtered(wide_run, ["order=6"]).rows
    assert {row.order for row in rows if row.attention == "ea-series"} == {6}
    assert {"softmax", "linear"} <= {row.attention for row in rows}


def test_knobs_are_axes(tmp_path: Path) -> None:
    knobs = [(("latents", 64),), (("latents", 256),)]
    outcomes = {
        made_up.case("perceiver/eager", hyperparameters=each): made_up.measured(1.0) for each in knobs
    }
    outcomes[made_up.case()] = made_up.measured(2.0)
    run = made_up.write_run(tmp_path / "run", outcomes)
    assert [row.label for row in filtered(run, ["latents=64"]).rows] == [
        "perceiver/eager latents=64",
        "softmax/sdpa",
    ]
    with pytest.raises(UsageError, match=r"no case has 128; this run has 64, 256"):
        filtered(run, ["latents=128"])


def test_truths_and_impls_are_words(wide_run: Run) -> None:
    assert kept(wide_run, "causal=false") == len(wide_run.rows)
    assert {row.label for row in filtered(wide_run, ["impl=softmax/sdpa"]).rows} == {"softmax/sdpa"}


def test_a_comma_goes_on_and_an_axis_begins_anew() -> None:
    assert parse(["level=op,layer,seq-len=1k,2k"]) == [
        Condition("level", "op,layer"),
        Condition("seq_len", "1k,2k"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dim", "is not AXIS=VALUES"),
        ("dim=", "is not AXIS=VALUES"),
        ("=64", "is not AXIS=VALUES"),
        ("dim=64,dim=128", "there twice"),
        ("dims=64", "did you mean 'dim'"),
        ("level=opp", "did you mean 'op'"),
        ("dim=65", "this run has 64, 128, 256"),
        ("dim=64:128", "first:last:step"),
        ("dim=512:1k:x2", "no case has 512:1k:x2"),
    ],
)
def test_what_no_case_has_is_refused(wide_run: Run, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        filtered(wide_run, [text])


def test_conditions_that_no_case_keeps_together_are_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="no case of this run keeps all of these"):
        filtered(run, ["attention=softmax", "backend=eager", "seq-len=32k", "impl=softmax/sdpa"])
