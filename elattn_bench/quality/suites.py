"""Which tasks, models and recipes go together: the literal table of suites. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from elattn_bench.quality.nouns import Recipe

ATTENTIONS = ("softmax", "linear", "efficient", "ea-series", "hadamard", "mean")
NETWORKS = ("vgg", "hadamard-net-3", "hadamard-net-50", "conv-3", "mlp", "logistic")


@dataclass(frozen=True, slots=True)
class Entry:
    """A task within a suite.

    Args:
        recipe: how its models are trained.
        models: what ``--impl`` would say.
        causal: the forms of the attention; empty takes the first that the task has.
    """

    recipe: Recipe
    models: tuple[str, ...]
    causal: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Suite:
    """A selection of tasks, and how many seeds each model is trained with."""

    name: str
    summary: str
    seeds: int
    entries: Mapping[str, Entry]


_IMAGES = Recipe(epochs=4, train_examples=12_000, batch=64, learning_rate=3e-3)
_SERIES = Recipe(epochs=30, batch=16)
_FORECAST = Recipe(epochs=2, batch=32, dim=32, learning_rate=3e-3)
_TOKENS = Recipe(epochs=3, batch=64, learning_rate=3e-3)
_FORECAST_MODELS = (*ATTENTIONS, "nlinear", "repeat-last")
_SERIES_MODELS = (*ATTENTIONS, "mlp", "logistic")
_BOTH = (False, True)

SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "smoke",
            "does everything work: a minute or two, figures mean nothing",
            1,
            {
                "fashion-mnist": Entry(
                    Recipe(epochs=2, train_examples=2000, test_examples=1000, batch=64, dim=32, heads=4),
                    (*ATTENTIONS, *NETWORKS),
                ),
                "mqar": Entry(
                    Recipe(epochs=1, train_examples=512, test_examples=200, batch=64, dim=32), ATTENTIONS
                ),
            },
        ),
        Suite(
            "standard",
            "every task, every attention, three seeds: about an hour on a laptop",
            3,
            {
                "fashion-mnist": Entry(_IMAGES, (*ATTENTIONS, *NETWORKS[1:])),
                "cifar10": Entry(_IMAGES, (*ATTENTIONS, *NETWORKS[1:])),
                "japanese-vowels": Entry(_SERIES, _SERIES_MODELS, _BOTH),
                "basic-motions": Entry(_SERIES, _SERIES_MODELS, _BOTH),
                "etth1-96": Entry(_FORECAST, _FORECAST_MODELS, _BOTH),
                "etth1-192": Entry(_FORECAST, _FORECAST_MODELS, _BOTH),
                "etth2-96": Entry(_FORECAST, _FORECAST_MODELS, _BOTH),
                "etth2-192": Entry(_FORECAST, _FORECAST_MODELS, _BOTH),
                # All the windows of the test plays: a part would be other bytes at each length.
                "shakespeare": Entry(Recipe(epochs=1, batch=16, learning_rate=3e-3), (*ATTENTIONS, "bigram")),
                # Softmax stays at a guess for two epochs, then recalls within one.
                "mqar": Entry(replace(_TOKENS, epochs=5), ATTENTIONS),
                "selective-copy": Entry(_TOKENS, ATTENTIONS),
            },
        ),
        Suite(
            "paper",
            "the claims of 2302.05488 as the paper trained: all images, 10 epochs; an hour or two",
            3,
            {
                "fashion-mnist": Entry(Recipe(epochs=10), NETWORKS),
                "cifar10": Entry(Recipe(epochs=10), NETWORKS),
            },
        ),
    )
}
