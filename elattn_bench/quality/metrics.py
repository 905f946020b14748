"""Scores of a network's answers, summed over batches. Imported in the worker alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from elattn_bench.quality.data.nouns import IGNORED
from elattn_bench.quality.nouns import Task


def loss(task: Task, answers: Tensor, targets: Tensor) -> Tensor:
    """What training makes small: squared error of forecasts, else cross-entropy in nats; ignored targets aside."""
    if task.kind == "forecast":
        return F.mse_loss(answers, targets)
    return F.cross_entropy(answers.flatten(0, -2), targets.flatten(), ignore_index=IGNORED)


def sums(task: Task, answers: Tensor, targets: Tensor) -> dict[str, float]:
    """Totals over a batch: of what ``means`` divides, and ``count`` of what was asked."""
    if task.kind == "forecast":
        error = (answers - targets).double()
        return {"mse": float(error.square().sum()), "mae": float(error.abs().sum()), "count": error.numel()}
    asked = targets != IGNORED
    logits, classes = answers[asked], targets[asked]
    nats = float(F.cross_entropy(logits.double(), classes, reduction="sum"))
    right = int((logits.argmax(-1) == classes).sum())
    return {"accuracy": right, "bits_per_byte": nats / math.log(2), "count": len(classes)}


def means(task: Task, totals: Mapping[str, float]) -> dict[str, float]:
    """The task's metrics, its main one first."""
    names = ("mse", "mae") if task.kind == "forecast" else (task.metric,)
    return {name: totals[name] / totals["count"] for name in names}


def add(totals: dict[str, float], more: Mapping[str, float]) -> None:
    """Add a batch's sums to the totals."""
    for name, value in more.items():
        totals[name] = totals.get(name, 0.0) + value
