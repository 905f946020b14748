"""Figures of a quality run: what they show, that no texts overlap, that failures and floors are named."""

from __future__ import annotations

from pathlib import Path

import made_up_quality as made_up
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from test_figures import overflows, overlaps, texts_of

from elattn_bench.errors import UsageError
from elattn_bench.figures import quality
from elattn_bench.figures.look import README, Look, find_look
from elattn_bench.figures.quality import Beside
from elattn_bench.quality.claims import targets
from elattn_bench.quality.rundir import QualityRun, read_quality
from elattn_bench.results import Skipped

LOOKS = [
    ("paper", "readme"),
    ("paper", "single"),
    ("paper", "double"),
    ("slides", "slide"),
    ("dark", "readme"),
]
LONG: dict[str, made_up.Score] = {
    "ea-series t=6 scale=0.5 qk-norm=rms": 0.8833,
    "ea-series/fused t=6 scale=0.5 qk-norm=rms": 0.8834,
    "based": Skipped("oom", "too large"),
    "gla": [0.88, Skipped("timeout", "too slow"), 0.881],  # type: ignore[list-item]  # one seed fails
}
CLAIMED = Beside(tuple(targets("fashion-mnist")))


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> QualityRun:
    return made_up.write_quality(tmp_path_factory.mktemp("q") / "run", {"fashion-mnist": made_up.FASHION})


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> QualityRun:
    """Sixteen models with long names, failures, errors, both forms, several lengths."""
    path = tmp_path_factory.mktemp("q") / "crowded"
    with made_up.open_run(path, {"fashion-mnist": made_up.JPEG}) as run:
        made_up.add(run, "fashion-mnist", {**made_up.FASHION, **LONG})
        for causal in (False, True):
            errors = {"softmax": 0.31, "ea-series t=2": 0.33, "ea-series t=6": 0.32, "repeat-last": 1.3}
            made_up.add(run, "etth1-192", errors, causal=causal)
            made_up.add(run, "japanese-vowels", {"softmax": 0.97, "linear": 0.96, "mlp": 0.9}, causal=causal)
        bits = {"softmax": 1.9, "ea-series t=2": 2.0, "ea-series t=4": 1.96, "ea-series t=6": 1.95}
        made_up.add(run, "shakespeare", bits, causal=True, longer={"@512": 0.99, "@1024": 1.1})
    return read_quality(path)


def drawn(run: QualityRun, kind: str, beside: Beside = CLAIMED, look: Look = README) -> dict[str, Figure]:
    return dict(quality.draw(run, kind, look, beside))


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in texts_of(figure)).replace("\u00a0", " ")


def marks_of(axes: Axes) -> dict[str, tuple[float, float]]:
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    return {
        label: (float(np.asarray(line.get_xdata())[0]), float(np.asarray(line.get_ydata())[0]))
        for label, line in lines.items()
        if not label.startswith("_")
    }


@pytest.mark.parametrize(("style", "size"), LOOKS)
@pytest.mark.parametrize("kind", list(quality.KINDS))
def test_no_texts_overlap_or_leave_the_figure(crowded: QualityRun, kind: str, style: str, size: str) -> None:
    latency = {"softmax": 1.0, "ea-series t=6": 3.0, "linear": 0.5}
    beside = Beside(CLAIMED.targets, latency, "latency at L=4k")
    figures = drawn(crowded, kind, beside, find_look(style, size))
    assert figures
    for figure in figures.values():
        assert overlaps(figure) == []
        assert overflows(figure) == []


def test_every_model_stands_at_its_parameters_and_mean_score(fashion: QualityRun) -> None:
    (figure,) = drawn(fashion, "quality").values()
    marks = marks_of(figure.axes[0])
    assert marks.keys() == made_up.FASHION.keys()
    for model, score in made_up.FASHION.items():
        assert marks[model] == pytest.approx((made_up.PARAMS.get(model, made_up.TRANSFORMER), score))


def test_panels_share_the_axis_of_the_score(fashion: QualityRun) -> None:
    (figure,) = drawn(fashion, "quality").values()
    assert len(figure.axes) == 3
    assert len({axes.get_ylim() for axes in figure.axes}) == 1


def test_a_claim_is_a_share_of_the_reference_as_measured(fashion: QualityRun) -> None:
    (figure,) = drawn(fashion, "quality").values()
    dashed = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "--"]
    level, bound = dashed
    assert np.asarray(level.get_ydata())[0] == pytest.approx(0.92 * 0.925)
    assert np.asarray(bound.get_xdata())[0] == pytest.approx(0.03 * made_up.PARAMS["vgg"])
    assert "claimed: 92 % of vgg at 3 % of its parameters (2302.05488)" in words(figure)


def test_without_the_reference_there_is_no_claim(tmp_path: Path) -> None:
    scores = {model: made_up.FASHION[model] for model in ("softmax", "linear")}
    (figure,) = drawn(made_up.write_quality(tmp_path / "r", {"fashion-mnist": scores}), "quality").values()
    assert "claimed" not in words(figure)


def test_a_joined_sweep_is_a_fourth_panel_of_the_models_it_holds(fashion: QualityRun) -> None:
    beside = Beside(latency_ms={"softmax": 2.0, "linear": 1.0}, latency_label="latency at L=4k")
    (figure,) = drawn(fashion, "quality", beside).values()
    assert {model: x for model, (x, _) in marks_of(figure.axes[3]).items()} == {"softmax": 2.0, "linear": 1.0}
    assert figure.axes[3].get_xlabel() == "latency at L=4k"


def test_what_failed_is_named_with_its_reason(crowded: QualityRun) -> None:
    text = words(drawn(crowded, "quality")["quality-fashion-mnist-full"])
    assert "Failed: based (oom), gla (1 of 3 seeds: timeout)." in text
    assert made_up.JPEG in text


def test_a_floor_far_off_is_told_and_leaves_the_axis_to_the_others(crowded: QualityRun) -> None:
    figure = drawn(crowded, "quality")["quality-etth1-192-causal"]
    assert "Off the axis: repeat-last (1.30)." in words(figure)
    assert figure.axes[0].get_ylim()[1] < 0.4


def test_errors_say_that_lower_is_better(crowded: QualityRun) -> None:
    for kind in ("quality", "curves"):
        assert "lower is better" in words(drawn(crowded, kind)[f"{kind}-etth1-192-full"])


def test_one_seed_has_no_spread_and_says_so(tmp_path: Path) -> None:
    run = made_up.write_quality(tmp_path / "r", {"fashion-mnist": made_up.FASHION}, seeds=1)
    (figure,) = drawn(run, "quality").values()
    assert "One seed: no spread is known." in words(figure)


def test_curves_are_means_over_seeds_in_bands(fashion: QualityRun) -> None:
    (figure,) = drawn(fashion, "curves").values()
    axes = figure.axes[0]
    lines = {str(line.get_label()): np.asarray(line.get_ydata(), float) for line in axes.get_lines()}
    assert len(lines) == 10  # the best ones, floors last
    assert lines["softmax"][-1] == pytest.approx(0.885)
    assert len(lines["softmax"]) == 10
    assert len(axes.collections) == len(lines)


def test_models_trained_for_one_epoch_have_no_curve(tmp_path: Path) -> None:
    run = made_up.write_quality(tmp_path / "r", {"fashion-mnist": made_up.FASHION}, epochs=1)
    assert drawn(run, "curves") == {}


def test_orders_are_one_line_beside_the_band_of_softmax(crowded: QualityRun) -> None:
    (figure,) = drawn(crowded, "orders").values()
    axes = next(axes for axes in figure.axes if axes.get_title(loc="left") == "shakespeare, causal")
    (line,) = [line for line in axes.get_lines() if line.get_label() == "ea-series"]
    assert list(line.get_xdata()) == [2, 4, 6]  # type: ignore[arg-type]
    assert np.asarray(line.get_ydata()) == pytest.approx([2.0, 1.96, 1.95])
    assert {"ea-series", "softmax"} <= set(words(figure).split())


def test_lengths_begin_with_the_one_trained_on(crowded: QualityRun) -> None:
    (figure,) = drawn(crowded, "lengths").values()
    (axes,) = figure.axes
    line = next(line for line in axes.get_lines() if line.get_label() == "softmax")
    assert list(line.get_xdata()) == [256, 512, 1024]  # type: ignore[arg-type]
    assert np.asarray(line.get_ydata()) == pytest.approx([1.9, 1.9 * 0.99, 1.9 * 1.1])
    assert "length trained on" in words(figure)


def test_the_overview_has_ratios_above_a_hundred_where_the_model_is_better(tmp_path: Path) -> None:
    scores = {
        "fashion-mnist": {"softmax": 0.8, "linear": 0.88},
        "etth1-96": {"softmax": 0.4, "linear": 0.5},
    }
    (figure,) = drawn(made_up.write_quality(tmp_path / "r", scores), "overview").values()
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["100.0", "100.0", "110.0", "80.0"]


def test_seeds_that_overlap_are_not_told_apart(tmp_path: Path) -> None:
    near = {task: {"softmax": 0.8, "linear": 0.801} for task in ("fashion-mnist", "cifar10")}
    (figure,) = drawn(made_up.write_quality(tmp_path / "r", near), "overview").values()
    assert "~100.1" in words(figure)


def test_scores_of_the_validation_part_have_a_figure_of_their_own(tmp_path: Path) -> None:
    with made_up.open_run(tmp_path / "r") as run:
        made_up.add(run, "fashion-mnist", {"softmax": 0.8, "linear": 0.7})
        made_up.add(run, "fashion-mnist", {"softmax": 0.9, "linear": 0.85}, split="validation")
    figures = drawn(read_quality(tmp_path / "r"), "quality")
    assert list(figures) == ["quality-fashion-mnist-full", "quality-fashion-mnist-full-validation"]
    means = [marks_of(figure.axes[0])["softmax"][1] for figure in figures.values()]
    assert means == pytest.approx([0.8, 0.9])
    assert "judged on validation" in words(figures["quality-fashion-mnist-full-validation"])


def test_floors_without_attention_stand_beside_the_causal_form_too(tmp_path: Path) -> None:
    with made_up.open_run(tmp_path / "r") as run:
        made_up.add(run, "etth1-96", {"softmax": 0.4, "nlinear": 0.42})
        made_up.add(run, "etth1-96", {"softmax": 0.41}, causal=True)
    figure = drawn(read_quality(tmp_path / "r"), "quality")["quality-etth1-96-causal"]
    assert marks_of(figure.axes[0]).keys() == {"softmax", "nlinear"}


def test_all_that_the_run_has_data_for_becomes_files_and_twice_the_same(
    fashion: QualityRun, tmp_path: Path
) -> None:
    once = quality.plot(fashion, out_dir=tmp_path / "a")
    twice = quality.plot(fashion, out_dir=tmp_path / "b")
    assert [path.name for path in once] == ["quality-fashion-mnist-full.png", "curves-fashion-mnist-full.png",
                                            "orders.png"]  # fmt: skip
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in twice]


def test_a_kind_without_data_is_an_error_that_says_what_it_needs(fashion: QualityRun, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="--kind lengths: run run has nothing to draw: it needs scores at other"
    ):
        quality.plot(fashion, ["lengths"], out_dir=tmp_path)
