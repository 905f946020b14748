"""Softmax attention by PyTorch's FlexAttention, compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from attention_impls.softmax import checked_scale

MAX_COMPILED_FORMS = 256  # shapes, dtypes and masks that torch.compile may specialise for in one process


def softmax(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Softmax attention by ``flex_attention``, compiled. Arguments and errors as ``softmax.eager``.

    It takes our layout; only rows that are not contiguous are copied inside the timed call. The first call
    of a shape compiles, and makes the mask of its blocks; later ones find both. The scale is given.
    """
    factor = checked_scale(query, key, value, scale)
    rows = [x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value)]
    mask = _past(query.shape[2], str(query.device)) if causal else None
    # Past its limit dynamo would silently run uncompiled: raise the limit, and fail if it is reached.
    with torch._dynamo.config.patch(
        recompile_limit=MAX_COMPILED_FORMS,
        accumulated_recompile_limit=4 * MAX_COMPILED_FORMS,
        fail_on_recompile_limit_hit=True,
    ):
        output: Tensor = _compiled()(*rows, block_mask=mask, scale=factor)
    return output


@cache
def _compiled() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    compiled: Callable[..., Tensor] = torch.compile(flex_attention, dynamic=False)
    return compiled


@lru_cache(maxsize=16)  # a mask holds a number for every pair of blocks of 128 positions
def _past(length: int, device: str) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    return create_block_mask(_seen, None, None, length, length, device=device)


def _seen(batch: Tensor, head: Tensor, query_place: Tensor, key_place: Tensor) -> Tensor:
    return query_place >= key_place
