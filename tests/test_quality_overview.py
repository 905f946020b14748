"""All tasks at a glance: which ratio stands where, which are told apart, which models have a column."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from made_up_quality import Score, add, open_run, write_quality

from elattn_bench.quality.overview import UNCLEAR, Overview, overviews
from elattn_bench.quality.rundir import read_quality
from elattn_bench.quality.scores import TaskFacet, scores
from elattn_bench.tables.quality import quality_report
from elattn_bench.tables.render import Table

TASKS: Mapping[str, Mapping[str, Score]] = {
    "fashion-mnist": {
        "softmax": 0.8, "linear": 0.88, "efficient": 0.8005, "vgg": 0.9, "mlp": 0.84, "logistic": 0.76,
    },
    "etth1-96": {"softmax": 0.4, "linear": 0.5, "efficient": 0.4},
    "etth2-96": {"softmax": 0.4, "linear": 0.5, "repeat-last": 0.8},
}  # fmt: skip
IMAGES, SERIES = TaskFacet("fashion-mnist", causal=False), TaskFacet("etth1-96", causal=False)


def _overview(path: Path, tasks: Mapping[str, Mapping[str, Score]] = TASKS, seeds: int = 3) -> Overview:
    (found,) = overviews(scores(write_quality(path, tasks, seeds=seeds).rows))
    return found


def _table(path: Path) -> Table:
    return quality_report(read_quality(path), None).tables[0]


def test_a_ratio_above_1_is_better_whatever_the_metric(tmp_path: Path) -> None:
    cells = _overview(tmp_path / "run").cells

    assert cells["linear", IMAGES].words == "110.0"
    assert cells["linear", SERIES].words == "80.0"
    assert cells["softmax", SERIES].words == "100.0"


def test_what_the_seeds_cannot_tell_apart_is_marked_and_a_single_seed_always(tmp_path: Path) -> None:
    assert _overview(tmp_path / "three").cells["efficient", IMAGES].words == "~100.1"
    assert _overview(tmp_path / "one", seeds=1).cells["linear", IMAGES].words == "~110.0"


def test_the_reference_is_first_floors_are_last(tmp_path: Path) -> None:
    models = [score.model for score in _overview(tmp_path / "run").models]

    assert models == ["softmax", "efficient", "linear", "vgg", "mlp", "logistic", "repeat-last"]


def test_a_part_has_its_own_tasks_and_models_alone(tmp_path: Path) -> None:
    part = _overview(tmp_path / "run").part([SERIES])

    assert part.facets == [SERIES]
    assert [score.model for score in part.models] == ["softmax", "efficient", "linear"]


def test_tasks_without_softmax_are_compared_with_vgg_apart(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        add(run, "fashion-mnist", {"softmax": 0.8, "linear": 0.8})
        add(run, "cifar10", {"vgg": 0.8, "mlp": 0.4})
        add(run, "etth1-96", {"nlinear": 0.4})
    found = overviews(scores(read_quality(tmp_path / "run").rows))

    assert [(each.reference, [facet.task for facet in each.facets]) for each in found] == [
        ("softmax", ["fashion-mnist"]), ("vgg", ["cifar10"]),
    ]  # fmt: skip


def test_a_score_of_0_has_no_ratio(tmp_path: Path) -> None:
    tasks: Mapping[str, Mapping[str, Score]] = {
        "mqar": {"softmax": 0.9, "linear": [0.0, 0.0], "efficient": 0.8}
    }
    cells = _overview(tmp_path / "run", tasks).cells

    assert {model for model, _ in cells} == {"softmax", "efficient"}


def test_the_report_begins_with_it_where_there_are_several_tasks(tmp_path: Path) -> None:
    write_quality(tmp_path / "several", TASKS)
    write_quality(tmp_path / "one", {"fashion-mnist": TASKS["fashion-mnist"]})

    assert _table(tmp_path / "several").title.startswith("All tasks: scores in % of softmax's")
    assert not _table(tmp_path / "one").title.startswith("All tasks")


def test_its_columns_are_the_models_of_most_tasks_and_the_best_floor(tmp_path: Path) -> None:
    write_quality(tmp_path / "run", TASKS)
    table = _table(tmp_path / "run")

    assert [column.title for column in table.columns] == [
        "task",
        "softmax",
        "efficient",
        "linear",
        "best floor",
    ]
    assert [list(row) for row in table.rows] == [
        ["fashion-mnist, non-causal", "80.0 %", "~100.1", "110.0", "mlp 105.0"],
        ["etth1-96, non-causal", "mse 0.400", "~100.0", "80.0", "-"],
        ["etth2-96, non-causal", "mse 0.400", "-", "80.0", "repeat-last 50.0"],
    ]


def test_the_mark_is_explained_where_it_stands(tmp_path: Path) -> None:
    apart = {task: {"softmax": 0.8, "linear": 0.5} for task in ("fashion-mnist", "cifar10")}
    marked, plain = (
        quality_report(write_quality(tmp_path / name, tasks), None)
        for name, tasks in (("marked", TASKS), ("plain", apart))
    )

    assert any(UNCLEAR in note for note in marked.notes)
    assert not any(UNCLEAR in note for note in plain.notes)
