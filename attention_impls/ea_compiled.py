"""EA-series in plain PyTorch with the work on each chunk compiled."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from attention_impls.chunks import chunk_rows
from attention_impls.ea_series import PLAIN, Pieces, full, sweep, validate

MAX_COMPILED_FORMS = 256  # shapes, orders and modes that torch.compile may specialise for in one process

COMPILED_ELEMENTS = 2**19
"""Elements of a chunk of the compiled non-causal form, which keeps its temporaries in registers."""


def compiled(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    order: int = 6,
    scale: float = 1.0,
    stabiliser: bool = True,
) -> Tensor:
    """EA-series with the work on each chunk compiled by torch.compile. Arguments and errors as ``ea_series.eager``.

    The first call for a chunk's shape, order and mode compiles for some seconds; seq_len hardly matters,
    because long inputs are cut into chunks of one size.
    """
    validate(query, key, value, order, scale, stabiliser)
    # Past its limit dynamo would silently run uncompiled: raise the limit, and fail if it is reached.
    with torch._dynamo.config.patch(
        recompile_limit=MAX_COMPILED_FORMS,
        accumulated_recompile_limit=4 * MAX_COMPILED_FORMS,
        fail_on_recompile_limit_hit=True,
    ):
        if causal:
            return sweep(query, key, value, order, scale, stabiliser, _pieces())[0]
        rows = chunk_rows(query, COMPILED_ELEMENTS)
        return full(query, key, value, order, scale, stabiliser, _pieces(), rows)


@cache
def _pieces() -> Pieces:
    return Pieces(
        moments=torch.compile(PLAIN.moments, dynamic=False),
        ratio=torch.compile(PLAIN.ratio, dynamic=False),
        causal_chunk=torch.compile(PLAIN.causal_chunk, dynamic=False),
    )
