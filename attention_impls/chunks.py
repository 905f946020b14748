"""Cutting a causal prefix sum of exponential weights into chunks that neither under- nor overflow.

The causal forms of ``ea-series`` and ``efficient`` are ratios of prefix sums of exp(w_j), where the
log-weight w_j of a channel is -s k_j^2 and k_j. Both parts of the ratio may be multiplied by the same
factor, so a chunk may compute with exp(w_j - top), top being the running maximum at its end: nothing
overflows, and the carried sums are rescaled by exp(old top - new top). What can go wrong is a top that
rises within a chunk so far that the weights before the rise vanish although the rows before it need
them. Such a chunk is cut there, and each part computes relative to its own top.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from attention_impls.nouns import Problem

CHUNK_ELEMENTS = {"cpu": 2**17, "cuda": 2**23}
"""Elements of one tensor's chunk: the temporaries fit a CPU core's L2 cache, or keep a GPU busy."""

MAX_RISE = {torch.float32: 30.0, torch.float64: 300.0}
"""Largest rise of the top within a chunk. Gradients divide by squares of the sums, so exp(2 * rise) must
stay in range: exp(60) leaves 12 orders of magnitude below float32's greatest number."""


class ChunkPlan(NamedTuple):
    """Where a causal sweep cuts the positions, and the running maxima of the log-weight.

    sizes: rows of each chunk.
    tops: for each chunk, [batch, heads, 1, head_dim]: the maximum over all rows up to its end.
    """

    sizes: list[int]
    tops: list[Tensor]


def chunk_rows(tensor: Tensor, elements: int | None = None) -> int:
    """Rows of [batch, heads, seq_len, head_dim] that make a chunk of about that many elements.

    At least 16, so that a wide tensor does not pay the overhead of a loop over tokens.
    """
    if elements is None:
        elements = CHUNK_ELEMENTS.get(tensor.device.type, CHUNK_ELEMENTS["cpu"])
    batch, heads, _, head_dim = tensor.shape
    return max(16, elements // (batch * heads * head_dim))


def accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums over positions: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def empty_sums(problem: Problem, *shape: int) -> Tensor:
    """Zeros for sums over the positions of a problem, in their dtype."""
    dtype = accumulator_dtype(getattr(torch, problem.dtype))
    return torch.zeros(shape, dtype=dtype, device=problem.device)


@torch.no_grad()
def plan_chunks(
    key: Tensor, rows: int, log_weight: Callable[[Tensor], Tensor], before: Tensor | None = None
) -> ChunkPlan:
    """Chunks of at most ``rows`` rows within which no top rises by more than ``MAX_RISE``.

    Args:
        key: [batch, heads, seq_len, head_dim].
        rows: at most so many in a chunk.
        log_weight: of a chunk of keys.
        before: running maximum of the rows before the first, [batch, heads, 1, head_dim], if there are any.

    On a GPU this waits for the device once, because the cuts depend on the data.
    """
    chunks = torch.split(key, rows, -2)
    weights = [log_weight(chunk) for chunk in chunks]
    tops = _running_tops(weights, before)
    limit = MAX_RISE[accumulator_dtype(weights[0].dtype)]
    first = torch.cat([weight[..., :1, :] for weight in weights], -2)
    earlier = first[..., :1, :] if before is None else before
    entering = torch.maximum(first, torch.cat((earlier, tops[..., :-1, :]), -2))
    too_steep = ((tops - entering).amax((0, 1, 3)) > limit).tolist()
    if not any(too_steep):
        return ChunkPlan([chunk.shape[-2] for chunk in chunks], list(torch.split(tops, 1, -2)))

    sizes: list[int] = []
    for number, (weight, steep) in enumerate(zip(weights, too_steep, strict=True)):
        own = entering[..., number : number + 1, :]
        sizes += _cut(weight, own, limit) if steep else [weight.shape[-2]]
    pieces = [log_weight(piece) for piece in torch.split(key, sizes, -2)]
    return ChunkPlan(sizes, list(torch.split(_running_tops(pieces, before), 1, -2)))


def unstabilised_chunks(key: Tensor, rows: int) -> ChunkPlan:
    """Chunks of ``rows`` rows that compute with the weights as they are: every top is 0."""
    sizes = [chunk.shape[-2] for chunk in torch.split(key, rows, -2)]
    top = torch.zeros_like(key[..., :1, :], dtype=accumulator_dtype(key.dtype))
    return ChunkPlan(sizes, [top] * len(sizes))


def _running_tops(weights: list[Tensor], before: Tensor | None) -> Tensor:
    """The running maximum at each chunk's end, [batch, heads, chunks, head_dim]."""
    ends = torch.cat([weight.amax(-2, keepdim=True) for weight in weights], -2)
    tops = torch.cummax(ends, -2).values
    return tops if before is None else torch.maximum(tops, before)


def _cut(weight: Tensor, entering: Tensor, limit: float) -> list[int]:
    """Sizes of the parts of one chunk; every part ends just before the top has risen by the limit."""
    running = torch.maximum(torch.cummax(weight, -2).values, entering)
    sizes: list[int] = []
    while running.shape[-2]:
        rise = (running - running[..., :1, :]).amax((0, 1, 3))
        steep = torch.nonzero(rise > limit)
        size = int(steep[0]) if len(steep) else running.shape[-2]
        sizes.append(size)
        running = running[..., size:, :]
    return sizes
