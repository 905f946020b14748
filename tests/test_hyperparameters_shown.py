"""What is shown of ``--hp``: in tables, figures, comparisons of runs and live."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import made_up
import pytest
from matplotlib.text import Text
from test_hyperparameters import SCALING, SMALL, SOFTMAX, plan

from elattn_bench import (
    analysis,
    config,
    live,
)
from elattn_bench.cases import Case
from elattn_bench.errors import UsageError
from elattn_bench.figures.look import README
from elattn_bench.figures.scaling import draw_scaling
from elattn_bench.figures.style import Line
from elattn_bench.live_progress import LiveProgress
from elattn_bench.results import Skipped
from elattn_bench.tables import pairs as pair_tables
from elattn_bench.tables import render
from elattn_bench.tables.comparison import comparison_report
from elattn_bench.verdicts import reference, runs

# Tables, figures and comparisons


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Latents in three numbers and a word-valued knob; softmax/sdpa as the reference."""
    cases = made_up.cases(["softmax/sdpa"], (128, 256))
    outcomes: dict[Case, Any] = {case: made_up.measured(10.0) for case in cases}
    for latents in (8, 64, 256):
        for length in (128, 256):
            case = made_up.case(
                "knobby:latents/eager", seq_len=length, hyperparameters=(("latents", latents),)
            )
            outcomes[case] = made_up.measured(latents * length / 1e4)
    for knobs in (SOFTMAX, SCALING):
        outcomes[made_up.case("efficient/eager", hyperparameters=knobs)] = made_up.measured(1.0)
    return made_up.write_run(tmp_path_factory.mktemp("runs") / "swept", outcomes)


LABELS = [
    "softmax/sdpa", "efficient/eager normalisation=scaling", "efficient/eager normalisation=softmax",
    "knobby:latents/eager latents=8", "knobby:latents/eager latents=64", "knobby:latents/eager latents=256",
]  # fmt: skip


def test_the_summary_has_a_line_per_value_in_numeric_order(swept: Any) -> None:
    assert [line.label for line in analysis.summary(swept)] == LABELS


def test_lines_of_figures_have_the_same_order_and_names(swept: Any) -> None:
    lines = sorted(set(map(Line.of, swept.rows)))
    assert [line.label for line in lines] == LABELS
    at_length = Line.at_length(swept.rows[-1])
    assert at_length.label == "efficient/eager L=128 normalisation=scaling"


def test_the_lead_figure_names_every_value_and_keeps_room_for_the_lines(swept: Any) -> None:
    ((_, figure),) = draw_scaling(swept, README)
    assert set(LABELS) <= {text.get_text() for text in figure.findobj(Text)}
    assert all(axes.get_position().width > 0.25 for axes in figure.axes)


def test_one_run_is_compared_by_value_and_a_value_may_be_the_reference(swept: Any) -> None:
    found = reference.compare_to_reference(swept, "knobby:latents latents=64", ["latency"])
    ratios = {
        item.row.label: item.speed_up.value for item in found if item.speed_up and item.row.seq_len == 256
    }
    assert math.isclose(ratios["knobby:latents/eager latents=8"], 8)
    assert math.isclose(ratios["knobby:latents/eager latents=256"], 1 / 4)
    records = comparison_report(found).records
    assert {record["hyperparameters"] for record in records} >= {None, "latents=64", "normalisation=scaling"}


def test_a_reference_that_names_several_values_is_refused_with_their_names(swept: Any) -> None:
    with pytest.raises(UsageError, match="3 of that name: .*latents=8, .*latents=64, .*; name one"):
        reference.compare_to_reference(swept, "knobby:latents")


def test_two_runs_are_matched_by_value(swept: Any, tmp_path: Path) -> None:
    other = made_up.write_run(
        tmp_path / "other",
        {made_up.case("efficient/eager", hyperparameters=SCALING): made_up.measured(3.0)},
    )
    found = {change.row.label: change.verdict for change in runs.compare_runs(swept, other)}
    assert found.pop("efficient/eager normalisation=scaling") == "slower"
    assert set(found.values()) == {"only in A"}


def test_a_bare_attention_whose_backend_depends_on_the_length_has_a_line_per_backend(tmp_path: Path) -> None:
    cases = plan("knobby:by_length,softmax/sdpa", seq_len="256:4k:x2").cases
    assert [case.backend for case in cases[:5]] == ["direct", "direct", "efficient", "efficient", "efficient"]
    run = made_up.write_run(tmp_path / "run", {case: made_up.measured(case.seq_len / 1e3) for case in cases})
    found = {line.label: (line.ok, line.longest.seq_len) for line in analysis.summary(run) if line.longest}
    assert found == {
        "softmax/sdpa": (5, 4096), "knobby:by_length/direct": (2, 512), "knobby:by_length/efficient": (3, 4096),
    }  # fmt: skip
    ((_, figure),) = draw_scaling(run, README)
    drawn = {line.get_label(): list(line.get_xdata()) for line in figure.axes[0].lines}  # type: ignore[arg-type]
    assert drawn["knobby:by_length/direct"] == [256, 512]
    assert drawn["knobby:by_length/efficient"] == [1024, 2048, 4096]


# Live


def compared(a: str, b: str, *hp: str, **flags: str) -> live.LiveComparison:
    return live.plan(a, b, {**SMALL, "hp": config.as_text(list(hp)), **flags}, 0.05)


def pairs(a: str, b: str, *hp: str, **flags: str) -> set[tuple[str | None, str | None]]:
    return {(pair.a.knobs, pair.b.knobs) for pair in compared(a, b, *hp, **flags).pairs}


def test_a_knob_of_one_side_varies_on_that_side() -> None:
    assert pairs("linear", "knobby:latents", "latents=1,2") == {(None, "latents=1"), (None, "latents=2")}
    assert pairs("knobby:latents", "linear", "latents=1,2") == {("latents=1", None), ("latents=2", None)}


def test_a_knob_of_both_sides_is_compared_at_equal_values() -> None:
    assert pairs("knobby:latents", "knobby:windowed", "latents=1,2", "window=4") == {
        ("latents=1", "latents=1;window=4"), ("latents=2", "latents=2;window=4"),
    }  # fmt: skip
    assert pairs("knobby:latents", "knobby:latents", "latents=1,2") == {(f"latents={n}",) * 2 for n in (1, 2)}


def test_a_knob_asked_for_of_one_attention_alone_is_compared_each_with_each() -> None:
    found = pairs(
        "knobby:latents", "knobby:windowed", "knobby:latents.latents=1,2", "knobby:windowed.latents=3"
    )
    assert found == {("latents=1", "latents=3"), ("latents=2", "latents=3")}
    assert len(pairs("knobby:latents", "knobby:windowed", "knobby:latents.latents=1,2", "latents=3")) == 2
    assert pairs("knobby:latents", "knobby:latents", "knobby:latents.latents=1,2") == {
        (f"latents={n}",) * 2 for n in (1, 2)
    }


def test_live_a_knob_of_neither_side_and_all_are_refused() -> None:
    with pytest.raises(UsageError, match="none of linear, softmax has a hyperparameter 'latents'"):
        pairs("linear", "softmax", "latents=1")
    with pytest.raises(UsageError, match="compare --live all: compares one impl with one other"):
        pairs("all", "softmax")


def reported(comparison: live.LiveComparison) -> Any:
    comparison.results = [live.PairResult(pair, Skipped("oom", "no room"), "B") for pair in comparison.pairs]
    return pair_tables.live_report(comparison)


def test_the_live_table_has_a_column_for_knobs_that_vary_and_a_title_for_those_that_do_not() -> None:
    (table,) = reported(compared("linear", "knobby:latents", "latents=9,64,256")).tables
    assert [column.title for column in table.columns][:2] == ["hyperparameters", "L"]
    assert [row[0] for row in table.rows] == ["latents=9", "latents=64", "latents=256"]
    assert "B = knobby:latents/eager:" in table.title
    (table,) = reported(compared("linear", "knobby:latents", "latents=9")).tables
    assert [column.title for column in table.columns][:1] == ["L"]
    assert "A = linear/eager, B = knobby:latents/eager latents=9:" in table.title


def test_the_live_table_and_records_tell_the_sides_apart() -> None:
    report = reported(compared("knobby:latents", "knobby:windowed", "latents=1,2", "window=4"))
    (table,) = report.tables
    assert [row[0] for row in table.rows] == [
        "A latents=1, B latents=1 window=4", "A latents=2, B latents=2 window=4",
    ]  # fmt: skip
    out = io.StringIO()
    from rich.console import Console

    render.show(report, "csv", Console(file=out, width=80))
    records = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [(each["hyperparameters_a"], each["hyperparameters_b"]) for each in records] == [
        ("latents=1", "latents=1;window=4"), ("latents=2", "latents=2;window=4"),
    ]  # fmt: skip


def test_the_live_progress_names_the_knobs_of_both_sides() -> None:
    from rich.console import Console

    comparison = compared("efficient", "ea-series/eager", "normalisation=scaling,softmax", order="2")
    progress = LiveProgress(comparison, Console(file=io.StringIO()))
    assert {progress._describe(pair) for pair in comparison.pairs} == {
        f"ea-series/eager t=2 L=128 D=64 B=1, A normalisation={word}" for word in ("scaling", "softmax")
    }
