"""EA-series attention in Triton: forward, backward and decode with moments that never leave the registers.

Formulas as in ``attention_impls.ea_series.eager``. The kernels, one launch each:

    forward, full      chunk totals of S_n, Z_n | their sum over chunks | outputs
    forward, causal    chunk totals             | their running sum     | outputs, row by row
    backward, full     queries: dq, adjoint totals G_n, H_n | their sum | keys: dk, dv
    backward, causal   queries: dq, alpha, y, totals | their running sum in reverse | keys, in reverse
    decode             one token

Parallel over channels and over chunks of rows, so that a few channels fill a GPU if they are long. No
atomics: the same inputs give the same bits.

Memory traffic in bytes per element of a [batch, heads, seq_len, head_dim] tensor, with inputs of b bytes
and sums of a (4, or 8 in float64). A set of moments every C rows is m = 2 a (t + 1) / C: 0.2 to 1.75 bytes
at t = 6. Instructions per element are those of a loop at t = 6 in bfloat16, compiled for sm_90:

    ===============  =================  ============  =====================================================
    form             bytes              instructions  tensors: first pass | second pass
    ===============  =================  ============  =====================================================
    full forward     4 b + 3 m          44 + 34       key, value | query, output
    causal forward   6 b + 4 m          44 + 72       key, value | query, key, value, output
    full backward    7 b + 4 m          75 + 52       query, upstream, dq | key, value, dk, dv
    causal backward  10 b + 4 a + 5 m   120 + 92      query, key, value, upstream, dq, alpha, y |
                                                      query, key, value, alpha, y, dk, dv
    decode, channel  4 b + 4 a (t + 1)                query, key, value, output, the state twice
                     + 2 a
    ===============  =================  ============  =====================================================

An H100 issues about 29e12 of them a second and moves 3.35e12 bytes: at t = 6 the arithmetic takes half the
time of the memory in float32, and about as long in bfloat16. alpha and y (4 a, a write and a read of both)
are what the causal backward pays for a second pass in reverse, where prefix sums cannot be had again but
by subtraction, which cancels. They are kept where dk and dv will be, if the dtypes are the same.
"""

from __future__ import annotations

import math

import torch
import triton
from torch import Tensor

from attention_impls.kernels import (
    ea_triton_backward,
    ea_triton_causal_backward,
    ea_triton_forward,
    ea_triton_scans,
)
from attention_impls.kernels.ea_triton_launch import (
    NARROW_LANES,
    blocks,
    launch,
    programs,
    room_for_moments,
    room_like,
    sizes,
    strided,
    tiles,
)
from attention_impls.kernels.ranks import Ranks

if not hasattr(triton.language, "tuple"):
    raise ImportError(f"the Triton kernels need triton 3.3 or newer, this is {triton.__version__}")

TOP_BASE = math.e  # of the logarithm that moments keep as their reference


def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool,
    order: int,
    scale: float,
    stabiliser: bool,
    keep: bool,
    ranks: Ranks | None = None,
) -> tuple[Tensor, Tensor]:
    """EA-series attention, and the moments that ``backward`` needs.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim], any strides.
        causal, order, scale: as in ``ea_series.eager``.
        stabiliser: weights relative to their running maximum, rather than as they are.
        keep: return the moments before each chunk of a causal call.
        ranks: the others, where the tensors are a shard of a sequence that is spread.

    Returns:
        The output, laid out like the query, and the moments [n, 2 (order + 1) + 1, batch, heads, head_dim]
        in the dtype of the sums: S_0..S_t, Z_0..Z_t, top. Full: n = 1, those of all keys. Causal: n =
        ``blocks(query)`` if ``keep``, else 0. All ranks' keys count.

    Complexity: O(t L D) time, O(L D) memory and the moments.
    """
    moments = room_for_moments(query, order, 1)
    if causal:
        output, before = _causal_forward(query, key, value, None, moments[0], order, scale, stabiliser, ranks)
        return output, before if keep else moments[:0]
    _scan_totals(
        *_chunk_totals(key, value, order, scale, stabiliser), None, moments[0], stabiliser, keep=False
    )
    if ranks:
        moments = ranks.all_keys(moments[0])[None]
    output = room_like(query)
    launch(
        ea_triton_forward.full_outputs,
        query,
        programs(query, order),
        *strided(query, output),
        moments,
        *sizes(query),
        ORDER=order,
        SCALE=scale,
    )
    return output, moments


def backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    upstream: Tensor,
    moments: Tensor,
    *,
    causal: bool,
    order: int,
    scale: float,
    stabiliser: bool,
    ranks: Ranks | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value, from that of the output.

    Args:
        query, key, value: what ``forward`` was given.
        upstream: gradient of the output, of its shape and dtype.
        moments: what ``forward`` returned (causal: with ``keep``).
        ranks: those that ``forward`` was given.

    Returns:
        Tensors laid out like query, key and value.

    Complexity: O(t L D) time, O(L D) memory; nothing but the moments is taken over from forward.
    """
    moments = moments.contiguous()
    gradients = (room_like(query), room_like(key), room_like(value))
    passes = _causal_backward if causal else _full_backward
    passes(query, key, value, upstream, moments, gradients, order, scale, stabiliser, ranks)
    return gradients


def extend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: Tensor,
    *,
    order: int,
    scale: float,
    stabiliser: bool,
) -> tuple[Tensor, Tensor]:
    """Causal attention of new tokens that also see all tokens whose moments are the state.

    Args:
        query, key, value: [batch, heads, new tokens, head_dim], any strides.
        state: [2 (order + 1) + 1, batch, heads, head_dim], not modified. Before the first token: zeros,
            and a top of -inf.

    Returns:
        The output, laid out like the query, and the state after the last token.

    Complexity: O(t D) for each token and O(t D) state. One token is one kernel launch, which reads and
    writes the state once.
    """
    state = state.contiguous()
    new_state = torch.empty_like(state)
    if query.shape[-2] > 1:
        output, _ = _causal_forward(query, key, value, state, new_state, order, scale, stabiliser)
        return output, new_state
    output = room_like(query)
    kernel = ea_triton_forward.decode_step
    lanes = tiles(kernel.__name__, order, query.dtype).lanes
    launch(
        kernel,
        query,
        (-(-state[0].numel() // lanes),),
        *strided(query, key, value, output),
        state,
        new_state,
        *query.shape[1::2],
        state[0].numel(),
        ORDER=order,
        SCALE=scale,
        STABILISED=stabiliser,
    )
    return output, new_state


def _causal_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: Tensor | None,
    new_state: Tensor,
    order: int,
    scale: float,
    stabiliser: bool,
    ranks: Ranks | None = None,
) -> tuple[Tensor, Tensor]:
    """The output and the moments before each chunk; ``new_state`` receives those after the last.

    The ``state`` is that before the first rank. A rank scans its chunks once more to learn its own total.
    """
    before, tops = _chunk_totals(key, value, order, scale, stabiliser)
    if ranks:
        _scan_totals(before, tops, None, new_state, stabiliser, keep=False)
        earlier = ranks.before(new_state)
        state = state if earlier is None else earlier
    _scan_totals(before, tops, state, new_state, stabiliser, keep=True)
    output = room_like(query)
    launch(
        ea_triton_forward.causal_outputs,
        query,
        programs(query, order),
        *strided(query, key, value, output),
        before,
        *sizes(query),
        ORDER=order,
        SCALE=scale,
        STABILISED=stabiliser,
    )
    return output, before


def _chunk_totals(
    key: Tensor, value: Tensor, order: int, scale: float, stabiliser: bool
) -> tuple[Tensor, Tensor]:
    """The moments of each chunk alone, and the tops that they are relative to."""
    chunks = blocks(key)
    moments = room_for_moments(key, order, chunks)
    chunk_tops = moments.new_empty(chunks, moments[0, 0].numel())
    launch(
        ea_triton_forward.chunk_totals,
        key,
        programs(key, order),
        *strided(key, value),
        moments,
        chunk_tops,
        *sizes(key),
        ORDER=order,
        SCALE=scale,
        STABILISED=stabiliser,
    )
    return moments, chunk_tops


def _scan_totals(
    moments: Tensor,
    chunk_tops: Tensor,
    state: Tensor | None,
    new_state: Tensor,
    stabiliser: bool,
    *,
    keep: bool,
) -> None:
    """Chunk totals become the moments before each chunk (if ``keep``), and ``new_state`` those after the last."""
    chunks, channels = chunk_tops.shape
    launch(
        ea_triton_scans.scan_totals,
        moments,
        (-(-channels // NARROW_LANES), len(new_state)),
        moments,
        chunk_tops,
        state,
        new_state,
        chunks,
        len(new_state),
        channels,
        KEEP=keep,
        STABILISED=stabiliser,
    )


def _full_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    upstream: Tensor,
    moments: Tensor,
    gradients: tuple[Tensor, Tensor, Tensor],
    order: int,
    scale: float,
    stabiliser: bool,
    ranks: Ranks | None,
) -> None:
    """A pass over the queries, a sum over their chunks, a pass over the keys."""
    query_gradient, key_gradient, value_gradient = gradients
    adjoints = moments.new_empty(blocks(query), 2 * (order + 1), moments[0, 0].numel())
    launch(
        ea_triton_backward.full_query_gradients,
        query,
        programs(query, order),
        *strided(query, upstream, query_gradient),
        moments,
        adjoints,
        *sizes(query),
        ORDER=order,
        SCALE=scale,
    )
    adjoint = adjoints.sum(0)
    if ranks:
        adjoint = ranks.all_queries(adjoint)
    launch(
        ea_triton_backward.full_key_gradients,
        key,
        programs(key, order),
        *strided(key, value, key_gradient, value_gradient),
        moments[0, -1],
        adjoint,
        *sizes(key),
        ORDER=order,
        SCALE=scale,
    )


def _causal_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    upstream: Tensor,
    moments: Tensor,
    gradients: tuple[Tensor, Tensor, Tensor],
    order: int,
    scale: float,
    stabiliser: bool,
    ranks: Ranks | None,
) -> None:
    """A pass over the queries, a reverse scan over chunks, a pass over the keys in reverse."""
    query_gradient, key_gradient, value_gradient = gradients
    # alpha and y go where the gradients of key and value will be, if those have the precision of sums.
    wide = query.dtype == moments.dtype
    alphas, outputs = (x if wide else torch.empty_like(x, dtype=moments.dtype) for x in gradients[1:])
    channels = moments[0, 0].numel()
    adjoints = moments.new_empty(len(moments), 2 * (order + 1), channels)
    launch(
        ea_triton_causal_backward.causal_query_gradients,
        query,
        programs(query, order),
        *strided(query, key, value, upstream, query_gradient, alphas, outputs),
        moments,
        adjoints,
        *sizes(query),
        ORDER=order,
        SCALE=scale,
        STABILISED=stabiliser,
    )
    later = None
    if ranks:
        total = torch.empty_like(moments[0])
        _scan_adjoints(adjoints, moments, None, total, keep=False)
        later = ranks.after(total)
    _scan_adjoints(adjoints, moments, later, None, keep=True)
    launch(
        ea_triton_causal_backward.causal_key_gradients,
        query,
        programs(query, order),
        *strided(query, key, value, alphas, outputs, key_gradient, value_gradient),
        moments,
        adjoints,
        *sizes(query),
        ORDER=order,
        SCALE=scale,
        STABILISED=stabiliser,
    )


def _scan_adjoints(
    adjoints: Tensor, moments: Tensor, later: Tensor | None, total: Tensor | None, *, keep: bool
) -> None:
    """Adjoints of each chunk become those after each chunk (if ``keep``), and ``total`` those of all.

    Args:
        later: those after the last chunk, relative to their last row, the top there.
    """
    chunks, rows, channels = adjoints.shape
    launch(
        ea_triton_scans.scan_adjoints,
        moments,
        (-(-channels // NARROW_LANES), rows),
        adjoints,
        moments,
        later,
        total,
        chunks,
        rows,
        channels,
        KEEP=keep,
    )
