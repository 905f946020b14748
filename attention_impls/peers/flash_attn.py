"""Softmax attention by the flash-attn package (Dao 2023, arXiv 2307.08691)."""

from __future__ import annotations

from torch import Tensor

from attention_impls.peers.layout import heads_first, tokens_first
from attention_impls.softmax import checked_scale


def softmax(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Softmax attention by ``flash_attn_func``. Arguments and errors as ``softmax.eager``.

    The kernel takes strides: turning the layout copies nothing inside the timed call, unless rows are not
    contiguous. No dropout; the scale is given.
    """
    factor = checked_scale(query, key, value, scale)
    from flash_attn import flash_attn_func

    output: Tensor = flash_attn_func(
        *tokens_first(query, key, value), dropout_p=0.0, softmax_scale=factor, causal=causal
    )
    return heads_first(output)
