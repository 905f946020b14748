"""Floors: simple models that put a score into proportion. Who does not beat them has shown little."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from elattn_bench.quality.nets.layers import he
from elattn_bench.quality.nets.sizes import MLP_HIDDEN, logistic_inputs, mlp_inputs, need, need_same_channels
from elattn_bench.quality.nouns import Form


class MeanOverSteps(nn.Module):
    """Series [B, steps, channels] -> their means [B, channels]."""

    def forward(self, x: Tensor) -> Tensor:
        """Mean of each channel."""
        return x.mean(1)


class Summaries(nn.Module):
    """Series [B, steps, channels] -> [B, 4 channels]: mean, standard deviation, minimum and maximum over steps."""

    def forward(self, x: Tensor) -> Tensor:
        """The standard deviation is of the series itself, not an estimate: one step has 0."""
        return torch.cat([x.mean(1), x.var(1, correction=0).add(1e-12).sqrt(), x.amin(1), x.amax(1)], -1)


def logistic(form: Form) -> nn.Module:
    """Logistic regression on pixels, or on the mean over steps of each channel of a series: -> logits [B, outputs].

    Raises:
        UsageError: the form is neither of images nor of series.
    """
    need("logistic", form, "image", "series")
    read = nn.Flatten() if form.kind == "image" else MeanOverSteps()
    return nn.Sequential(read, nn.Linear(logistic_inputs(form), form.outputs))


def mlp(form: Form) -> nn.Module:
    """A multi-layer perceptron: -> logits [B, outputs].

    Images: the pixels through two hidden layers of 128 with ReLU. Series: mean, standard deviation, minimum and
    maximum over steps of each channel, through one hidden layer of 64 with ReLU.

    Raises:
        UsageError: the form is neither of images nor of series.
    """
    need("mlp", form, "image", "series")
    widths = [mlp_inputs(form), *MLP_HIDDEN[form.kind]]
    hidden: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        hidden += [he(nn.Linear(inputs, outputs)), nn.ReLU()]
    read = nn.Flatten() if form.kind == "image" else Summaries()
    return nn.Sequential(read, *hidden, nn.Linear(widths[-1], form.outputs))


class NLinear(nn.Module):
    """One linear map from history to horizon, on the history less its last value: see ``nlinear``."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.ahead = nn.Linear(form.shape[0], form.horizon)

    def forward(self, x: Tensor) -> Tensor:
        """Series [B, steps, channels] -> their future [B, horizon, channels]."""
        last = x[:, -1:]
        changes = cast(Tensor, self.ahead((x - last).transpose(1, 2)))
        return last + changes.transpose(1, 2)


def nlinear(form: Form) -> nn.Module:
    """NLinear: [B, steps, channels] -> [B, horizon, channels].

    Formula: y = last + W (x - last) + b, W [horizon, steps] and b [horizon] shared by all channels. What is added to
    a whole series is added to its forecast. Parameters: horizon (steps + 1).

    Raises:
        UsageError: the form is not of forecasts, or asks for other channels than it shows.

    Paper: Zeng et al. 2022, *Are Transformers Effective for Time Series Forecasting?*, arXiv 2205.13504, section 4.
    """
    need_same_channels("nlinear", form)
    return NLinear(form)
