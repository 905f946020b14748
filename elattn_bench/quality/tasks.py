"""The literal table of tasks. No torch, no data."""

from __future__ import annotations

from collections.abc import Mapping

from elattn_bench.names import check_names
from elattn_bench.quality.nouns import Task

IMAGE_FLOORS = ("logistic", "mlp", "conv-3")
SERIES_FLOORS = ("logistic", "mlp")
FORECAST_FLOORS = ("repeat-last", "nlinear")


def _forecast(series: str, horizon: int) -> Task:
    return Task(
        name=f"{series.lower()}-{horizon}",
        summary=f"{series}: 7 channels, 96 hours to the next {horizon}",
        kind="forecast",
        metric="mse",
        higher_is_better=False,
        loader="ett",
        arguments={"series": series, "horizon": horizon},
        floors=FORECAST_FLOORS,
        source="Zhou et al. 2021, arXiv 2012.07436 (CC BY-ND 4.0)",
    )


_ALL = (
    Task(
        name="fashion-mnist",
        summary="28 x 28 grey images of clothes, 10 classes",
        kind="image",
        metric="accuracy",
        higher_is_better=True,
        loader="fashion_mnist",
        causal=False,
        floors=IMAGE_FLOORS,
        source="Xiao et al. 2017, arXiv 1708.07747 (MIT)",
    ),
    Task(
        name="cifar10",
        summary="32 x 32 colour images, 10 classes",
        kind="image",
        metric="accuracy",
        higher_is_better=True,
        loader="cifar10",
        causal=False,
        floors=IMAGE_FLOORS,
        source="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    ),
    Task(
        name="japanese-vowels",
        summary="12 cepstrum coefficients over 7 to 29 frames, 9 speakers",
        kind="series",
        metric="accuracy",
        higher_is_better=True,
        loader="uea",
        arguments={"name": "JapaneseVowels"},
        floors=SERIES_FLOORS,
        source="Kudo et al. 1999; UEA archive, Bagnall et al. 2018, arXiv 1811.00075",
    ),
    Task(
        name="basic-motions",
        summary="6 motion sensors over 100 steps, 4 activities",
        kind="series",
        metric="accuracy",
        higher_is_better=True,
        loader="uea",
        arguments={"name": "BasicMotions"},
        floors=SERIES_FLOORS,
        source="UEA archive, Bagnall et al. 2018, arXiv 1811.00075",
    ),
    *(_forecast(series, horizon) for series in ("ETTh1", "ETTh2") for horizon in (96, 192)),
    Task(
        name="shakespeare",
        summary="next byte of 38 plays, three of them held out",
        kind="language",
        metric="bits_per_byte",
        higher_is_better=False,
        loader="shakespeare",
        causal=True,
        floors=("bigram",),
        length=256,
        source="the plays, public domain",
    ),
    Task(
        name="mqar",
        summary="synthetic: recall the values of keys seen before",
        kind="language",
        metric="accuracy",
        higher_is_better=True,
        loader="mqar",
        causal=True,
        length=64,
        source="multi-query associative recall, Arora et al. 2023, arXiv 2312.04927",
    ),
    Task(
        name="selective-copy",
        summary="synthetic: repeat the tokens that stood among noise",
        kind="language",
        metric="accuracy",
        higher_is_better=True,
        loader="selective_copy",
        causal=True,
        length=64,
        source="Gu & Dao 2023, arXiv 2312.00752",
    ),
)

TASKS: Mapping[str, Task] = {task.name: task for task in _ALL}


def find(name: str) -> Task:
    """The task of that name.

    Raises:
        UsageError: there is none; the message lists the known and the nearest.
    """
    check_names("task", [name], list(TASKS))
    return TASKS[name]


def forms(task: Task) -> tuple[bool, ...]:
    """Whether its attention may be causal: the forms that make sense."""
    return (False, True) if task.causal is None else (task.causal,)
