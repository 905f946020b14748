"""One small transformer for every kind of task; between two of them only the attention differs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from attention_impls import Problem, TransformerBlock
from elattn_bench.quality.nets.counts import tokens_of
from elattn_bench.quality.nouns import Form, Model, Recipe

POSITION_BASE = 10_000.0  # longest wavelength over 2 pi, Vaswani et al. 2017
EPSILON = 1e-5  # of a window's variance: a sensor that stands still


class Transformer(nn.Module):
    """Embed, add sinusoidal positions, pre-norm blocks, norm, head. Without dropout.

    Tokens are square patches of an image, steps of a series, or bytes. Positions are those of Vaswani et al. 2017
    (arXiv 1706.03762), for they are there at any length. Heads: of ``image`` and ``series`` the mean over tokens, then
    a linear map; of ``language`` a linear map of each token; of ``forecast`` a linear map over time, then one of
    features, on windows that are standardised one by one (reversible instance normalisation without its gains,
    Kim et al. 2022, *Reversible Instance Normalization*).

    Args:
        model: its attention.
        form: shapes of inputs and answers.
        recipe: dim, heads, depth, expansion, patch.
        causal: whether a token sees only those before it.
    """

    def __init__(self, model: Model, form: Form, recipe: Recipe, *, causal: bool) -> None:
        super().__init__()
        self.form, self.causal, self.patch = form, causal, recipe.patch
        self.embed = _embedding(form, recipe)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                model.attention, recipe.dim, recipe.heads, **_block_settings(model, form, recipe)
            )
            for _ in range(recipe.depth)
        )
        self.norm = nn.LayerNorm(recipe.dim)
        self.over_time = nn.Linear(form.shape[0], form.horizon) if form.kind == "forecast" else None
        self.head = nn.Linear(recipe.dim, form.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """The answers to a batch: shapes as in ``Form``."""
        if self.over_time is None:
            return self._answer(self._encode(x))
        middle, spread = x.mean(1, keepdim=True), (x.var(1, keepdim=True, correction=0) + EPSILON).sqrt()
        ahead = self.over_time(self._encode((x - middle) / spread).transpose(1, 2)).transpose(1, 2)
        forecast: Tensor = self._answer(ahead) * spread + middle
        return forecast

    def _encode(self, x: Tensor) -> Tensor:
        tokens = self.embed(_patches(x, self.patch) if self.form.kind == "image" else x)
        tokens = tokens + positions(tokens.shape[1], tokens.shape[2], tokens.device, tokens.dtype)
        for block in self.blocks:
            tokens = block(tokens, causal=self.causal)
        encoded: Tensor = self.norm(tokens)
        return encoded

    def _answer(self, encoded: Tensor) -> Tensor:
        pooled = encoded.mean(1) if self.form.kind in ("image", "series") else encoded
        answer: Tensor = self.head(pooled)
        return answer


def positions(length: int, dim: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Sines and cosines of every position, [length, dim]; Vaswani et al. 2017, section 3.5."""
    place = torch.arange(length, device=device, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(POSITION_BASE) / dim))
    waves = place * rates
    return torch.stack((waves.sin(), waves.cos()), -1).flatten(1)[:, :dim].to(dtype)


def backend_of(net: nn.Module, recipe: Recipe, steps: int, causal: bool) -> str:
    """The backend that the network's attention trains with on a full batch."""
    if not isinstance(net, Transformer):
        return ""
    block = net.blocks[0]
    assert isinstance(block, TransformerBlock)
    layer = block.attention
    parameter = next(net.parameters())
    problem = Problem(
        recipe.batch,
        layer.heads,
        steps,
        layer.dim // layer.heads,
        device=parameter.device.type,
        causal=causal,
        backward=True,
        hyperparameters=layer.hyperparameters,
    )
    return layer.backend or layer.spec.best_backend(problem)


def _block_settings(model: Model, form: Form, recipe: Recipe) -> dict[str, Any]:
    order = {} if model.order is None else {"order": model.order}
    norm = {} if model.qk_norm is None else {"qk_norm": model.qk_norm}
    return {
        "expansion": recipe.expansion,
        "backend": model.backend or None,
        "bias": True,
        "seq_len": max(tokens_of(form, recipe), form.longest),
        **order,
        **norm,
        **dict(model.hyperparameters),
    }


def _embedding(form: Form, recipe: Recipe) -> nn.Module:
    if form.kind == "language":
        return nn.Embedding(form.outputs, recipe.dim)
    channels = form.shape[-1]
    return nn.Linear(channels * recipe.patch**2 if form.kind == "image" else channels, recipe.dim)


def _patches(images: Tensor, side: int) -> Tensor:
    """[B, height, width, channels] -> [B, patches, side * side * channels], row by row; a rest at the edge is cut."""
    rows = images.unfold(1, side, side).unfold(2, side, side)  # [B, rows, columns, channels, side, side]
    return rows.flatten(3).flatten(1, 2)
