"""What ``elattn-bench project`` says and draws: nothing projected is called measured, and everything can be read."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simulated_ranks as simulated
from matplotlib.figure import Figure
from test_figures import lines_of, overflows, overlaps, texts_of
from typer.testing import CliRunner, Result

from elattn_bench.axis import Axis
from elattn_bench.cli import app
from elattn_bench.figures.look import Look, find_look
from elattn_bench.figures.projection import apart, draw, padded, span_tick, span_ticks
from elattn_bench.projection.model import project
from elattn_bench.rundir import Run, read_run
from elattn_bench.tables import projection
from elattn_bench.units import format_length, format_span

M, G = 2**20, 2**30
ONE = ("--where", "mode=forward,causal=false")  # setting
LOOKS = [
    find_look(),
    find_look(size="single"),
    find_look(size="double"),
    find_look("slides"),
    find_look("dark"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    found = simulated.cases(modes=("forward", "train"), masks=(False, True))
    return simulated.write_run(tmp_path_factory.mktemp("told") / "run", found, slower=1.25)


def elattn(*words: object) -> Result:
    return CliRunner().invoke(
        app, ["project", *map(str, words)], env={"COLUMNS": "80"}, catch_exceptions=False
    )


def figure_of(run: Run, link: str | None = None) -> Figure:
    found = project(run, [M, G], [8, 64, 512], link, memory=20 * 2**30)
    return dict(draw(run, found))["projection-op-forward-float32-full"]


def words_of(figure: Figure) -> str:
    return " ".join(text.get_text() for text in texts_of(figure))


# Lengths and times for people


@pytest.mark.parametrize(
    ("text", "values"), [("1M,1G", (M, G)), ("512k:2M:x2", (M // 2, M, 2 * M)), ("1,8", (1, 8))]
)
def test_an_axis_knows_mega_and_giga_as_it_knows_kilo(text: str, values: tuple[int, ...]) -> None:
    assert Axis.parse("tokens", text).values == values
    assert [Axis.parse("tokens", format_length(value)).values for value in values] == [(v,) for v in values]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.2e-5, "42.0 us"),
        (0.5, "500 ms"),
        (99, "99.0 s"),
        (300, "5.0 min"),
        (7200, "2.0 h"),
        (6e9, "190 yr"),
        (3.54e10, "1100 yr"),
    ],
)
def test_any_time_has_a_unit_of_its_size(seconds: float, text: str) -> None:
    assert format_span(seconds) == text


@pytest.mark.parametrize(("low", "high"), [(1e-4, 1e-2), (0.5, 4e9), (1.0, 3.0), (1e3, 2e3), (1e12, 1e16)])
def test_ticks_of_time_lie_within_and_each_says_another_time(low: float, high: float) -> None:
    ticks = span_ticks(low, high)
    assert 1 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
    assert len(set(map(span_tick, ticks))) == len(ticks)


def test_ranks_whose_labels_would_touch_give_way_to_those_that_come_first() -> None:
    assert apart([512, 64, 8, 1, 2, 4], (1, 512), room=6) == [1, 8, 64, 512]
    assert apart([7], (7, 7), room=6) == [7]


def test_an_axis_reaches_beyond_its_outermost_values() -> None:
    low, high = padded(1, 512)
    assert low < 1 < 512 < high
    assert padded(8, 8)[0] < 8 < padded(8, 8)[1]


# The figure


def test_what_is_projected_is_dashed_and_what_was_measured_solid(run: Run) -> None:
    times, traffic = figure_of(run).axes
    for axes in (times, traffic):
        styles = {str(line.get_label()): line.get_linestyle() for line in axes.get_lines()}
        assert styles["_projected linear/eager"] == "--"
        assert styles["_measured linear/eager"] == "-"


def test_the_points_are_the_models_and_the_rows(run: Run) -> None:
    found = project(run, [M, G], [8, 64, 512])
    (times, traffic) = dict(draw(run, found))["projection-op-forward-float32-full"].axes
    own = [
        each
        for each in found.projections
        if (each.line.label, each.tokens, each.line.facet.setting.file_part)
        == ("ea-series/fused t=6", G, "op-forward-float32-full")
    ]
    lines = {str(line.get_label()): np.asarray(line.get_ydata(), float) for line in times.get_lines()}
    assert lines["_projected ea-series/fused t=6"] == pytest.approx([each.seconds for each in own])
    assert len(lines["_measured ea-series/fused t=6"]) == 3
    received = {str(line.get_label()): np.asarray(line.get_ydata(), float) for line in traffic.get_lines()}
    assert set(received["_projected ea-series/fused t=6"]) == set(received["_measured ea-series/fused t=6"])


def test_marks_are_filled_where_measured_and_hollow_where_projected(run: Run) -> None:
    """Also of a single number of ranks, where no dashes tell."""
    look = find_look()
    for ranks in ([2], [8, 64]):
        times = dict(draw(run, project(run, [M], ranks)))["projection-op-forward-float32-full"].axes[0]
        lines = {str(line.get_label()): line for line in times.get_lines()}
        projected, measured = lines["linear/eager"], lines["_measured linear/eager"]
        assert projected.get_markerfacecolor() == look.ground
        assert measured.get_markerfacecolor() == measured.get_color() != look.ground
        assert projected.get_marker() == measured.get_marker()


def test_what_does_not_fit_is_crossed_out(run: Run) -> None:
    times = figure_of(run).axes[0]
    crosses = {str(line.get_label()): line for line in times.get_lines()}["_unfit linear/eager"]
    assert crosses.get_marker() == "x"
    assert list(np.asarray(crosses.get_xdata())) == [8, 64]
    assert "over 20.0 GiB a rank" in words_of(figure_of(run))
    assert len(lines_of(times)["linear/eager"]) == 3


def test_the_figure_says_which_lengths_are_measured_and_which_links_are_assumed(run: Run) -> None:
    words = words_of(figure_of(run))
    assert "measured, L = 256k" in words
    assert "projected, L = 1G" in words
    assert "assumed" not in words
    assert "links assumed" in words_of(figure_of(run, link="5us,50GB/s"))


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: f"{look.style}-{look.size}")
def test_texts_neither_overlap_nor_leave_the_figure(run: Run, look: Look) -> None:
    for figure in dict(draw(run, project(run, [M, G], [1, 8, 64, 512]), look)).values():
        assert overlaps(figure) == []
        assert overflows(figure) == []


def test_one_number_of_ranks_and_a_run_without_measured_ranks_are_drawn_too(tmp_path: Path) -> None:
    run = simulated.write_run(tmp_path / "run", simulated.cases(ranks=[None]), timed=[])
    found = project(run, [M], [8], "5us,50GB/s")
    (figure,) = dict(draw(run, found)).values()
    assert "Nothing was measured over ranks" in words_of(figure)
    assert overlaps(figure) == []


# The tables


def test_the_checks_stand_before_what_is_projected(run: Run) -> None:
    titles = [table.title for table in projection.projection_report(project(run, [M], [8])).tables]
    assert titles[0].startswith("Checked")
    assert titles[1] == "Links: measured"
    assert all(title.startswith("Projected to 1M tokens: op, ") for title in titles[2:])


def test_the_notes_say_what_was_checked_and_what_is_extrapolated(run: Run) -> None:
    notes = projection.notes(project(run, [M], [8]))
    # Four settings, three lines, four lengths, at two and four ranks.
    assert (
        "Over ranks it was checked on 96 rows, up to 4 ranks and L = 4k to 256k; all beyond is extrapolated."
        in notes
    )


@pytest.mark.parametrize(("masks", "is_said"), [((False, True), True), ((True,), True), ((False,), False)])
def test_without_the_work_of_ranks_the_second_pass_is_said_to_be_missing(
    run: Run, masks: tuple[bool, ...], is_said: bool
) -> None:
    rows = [row for row in run.rows if row.causal in masks]
    found = project(replace(run, rows=rows), [M], [8])
    (note,) = projection.of_one_notes(found.lines)
    assert note in projection.notes(found)
    assert note.startswith("Work over ranks was not measured (no work_ms), so it is taken from one rank's: ")
    assert ("second pass over keys and values" in note) is is_said


def test_with_the_work_of_ranks_nothing_is_said_to_be_missing(tmp_path: Path) -> None:
    run = simulated.write_run(tmp_path / "run", simulated.cases(masks=[True]), has_work=True)
    assert projection.of_one_notes(project(run, [M], [8]).lines) == []


def test_exchange_that_nobody_timed_is_marked_where_it_is_most_of_the_time(tmp_path: Path) -> None:
    run = simulated.write_run(tmp_path / "run", simulated.cases(["linear/eager"]), has_work=True)
    few, many = map(projection.share_text, project(run, [4096], [2, 512]).projections)
    assert (few[-1], many[-2:]) == ("%", "%?")


def test_the_algorithms_of_the_links_are_named(run: Run) -> None:
    for link, algorithm in ((None, "ring"), ("5us,50GB/s", "two trees")):
        report = projection.projection_report(project(run, [M], [8], link=link))
        assert [row[1] for row in report.tables[1].rows] == [algorithm, "doubling", "direct", "direct"]


def test_a_run_that_checks_nothing_over_ranks_says_so(tmp_path: Path) -> None:
    run = simulated.write_run(tmp_path / "run", simulated.cases(ranks=[None], lengths=[4096, 8192]), timed=[])
    notes = projection.notes(project(run, [M], [8], "5us,50GB/s"))
    assert any(note.startswith("No interval where nothing like it was checked") for note in notes)
    assert any(
        note.startswith("Without rows of --ranks 1, fitted to sequences in one piece: ") for note in notes
    )
    assert any(
        note.startswith("The links are assumed (--link)") and "NCCL's double binary tree" in note
        for note in notes
    )


def test_an_assumed_link_is_in_every_title_and_record_and_no_measured_one(run: Run) -> None:
    report = projection.projection_report(project(run, [M], [8], link="5us,50GB/s"))
    assert all("links assumed" in table.title for table in report.tables[2:])
    assert report.tables[1].title == "Links: assumed"
    assert {record["link"] for record in report.records} == {"assumed"}


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (1e-5, "<0.1 %"), (0.012, "1.2 %"), (0.999, "100 %")]
)
def test_a_share_is_never_rounded_to_nothing(share: float, text: str) -> None:
    assert projection.percent(share) == text


# The command


def test_the_command_shows_tables_within_80_columns_and_draws(run: Run) -> None:
    done = elattn(run.path, "--ranks", "8,64,512", "--tokens", "1G", "--where", "mode=forward")
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "(1 of " not in done.stdout
    assert (run.path / "plots" / "projection-op-forward-float32-causal.png").is_file()


def test_every_format_is_one_document(run: Run, tmp_path: Path) -> None:
    words = (run.path, "--ranks", "8,64", "--tokens", "1M,1G", *ONE, "-o", tmp_path)
    documents = {name: elattn(*words, "--format", name) for name in ("markdown", "latex", "csv", "json")}
    records = list(csv.DictReader(io.StringIO(documents["csv"].stdout)))
    assert len(records) == 3 * 2 * 2
    assert {record["kind"] for record in records} == {"projected"}
    document = json.loads(documents["json"].stdout)
    assert [record["time_s"] for record in document["records"]] == [float(each["time_s"]) for each in records]
    errors = [check["error"] for check in document["checks"] if check["of"] == "ranks"]
    assert errors == pytest.approx([0.8] * 3 * 4 * 2, rel=1e-5)
    assert documents["markdown"].stdout.startswith("**Checked")
    assert r"\caption{Projected to 1G tokens" in documents["latex"].stdout


def test_figures_go_where_they_are_told_in_the_formats_asked_for(run: Run, tmp_path: Path) -> None:
    done = elattn(
        run.path,
        "--where",
        "mode=forward,causal=false",
        "-o",
        tmp_path,
        "--figure",
        "svg,pdf",
        "--size",
        "single",
    )
    assert done.exit_code == 0
    stem = "projection-op-forward-float32-full"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{stem}.pdf", f"{stem}.svg"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tokens", "1T"], "--tokens 1T: '1T' is not a positive whole number"),
        (["--tokens", "2G"], "the largest is 1G"),
        (["--ranks", "0"], "--ranks 0: 0 is too small"),
        (["--link", "fast"], "--link fast: is not a link"),
        (["--memory", "much"], "--memory much: 'much' is not a memory limit"),
        (["--figure", "gif"], "gif"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_rule(run: Run, words: list[str], message: str) -> None:
    with pytest.raises(Exception, match=message):
        elattn(run.path, *words)


def test_a_share_of_memory_that_nobody_knows_is_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "run"
    simulated.write_run(path, simulated.cases())
    info = json.loads((path / "run.json").read_text())
    del info["environment"]["memory_bytes"]
    (path / "run.json").write_text(json.dumps(info))
    assert read_run(path).rows
    with pytest.raises(Exception, match="--memory 50%: the run does not say how much its machine has"):
        elattn(path, "--memory", "50%", "-o", tmp_path)
