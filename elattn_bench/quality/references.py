"""Which model the others are compared with. Pure: no torch, no disk."""

from __future__ import annotations

import re
from collections.abc import Mapping

from elattn_bench.quality.scores import Score

DEFAULT_REFERENCES = ("softmax", "vgg")
"""What a score is a share of, unless told otherwise: the first that the facet has."""

_BACKEND = re.compile(r"/\S+")  # of a label: ea-series/fused t=6


def pick(models: Mapping[str, Score], label: str) -> Score | None:
    """The model that is called so; else the first that is, but for the backend it was asked for with."""
    if label in models:
        return models[label]
    return next((score for name, score in models.items() if _BACKEND.sub("", name) == label), None)


def reference_of(models: Mapping[str, Score], reference: str | None) -> Score | None:
    """The reference among the models of a facet; None where it has none."""
    wanted = DEFAULT_REFERENCES if reference is None else (reference,)
    return next(filter(None, (pick(models, label) for label in wanted)), None)
