"""Between our layout, [batch, heads, seq_len, ...], and that of most peers, [batch, seq_len, heads, ...]."""

from __future__ import annotations

from torch import Tensor


def tokens_first(*tensors: Tensor) -> list[Tensor]:
    """Views with positions before heads; a copy only of rows that are not contiguous, which no kernel takes."""
    turned = [tensor.transpose(1, 2) for tensor in tensors]
    return [x if x.dim() < 4 or x.stride(-1) == 1 else x.contiguous() for x in turned]


def heads_first(tensor: Tensor) -> Tensor:
    """The inverse: a view."""
    return tensor.transpose(1, 2)
