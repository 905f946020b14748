"""Floors that no gradient trains: the last value repeated, and the counts of pairs of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from elattn_bench.quality.data.nouns import IGNORED, Examples
from elattn_bench.quality.nets.sizes import need, need_same_channels
from elattn_bench.quality.nouns import Form


class RepeatLast(nn.Module):
    """The last value of each channel, at every step of the horizon: see ``repeat_last``."""

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.horizon = horizon

    def fit(self, train: Examples) -> None:
        """Nothing is learned."""

    def forward(self, x: Tensor) -> Tensor:
        """Series [B, steps, channels] -> [B, horizon, channels]."""
        return x[:, -1:].expand(-1, self.horizon, -1)


class Bigram(nn.Module):
    """Logits of the next token from the current one alone: see ``bigram``."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.logits = nn.Parameter(torch.zeros(tokens, tokens), requires_grad=False)

    def fit(self, train: Examples) -> None:
        """Count the pairs of a token and the one asked for after it; targets that are not asked for do not count.

        Formula: logits[a, b] = log((pairs(a, b) + 1) / (pairs(a, any) + tokens)), so that no pair is impossible.
        Source: add-one smoothing is Laplace's rule of succession, 1814.
        """
        current, following = (torch.from_numpy(array).flatten() for array in (train.inputs, train.targets))
        asked = following != IGNORED
        pairs = torch.bincount(current[asked] * self.tokens + following[asked], minlength=self.tokens**2)
        counts = pairs.view(self.tokens, self.tokens).double() + 1
        self.logits.copy_(torch.log(counts / counts.sum(1, keepdim=True)))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, steps] -> logits [B, steps, tokens]."""
        return self.logits[x]


def repeat_last(form: Form) -> nn.Module:
    """The last value repeated: [B, steps, channels] -> [B, horizon, channels], without parameters.

    Raises:
        UsageError: the form is not of forecasts, or asks for other channels than it shows.
    """
    need_same_channels("repeat-last", form)
    return RepeatLast(form.horizon)


def bigram(form: Form) -> nn.Module:
    """A table of the next token's logits for each current one: [B, steps] -> [B, steps, tokens].

    It is fitted by counting, not trained; before, all tokens are equally likely. Parameters: tokens^2.

    Raises:
        UsageError: the form is not of language.
    """
    need("bigram", form, "language")
    return Bigram(form.outputs)
