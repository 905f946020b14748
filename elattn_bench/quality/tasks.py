"""The literal table of tasks. No torch, no data."""

from __future__ import annotations

from collections.abc import Mapping

from elattn_bench.names import check_names
from elattn_bench.quality.nouns import Form, Task

IMAGE_FLOORS = ("logistic", "mlp", "conv-3")
SERIES_FLOORS = ("logistic", "mlp")
FORECAST_FLOORS = ("repeat-last", "nlinear")


def _forecast(series: str, horizon: int) -> Task:
    return Task(
        name=f"{series.lower()}-{horizon}",
        summary=f"{series}: 7 channels, 96 hours to the next {horizon}",
        metric="mse",
        higher_is_better=False,
        loader="ett",
        form=Form("forecast", (96, 7), 7, horizon, 96),
        train_examples=8640 - 96 - horizon + 1,
        test_examples=2880 - horizon + 1,
        arguments={"series": series, "horizon": horizon},
        floors=FORECAST_FLOORS,
        source="Zhou et al. 2021, arXiv 2012.07436 (CC BY-ND 4.0)",
    )


_ALL = (
    Task(
        name="fashion-mnist",
        summary="28 x 28 grey images of clothes, 10 classes",
        metric="accuracy",
        higher_is_better=True,
        loader="fashion_mnist",
        form=Form("image", (28, 28, 1), 10),
        train_examples=60_000,
        test_examples=10_000,
        causal=False,
        floors=IMAGE_FLOORS,
        source="Xiao et al. 2017, arXiv 1708.07747 (MIT)",
    ),
    Task(
        name="cifar10",
        summary="32 x 32 colour images, 10 classes",
        metric="accuracy",
        higher_is_better=True,
        loader="cifar10",
        form=Form("image", (32, 32, 3), 10),
        train_examples=50_000,
        test_examples=10_000,
        causal=False,
        floors=IMAGE_FLOORS,
        source="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    ),
    Task(
        name="japanese-vowels",
        summary="12 cepstrum coefficients over 7 to 29 frames, 9 speakers",
        metric="accuracy",
        higher_is_better=True,
        loader="uea",
        form=Form("series", (29, 12), 9, longest=29),
        train_examples=270,
        test_examples=370,
        arguments={"name": "JapaneseVowels"},
        floors=SERIES_FLOORS,
        source="Kudo et al. 1999; UEA archive, Bagnall et al. 2018, arXiv 1811.00075",
    ),
    Task(
        name="basic-motions",
        summary="6 motion sensors over 100 steps, 4 activities",
        metric="accuracy",
        higher_is_better=True,
        loader="uea",
        form=Form("series", (100, 6), 4, longest=100),
        train_examples=40,
        test_examples=40,
        arguments={"name": "BasicMotions"},
        floors=SERIES_FLOORS,
        source="UEA archive, Bagnall et al. 2018, arXiv 1811.00075",
    ),
    *(_forecast(series, horizon) for series in ("ETTh1", "ETTh2") for horizon in (96, 192)),
    Task(
        name="shakespeare",
        summary="next byte of 38 plays, three of them held out",
        metric="bits_per_byte",
        higher_is_better=False,
        loader="shakespeare",
        form=Form("language", (256,), 256, longest=2048),
        train_examples=18_959,
        test_examples=1_384,
        causal=True,
        floors=("bigram",),
        length=256,
        source="the plays, public domain",
    ),
    Task(
        name="mqar",
        summary="synthetic: recall the values of keys seen before",
        metric="accuracy",
        higher_is_better=True,
        loader="mqar",
        form=Form("language", (64,), 256, longest=256),
        train_examples=20_000,
        test_examples=1_000,
        causal=True,
        length=64,
        source="multi-query associative recall, Arora et al. 2023, arXiv 2312.04927",
    ),
    Task(
        name="selective-copy",
        summary="synthetic: repeat the tokens that stood among noise",
        metric="accuracy",
        higher_is_better=True,
        loader="selective_copy",
        form=Form("language", (64,), 16, longest=256),
        train_examples=20_000,
        test_examples=1_000,
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
