"""The attention's share of a block: which rows belong together, and what is shown of them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import made_up
import pytest
from rich.console import Console

from elattn_bench.analysis import Setting, by_setting, shares, summary
from elattn_bench.figures import plot
from elattn_bench.rundir import Run
from elattn_bench.tables.comparison import comparison_report
from elattn_bench.tables.listings import summary_report
from elattn_bench.tables.render import show
from elattn_bench.tables.shares import share_tables
from elattn_bench.verdicts.reference import compare_to_reference

IMPLS = ("softmax/sdpa", "linear/eager", "ea-series/eager")
MS = {"op": 1.0, "layer": 2.0, "block": 8.0}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two lengths at every level; at L = 256 all is three times as slow."""
    outcomes = {
        case: made_up.measured(MS[level] * (3 if case.seq_len == 256 else 1))
        for level in ("block", "op", "layer")
        for case in made_up.cases(IMPLS, [128, 256], level=level)
    }
    return made_up.write_run(tmp_path / "run", outcomes)


def test_a_share_is_the_inner_latency_over_the_block_s(run: Run) -> None:
    found = shares(run.rows)
    assert [(share.block.label, share.block.seq_len) for share in found] == [
        (label, length)
        for label in ("softmax/sdpa", "ea-series/eager t=6", "linear/eager")
        for length in (128, 256)
    ]
    for share in found:
        assert share.op_share
        assert share.layer_share
        assert share.op_share.value == pytest.approx(1 / 8)
        assert share.layer_share.value == pytest.approx(2 / 8)
        assert share.op_share.low < share.op_share.value < share.op_share.high


@pytest.mark.parametrize(
    "other",
    [
        {"mode": "train"}, {"causal": True}, {"dtype": "bfloat16"}, {"batch": 2}, {"heads": 4}, {"dim": 128},
        {"seq_len": 256}, {"cache": "cold"},
    ],
    ids=str,
)  # fmt: skip
def test_rows_of_another_case_are_no_part_of_a_block(tmp_path: Path, other: dict[str, object]) -> None:
    outcomes = {
        made_up.case("linear/eager", level="block"): made_up.measured(8.0),
        made_up.case("linear/eager", level="op", **other): made_up.measured(1.0),
        made_up.case("linear/eager", level="layer", **other): made_up.measured(1.0),
    }
    assert shares(made_up.write_run(tmp_path / "run", outcomes).rows) == []


def test_orders_are_not_mixed_up(tmp_path: Path) -> None:
    outcomes = {
        made_up.case("ea-series/eager", level=level, order=order): made_up.measured(MS[level] * order)
        for level in MS
        for order in (2, 6)
    }
    found = shares(made_up.write_run(tmp_path / "run", outcomes).rows)
    assert [share.op_share and round(share.op_share.value, 6) for share in found] == [0.125, 0.125]


def test_one_inner_level_is_enough_and_what_failed_is_none(tmp_path: Path) -> None:
    outcomes = {
        made_up.case("linear/eager", level="block"): made_up.measured(8.0),
        made_up.case("linear/eager", level="layer"): made_up.measured(2.0),
        made_up.case("linear/eager", level="op"): made_up.ERROR,
        made_up.case("softmax/sdpa", level="block"): made_up.OOM,
        made_up.case("softmax/sdpa", level="op"): made_up.measured(1.0),
    }
    (share,) = shares(made_up.write_run(tmp_path / "run", outcomes).rows)
    assert (share.op, share.op_share) == (None, None)
    assert share.layer_share
    (table,) = share_tables([share])
    assert table.rows == [["linear/eager", "128", "-", "2.00 ms", "8.00 ms", "-", "25 %"]]


def test_compare_shows_the_shares_once_and_tells_them_to_programs(run: Run) -> None:
    report = comparison_report(compare_to_reference(run))
    (table,) = (table for table in report.tables if table.title.startswith("Share of a block"))
    assert table.title == "Share of a block: forward, float32, non-causal, batch 1, heads 8, dim 64"
    assert table.rows[0] == ["softmax/sdpa", "128", "1.000 ms", "2.00 ms", "8.00 ms", "12 %", "25 %"]
    assert sum("Share of a block" in note for note in report.notes) == 1
    out = io.StringIO()
    show(report, "json", Console(file=out))
    records = json.loads(out.getvalue())["block_shares"]
    assert len(records) == 6
    assert records[0]["op_share"] == pytest.approx(0.125)
    assert records[0]["op_share_low"] < 0.125 < records[0]["op_share_high"]
    assert records[0]["level"] == "block"


def test_the_table_fits_a_narrow_terminal(run: Run) -> None:
    out = io.StringIO()
    report = comparison_report(compare_to_reference(run), ["latency"])
    show(report, "table", Console(file=out, width=80, no_color=True))
    assert "Share of a block" in out.getvalue()
    assert "(1 of" not in out.getvalue()


def test_without_blocks_or_latencies_there_is_no_table_and_no_note(run: Run, tmp_path: Path) -> None:
    memory = comparison_report(compare_to_reference(run, metrics=["memory"]), ["memory"])
    inner = made_up.write_run(tmp_path / "inner", made_up.cases(IMPLS, [128], level="layer"))
    for report in (memory, comparison_report(compare_to_reference(inner))):
        assert not any(
            "Share of a block" in text for text in [*report.notes, *(t.title for t in report.tables)]
        )


def test_a_small_share_keeps_a_digit(tmp_path: Path) -> None:
    outcomes = {
        made_up.case("linear/eager", level="block"): made_up.measured(1000.0),
        made_up.case("linear/eager", level="op"): made_up.measured(7.0),
    }
    (table,) = share_tables(shares(made_up.write_run(tmp_path / "run", outcomes).rows))
    assert table.rows[0][5] == "0.7 %"


class TestThreeLevels:
    def test_levels_go_from_the_inside_out(self, run: Run) -> None:
        assert [setting.level for setting in by_setting(run.rows)] == ["op", "layer", "block"]
        unknown = Setting("model", "forward", "float32", False)
        assert unknown.sort_key > Setting("block", "train", "float32", True).sort_key

    def test_the_summary_names_the_level(self, run: Run) -> None:
        (table,) = summary_report(summary(run)).tables
        assert [row[1] for row in table.rows] == ["op"] * 3 + ["layer"] * 3 + ["block"] * 3

    def test_parameters_get_a_table_per_level(self, run: Run) -> None:
        report = comparison_report(compare_to_reference(run))
        found = {
            table.title.rpartition(" ")[2]: table.rows[0][1]
            for table in report.tables
            if table.title.startswith("Learned parameters")
        }
        assert found == {"layer": f"{4 * 64**2:,}", "block": f"{12 * 64**2 + 2 * 64:,}"}

    def test_every_level_gets_its_figures(self, run: Run, tmp_path: Path) -> None:
        drawn = plot(run, ["latency"], ["png"], tmp_path / "plots")
        for level in MS:
            assert any(f"{level}-forward" in path.name for path in drawn)
