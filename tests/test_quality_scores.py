"""Scores over seeds: means, intervals, ratios that are above 1 where a model is better; families and their order."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from scipy import stats

from elattn_bench.quality.ratios import mean_interval, ratio_of_means, seeds_to_decide
from elattn_bench.quality.rundir import QualityRun
from elattn_bench.quality.scores import Score, TaskFacet, facets, of_facet, ratio, scores
from elattn_bench.results import Skipped
from tests import made_up_quality
from tests.made_up_quality import add, open_run, write_quality

ABOVE, BELOW = (0.87, 0.88, 0.865), (0.92, 0.93, 0.925)


def _found(run: QualityRun) -> list[Score]:
    return scores(run.rows)


def test_the_interval_of_a_mean_is_student_s() -> None:
    found = mean_interval(ABOVE)

    low, high = stats.t.interval(0.95, 2, statistics.fmean(ABOVE), stats.sem(ABOVE))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high))


def test_one_seed_has_no_interval() -> None:
    assert mean_interval([0.9]) is None
    assert ratio_of_means([0.9], [0.8, 0.81]) is None


def test_at_the_ends_of_the_ratio_s_interval_the_difference_is_just_significant() -> None:
    found = ratio_of_means(ABOVE, BELOW)

    assert found is not None
    assert found.low < found.value < found.high
    (a, var_a), (b, var_b) = ((statistics.fmean(side), stats.sem(side) ** 2) for side in (ABOVE, BELOW))
    for end in (found.low, found.high):
        distance = abs(a - end * b) / (var_a + end**2 * var_b) ** 0.5
        freedom = (var_a + found.value**2 * var_b) ** 2 / (var_a**2 / 2 + (found.value**2 * var_b) ** 2 / 2)
        assert distance == pytest.approx(stats.t.ppf(0.975, freedom))


def test_the_ratio_holds_the_true_one_about_as_often_as_it_says() -> None:
    import numpy as np

    generator = np.random.default_rng(7)
    hits = 0
    for _ in range(1000):
        found = ratio_of_means(list(generator.normal(0.9, 0.01, 3)), list(generator.normal(0.92, 0.003, 3)))
        hits += found is not None and found.holds(0.9 / 0.92)
    assert 0.93 <= hits / 1000 <= 0.985


def test_without_spread_the_interval_is_a_point() -> None:
    found = ratio_of_means([0.5, 0.5], [0.4, 0.4])

    assert found is not None
    assert found.low == found.value == found.high == 1.25


def test_a_reference_that_may_be_0_gives_no_interval() -> None:
    assert ratio_of_means([0.5, 0.6], [0.01, 0.9]) is None
    assert ratio_of_means([0.5, 0.6], [0.0, 0.0]) is None


def test_more_seeds_decide_what_is_off_the_bar_and_none_decide_what_is_on_it() -> None:
    below = (1.0, 1.0, 1.0)
    near, nearer, on = ((mean - 0.01, mean, mean + 0.01) for mean in (0.99, 0.985, 0.98))

    needed, more = seeds_to_decide(near, below, 0.98), seeds_to_decide(nearer, below, 0.98)
    assert needed is not None
    assert more is not None
    assert 3 < needed < more
    assert seeds_to_decide(on, below, 0.98) is None


def test_the_ratio_of_an_error_is_above_1_where_the_error_is_smaller(tmp_path: Path) -> None:
    found = _found(write_quality(tmp_path / "run", {"etth1-96": {"softmax": 0.4, "linear": 0.5}}))
    models = of_facet(found, TaskFacet("etth1-96", causal=False), "mse")

    measured, inverse = ratio(models["linear"], models["softmax"]), ratio(models["softmax"], models["linear"])
    assert measured is not None
    assert inverse is not None
    assert measured.value == pytest.approx(0.8)
    assert inverse.value == pytest.approx(1.25)
    assert measured.high < 1 < inverse.low


def test_models_stand_as_transformers_networks_floors_each_from_the_best_down(tmp_path: Path) -> None:
    accuracies = {
        "logistic": 0.84,
        "mean": 0.86,
        "linear": 0.88,
        "vgg": 0.92,
        "softmax": 0.885,
        "conv-50": 0.93,
    }
    errors: dict[str, made_up_quality.Score] = {
        "repeat-last": 1.2,
        "softmax": 0.5,
        "linear": 0.4,
        "nlinear": 0.3,
    }
    found = _found(write_quality(tmp_path / "run", {"fashion-mnist": accuracies, "etth1-96": errors}))

    images = of_facet(found, TaskFacet("fashion-mnist", causal=False), "accuracy")
    assert list(images) == ["softmax", "linear", "vgg", "conv-50", "mean", "logistic"]
    series = of_facet(found, TaskFacet("etth1-96", causal=False), "mse")
    assert list(series) == ["linear", "softmax", "nlinear", "repeat-last"]


def test_networks_without_attention_stand_beside_causal_attentions_too(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        add(run, "etth1-96", {"softmax": 0.4, "nlinear": 0.39})
        add(run, "etth1-96", {"softmax": 0.41}, causal=True)
        add(run, "shakespeare", {"softmax": 2.0}, causal=True)
        add(run, "shakespeare", {"bigram": 3.5})
    found = scores(run.rows)

    assert list(of_facet(found, TaskFacet("etth1-96", causal=True), "mse")) == ["softmax", "nlinear"]
    assert [facet.text for facet in facets(found)] == [
        "etth1-96, non-causal", "etth1-96, causal", "shakespeare, causal",
    ]  # fmt: skip


def test_failed_and_diverged_jobs_have_no_score(tmp_path: Path) -> None:
    made_up: dict[str, made_up_quality.Score] = {
        "softmax": Skipped("error", "loss is nan"),
        "linear": [0.8, float("nan"), 0.82],
    }
    found = _found(write_quality(tmp_path / "run", {"fashion-mnist": made_up}))

    assert [(score.model, score.values) for score in found] == [("linear", (0.8, 0.82))]


def test_metrics_at_other_lengths_are_kept_apart(tmp_path: Path) -> None:
    run = write_quality(
        tmp_path / "run", {"shakespeare": {"softmax": 2.0}}, causal=True, longer={"@512": 0.5, "@1024": 2.0}
    )

    lengths = {score.length: score.mean for score in _found(run)}
    assert lengths == pytest.approx({None: 2.0, 512: 1.0, 1024: 4.0})
