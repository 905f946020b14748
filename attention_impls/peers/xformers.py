"""Softmax attention by the xformers package."""

from __future__ import annotations

from torch import Tensor

from attention_impls.peers.layout import heads_first, tokens_first
from attention_impls.softmax import checked_scale


def softmax(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Softmax attention by ``memory_efficient_attention``. Arguments and errors as ``softmax.eager``.

    The kernels take strides: turning the layout copies nothing inside the timed call, unless rows are not
    contiguous. Which kernel runs, xformers chooses. No dropout; the scale is given.
    """
    factor = checked_scale(query, key, value, scale)
    from xformers.ops import LowerTriangularMask, memory_efficient_attention

    mask = LowerTriangularMask() if causal else None
    output: Tensor = memory_efficient_attention(
        *tokens_first(query, key, value), attn_bias=mask, p=0.0, scale=factor
    )
    return heads_first(output)
