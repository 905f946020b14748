"""The tables of a quality run: what stands in them, that they fit, that sentences and tables say the same."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import cases, write_run
from made_up_quality import FASHION, JPEG, Score, add, open_run, write_quality
from rich.console import Console

from elattn_bench.errors import RunDirError, UsageError
from elattn_bench.quality.rundir import QualityRun, read_quality
from elattn_bench.results import Skipped
from elattn_bench.rundir import Run
from elattn_bench.tables.quality import quality_report
from elattn_bench.tables.quality_scores import count_text
from elattn_bench.tables.render import FORMATS, Report, Table, show

LONG: Mapping[str, Score] = {
    "softmax": 0.41, "ea-series t=2": 0.42, "ea-series t=6": 0.44, "mean": 0.42, "repeat-last": 1.2,
    "ea-series/fused t=6 scale=0.5 qk-norm=rms": 0.405, "linear": Skipped("error", "loss is nan at step 12"),
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> QualityRun:
    path = tmp_path_factory.mktemp("quality") / "run"
    with open_run(path, {"cifar10": JPEG}) as made_up:
        add(made_up, "fashion-mnist", FASHION)
        add(made_up, "cifar10", {"vgg": 0.8, "hadamard-net-50": 0.5, "conv-50": 0.7})
        add(made_up, "etth1-96", LONG)
        text = {"softmax": 2.1, "ea-series t=6": 2.2, "bigram": 3.4}
        add(made_up, "shakespeare", text, causal=True, longer={"@512": 0.99, "@1024": 1.1})
    return read_quality(path)


def _report(run: QualityRun, reference: str | None = None, sweep: Run | None = None) -> Report:
    return quality_report(run, reference, sweep)


def _table(report: Report, title: str) -> Table:
    return next(table for table in report.tables if table.title.startswith(title))


def _cells(table: Table, column: str) -> dict[str, str]:
    (place,) = [i for i, each in enumerate(table.columns) if each.title == column]
    return {row[0]: row[place] for row in table.rows}


def _shown(report: Report, format: str, width: int = 80) -> str:
    file = io.StringIO()
    show(report, format, Console(file=file, width=width))
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_every_line_fits_the_terminal_and_no_cell_is_cut(run: QualityRun, width: int) -> None:
    report = _report(run)
    text = _shown(report, "table", width)

    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for table in report.tables:
        if not any(column.wraps for column in table.columns):
            assert all(cell in text for row in table.rows for cell in row)


def test_a_sentence_has_the_numbers_of_the_tables(run: QualityRun) -> None:
    report = _report(run, "vgg")

    sentence = next(each for each in report.lead if "hadamard-net-3" in each)
    scores = _table(report, "fashion-mnist, non-causal: higher")
    for column, model in (
        ("of vgg", "hadamard-net-3"),
        ("interval", "hadamard-net-3"),
        ("of vgg", "mlp (floor)"),
    ):
        assert _cells(scores, column)[model] in sentence
    assert _cells(scores, "of its params")["hadamard-net-3"] in sentence
    ratio = _cells(_table(report, "Claims, task by task"), "% of reference")["92 % on Fashion-MNIST"]
    assert ratio.replace(" [", " % [") in sentence


def test_the_score_has_its_spread_and_the_reference_is_100_per_cent(run: QualityRun) -> None:
    table = _table(_report(run), "fashion-mnist, non-causal: higher")

    assert _cells(table, "accuracy %")["softmax"] == "88.50"
    assert _cells(table, "sd")["softmax"] == "0.20"
    assert _cells(table, "of softmax")["softmax"] == "100.0 %"
    assert _cells(table, "interval")["softmax"] == "-"
    assert _cells(table, "params")["vgg"] == "882k"
    assert "3 seeds, 10 epochs" in table.title


def test_the_best_and_its_equals_are_marked_whatever_is_better(tmp_path: Path) -> None:
    made_up: Mapping[str, Mapping[str, Score]] = {
        "fashion-mnist": {"softmax": 0.90, "linear": 0.8995, "efficient": 0.85},
        "etth1-96": {"softmax": 0.40, "linear": 0.3995, "efficient": 0.45},
    }
    report = _report(write_quality(tmp_path / "run", made_up))

    for title in ("fashion-mnist, non-causal: higher", "etth1-96, non-causal: lower"):
        table = _table(report, title)
        assert {table.rows[row][0] for row, _ in table.best} == {"softmax", "linear"}


def test_floors_are_marked_and_stand_last(run: QualityRun) -> None:
    names = [row[0] for row in _table(_report(run), "fashion-mnist, non-causal: higher").rows]

    floors = [name for name in names if name.endswith("(floor)")]
    assert floors == ["conv-3 (floor)", "mlp (floor)", "mean (floor)", "logistic (floor)"]
    assert names[-len(floors) :] == floors


def test_notes_say_what_failed_and_of_which_data_and_machine(run: QualityRun) -> None:
    notes = _report(run).notes

    assert "Failed: linear on etth1-96, non-causal, seeds 0, 1, 2 (error: loss is nan at step 12)." in notes
    assert f"Data of cifar10: {JPEG}." in notes
    assert "Trained on Made-up CPU 9000, 2 threads." in notes
    assert any(note.startswith("Verdicts: ") for note in notes)
    assert not any(note.startswith("One seed alone") for note in notes)


@pytest.mark.parametrize(
    ("busy", "jobs", "said"),
    [
        (0.497, 1, "; times are of a busy machine (others used 50 % of its CPU at the start)."),
        (0.05, 2, "; times are of a busy machine (2 models at once)."),
        (
            0.3,
            3,
            "; times are of a busy machine (others used 30 % of its CPU at the start; 3 models at once).",
        ),
        (0.10, 1, "."),
        (None, None, "."),
    ],
)
def test_times_of_a_busy_machine_are_called_so(
    run: QualityRun, busy: float | None, jobs: int | None, said: str
) -> None:
    environment = {**run.info["environment"], "cpu_busy_at_start": busy}
    notes = _report(
        replace(run, info={**run.info, "environment": environment, "config": {"jobs": jobs}})
    ).notes

    assert f"Trained on Made-up CPU 9000, 2 threads{said}" in notes


def test_tasks_that_do_not_count_are_told_in_the_table_of_claims_too(tmp_path: Path) -> None:
    tasks = {
        name: {"softmax": 0.4, "ea-series t=6": 0.4, "mean": mean}
        for name, mean in (("etth1-96", 0.4), ("etth2-96", 0.5))
    }
    report = _report(write_quality(tmp_path / "run", tasks, spread=0.0005))

    measured = _cells(_table(report, "Claims"), "measured")
    (claim,) = [name for name in measured if name.startswith("EA like SA, non-causal")]
    assert measured[claim] == "at least 98 % of softmax on 1 of 5 tasks; 1 task not counted"
    (record,) = [each for each in report.about["claims"] if each["claim"] == "EA like SA, non-causal"]
    reasons = {each["task"]: each["reason"] for each in record["findings"]}
    assert reasons["etth1-96"] == "mean, which does not attend, passes the bar as well"


def test_single_seeds_are_said_and_have_neither_spread_nor_interval(tmp_path: Path) -> None:
    report = _report(write_quality(tmp_path / "run", {"fashion-mnist": FASHION}, seeds=1))

    table = _table(report, "fashion-mnist")
    assert set(_cells(table, "sd").values()) == set(_cells(table, "interval").values()) == {"-"}
    assert any(note.startswith("One seed alone: all models.") for note in report.notes)


def test_a_few_test_examples_are_said(run: QualityRun, tmp_path: Path) -> None:
    few = replace(run, rows=[replace(row, test_examples=40) for row in run.rows])

    assert not any(note.startswith("Few test examples") for note in _report(run).notes)
    (note,) = [note for note in _report(few).notes if note.startswith("Few test examples")]
    assert "fashion-mnist has 40" in note
    assert "etth1-96" not in note


def test_orders_and_lengths_have_tables_where_there_are_several(run: QualityRun) -> None:
    report = _report(run)

    orders = _table(report, "etth1-96, non-causal: mse by order")
    assert orders.rows == [["ea-series", "0.4200 (0.0020)", "0.4400 (0.0020)"]]
    lengths = _table(report, "shakespeare, causal: bits per byte at other lengths")
    assert _cells(lengths, "as trained")["softmax"] == "2.1000 (0.0020)"
    assert _cells(lengths, "512")["softmax"].startswith("2.0790")
    assert _cells(lengths, "1024")["softmax"].startswith("2.3100")
    assert not [
        table for table in report.tables if table.title.startswith("shakespeare, causal: bits per byte by")
    ]


def test_a_sweep_gives_the_latency_of_each_attention_at_the_longest_length_of_all(
    run: QualityRun, tmp_path: Path
) -> None:
    impls = ("softmax/sdpa", "softmax/eager", "linear/eager", "ea-series/eager")
    measured = cases(impls, (1024, 4096, 16384, 32768), orders=(2, 6))
    report = _report(run, sweep=write_run(tmp_path / "sweep", measured))

    latency = _cells(_table(report, "fashion-mnist, non-causal: higher"), "latency at L = 16k")
    assert latency["linear"] == "32.8 ms"  # at 32k softmax runs out of memory
    assert latency["ea-series t=2"] == "65.5 ms"
    assert latency["softmax"] == "268 ms"  # eager was trained with, but has no case so long
    assert latency["vgg"] == latency["efficient"] == "-"
    assert any("softmax as softmax/sdpa" in note for note in report.notes)


def test_a_sweep_takes_the_backend_that_was_trained_with(run: QualityRun, tmp_path: Path) -> None:
    sweep = write_run(tmp_path / "sweep", cases(("softmax/sdpa", "softmax/eager"), (1024, 4096)))

    latency = _cells(
        _table(_report(run, sweep=sweep), "fashion-mnist, non-causal: higher"), "latency at L = 4k"
    )
    assert latency["softmax"] == "168 ms"


def test_a_sweep_without_the_form_is_said(run: QualityRun, tmp_path: Path) -> None:
    report = _report(run, sweep=write_run(tmp_path / "sweep", cases(("softmax/sdpa",), (1024,))))

    table = _table(report, "shakespeare, causal: lower")
    assert not [column for column in table.columns if column.title.startswith("latency")]
    assert any(note.startswith("For some tables the sweep has no") for note in report.notes)


def test_a_task_of_another_version_is_refused(run: QualityRun) -> None:
    other = replace(run, rows=[replace(row, task="imagenet") for row in run.rows])

    with pytest.raises(RunDirError, match="holds imagenet, which is no task of this elattn-bench"):
        _report(other)


def test_tasks_that_were_left_out_are_named(run: QualityRun) -> None:
    missing = {"etth2-96": "no ETTh2.csv.", "etth2-192": "no ETTh2.csv.", "shakespeare": "no plays."}
    notes = _report(replace(run, info={**run.info, "missing": missing})).notes

    assert "Left out: etth2-96, etth2-192: no ETTh2.csv." in notes
    assert "Left out: shakespeare: no plays." in notes


def test_an_unknown_reference_is_refused_with_those_that_there_are(run: QualityRun) -> None:
    with pytest.raises(UsageError, match=r"--reference sofmax: .*did you mean 'softmax'"):
        _report(run, "sofmax")


def test_a_reference_that_only_some_tasks_have_leaves_the_others_without_ratio(run: QualityRun) -> None:
    report = _report(run, "vgg")

    titles = [column.title for column in _table(report, "etth1-96, non-causal: lower").columns]
    assert not [title for title in titles if title.startswith("of ")]
    assert _cells(_table(report, "cifar10"), "of vgg")["hadamard-net-50"] == "62.5 %"


@pytest.mark.parametrize("format", FORMATS)
def test_all_formats_have_the_verdicts_and_scores(run: QualityRun, format: str) -> None:
    text = _shown(_report(run), format)

    assert "hadamard-net-3" in text
    if format != "csv":
        assert "Reproduced" in text
        assert re.search(r"93\.5 \\?% \[93\.0,\s94\.0\]", text)


def test_records_are_tidy_and_orient_the_ratio(run: QualityRun) -> None:
    records = list(csv.DictReader(io.StringIO(_shown(_report(run), "csv"))))

    by_key = {(each["task"], each["model"], each["metric"]): each for each in records}
    assert len(by_key) == len(records)
    ea = by_key["etth1-96", "ea-series t=6", "mse"]
    assert float(ea["ratio"]) == pytest.approx(0.41 / 0.44)
    assert float(ea["ratio_low"]) < float(ea["ratio"]) < float(ea["ratio_high"])
    assert (ea["reference"], ea["seeds"], ea["higher_is_better"]) == ("softmax", "3", "false")
    softmax = by_key["etth1-96", "softmax", "mse"]
    assert (softmax["ratio"], softmax["ratio_low"]) == ("1.0", "")
    assert by_key["shakespeare", "softmax", "bits_per_byte@512"]["mean"]


def test_json_has_every_claim_with_its_words_and_verdict(run: QualityRun) -> None:
    document = json.loads(_shown(_report(run), "json"))

    verdicts = {each["claim"]: each["verdict"] for each in document["claims"]}
    assert verdicts["92 % on Fashion-MNIST"] == "reproduced"
    assert verdicts["Scene Flow"] == "not testable here"
    assert all(each["text"] and each["sentence"] for each in document["claims"])


def test_claims_that_the_run_has_no_task_of_are_named_below_not_told(tmp_path: Path) -> None:
    report = _report(write_quality(tmp_path / "run", {"fashion-mnist": FASHION}))

    assert not any("2501.05730" in sentence for sentence in report.lead)
    (note,) = [note for note in report.notes if note.startswith("Not testable here: ")]
    assert "60 % on CIFAR-10 (2302.05488), EA like SA, non-causal (2501.05730)" in note
    assert "not in this run; boosts on MS-COCO (1812.01243): neither MS-COCO nor a detector is here" in note


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "-"), (0, "0"), (999, "999"), (7850, "7.85k"), (999_900, "1.00M"), (1_341_226, "1.34M")],
)
def test_parameters_are_counted_in_thousands(count: int | None, text: str) -> None:
    assert count_text(count) == text
