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
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from attention_impls.chunks import accumulator_dtype
from attention_impls.kernels import ea_triton_backward, ea_triton_causal_backward, ea_triton_forward
from attention_impls.kernels.ranks import Ranks

if not hasattr(triton.language, "tuple"):
    raise ImportError(f"the Triton kernels need triton 3.3 or newer, this is {triton.__version__}")

MIN_CHUNK_ROWS = 32  # below, the moments of a chunk are more traffic than its rows
MAX_CHUNK_ROWS = 256  # above, their traffic no longer counts, and the last programs run alone for longer
PROGRAMS = 2048  # 16 warps for each of 132 multiprocessors: enough to hide the latency of memory

TOP_BASE = math.e  # of the logarithm that moments keep as their reference

LANES = 64  # two channels a thread: their independent chains fill the pipeline, and share the addressing
NARROW_LANES = 32  # one, where the moments of two would not fit the registers
WIDE_ORDER = 8  # the highest order at which two fit in single precision
SCAN_ROWS = 16  # chunks of a scan whose loads are under way at once

ROW_BYTES = 16
"""Bytes of a channel's rows that a group of rows loads: 8 rows at 16 bits, 4 in float32, 2 in float64.

With the group loaded ahead of the one in use, this keeps 20 to 40 KiB under way on a multiprocessor of an
H100, of which it needs about 25 to saturate its memory."""

MAX_ROWS = {"causal_outputs": 4, "causal_query_gradients": 2, "causal_key_gradients": 4}
"""Fewer rows where more would cost registers, and so warps, for bandwidth that arithmetic cannot use."""


class Tiles(NamedTuple):
    """How a kernel is cut: channels of a program, rows of a group, warps of a program."""

    lanes: int
    rows: int
    warps: int = 1


def tiles(kernel: str, order: int, dtype: torch.dtype) -> Tiles:
    """The fixed choice for a kernel, from the registers that the compiler reports for sm_90.

    One warp a program: no step crosses threads but one maximum a chunk. At order 6 the kernels take 64 to
    168 registers a thread, which leaves 12 to 32 warps on a multiprocessor; in float32 nothing is spilled
    up to order 32. Not tuned at run time: compiling the candidates would take minutes.
    """
    if kernel.startswith("scan"):
        return Tiles(NARROW_LANES, SCAN_ROWS)
    lanes = LANES if order <= WIDE_ORDER and dtype != torch.float64 else NARROW_LANES
    rows = min(ROW_BYTES // dtype.itemsize, MAX_ROWS.get(kernel, MAX_CHUNK_ROWS))
    return Tiles(lanes, max(1, rows >> (order // 16)))


def chunk_rows(query: Tensor) -> int:
    """Rows of a chunk, a power of two, by shape alone.

    As many as leave ``PROGRAMS`` programs, but at least sqrt(seq_len) / 2: the scan over chunks is
    sequential, and so is a chunk, and that balances the time of the one with the other's.
    """
    batch, heads, seq_len, head_dim = query.shape
    blocks = -(-batch * heads * head_dim // LANES)
    parallel = min(seq_len * blocks // PROGRAMS, MAX_CHUNK_ROWS)
    rows = max(parallel, math.isqrt(seq_len) // 2, MIN_CHUNK_ROWS)
    return 1 << (rows - 1).bit_length()


def blocks(query: Tensor) -> int:
    """Chunks of rows that a tensor of that shape is cut into: the length of ``moments`` in a causal call."""
    return -(-query.shape[-2] // chunk_rows(query))


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
    moments = _moments(query, order, 1)
    if causal:
        output, before = _causal_forward(query, key, value, None, moments[0], order, scale, stabiliser, ranks)
        return output, before if keep else moments[:0]
    _scan_totals(
        *_chunk_totals(key, value, order, scale, stabiliser), None, moments[0], stabiliser, keep=False
    )
    if ranks:
        moments = ranks.all_keys(moments[0])[None]
    output = _like(query)
    _launch(
        ea_triton_forward.full_outputs,
        query,
        _programs(query, order),
        *_strided(query, output),
        moments,
        *_sizes(query),
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
    gradients = (_like(query), _like(key), _like(value))
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
    output = _like(query)
    kernel = ea_triton_forward.decode_step
    lanes = tiles(kernel.__name__, order, query.dtype).lanes
    _launch(
        kernel,
        query,
        (-(-state[0].numel() // lanes),),
        *_strided(query, key, value, output),
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
    output = _like(query)
    _launch(
        ea_triton_forward.causal_outputs,
        query,
        _programs(query, order),
        *_strided(query, key, value, output),
        before,
        *_sizes(query),
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
    moments = _moments(key, order, chunks)
    chunk_tops = moments.new_empty(chunks, moments[0, 0].numel())
    _launch(
        ea_triton_forward.chunk_totals,
        key,
        _programs(key, order),
        *_strided(key, value),
        moments,
        chunk_tops,
        *_sizes(key),
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
    _launch(
        ea_triton_forward.scan_totals,
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
    _launch(
        ea_triton_backward.full_query_gradients,
        query,
        _programs(query, order),
        *_strided(query, upstream, query_gradient),
        moments,
        adjoints,
        *_sizes(query),
        ORDER=order,
        SCALE=scale,
    )
    adjoint = adjoints.sum(0)
    if ranks:
        adjoint = ranks.all_queries(adjoint)
    _launch(
        ea_triton_backward.full_key_gradients,
        key,
        _programs(key, order),
        *_strided(key, value, key_gradient, value_gradient),
        moments[0, -1],
        adjoint,
        *_sizes(key),
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
    _launch(
        ea_triton_causal_backward.causal_query_gradients,
        query,
        _programs(query, order),
        *_strided(query, key, value, upstream, query_gradient, alphas, outputs),
        moments,
        adjoints,
        *_sizes(query),
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
    _launch(
        ea_triton_causal_backward.causal_key_gradients,
        query,
        _programs(query, order),
        *_strided(query, key, value, alphas, outputs, key_gradient, value_gradient),
        moments,
        adjoints,
        *_sizes(query),
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
    _launch(
        ea_triton_causal_backward.scan_adjoints,
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


def _launch(kernel: Any, like: Tensor, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run a kernel on the device of ``like``, with the tiles for its dtype."""
    chosen = tiles(kernel.__name__, constants.get("ORDER", 0), like.dtype)
    if "ROWS" in kernel.arg_names:
        constants["ROWS"] = chosen.rows
    with torch.cuda.device_of(like):  # type: ignore[no-untyped-call]
        kernel[grid](
            *arguments, **constants, LANES=chosen.lanes, num_warps=chosen.warps, enable_fp_fusion=True
        )


def _programs(tensor: Tensor, order: int) -> tuple[int]:
    """One program for each chunk of rows and block of channels."""
    batch, heads, _, head_dim = tensor.shape
    lanes = tiles("", order, tensor.dtype).lanes
    return (-(-batch * heads * head_dim // lanes) * blocks(tensor),)


def _sizes(tensor: Tensor) -> tuple[int, ...]:
    """seq_len, chunk_rows, heads, head_dim and channels, as the kernels take them."""
    batch, heads, seq_len, head_dim = tensor.shape
    return seq_len, chunk_rows(tensor), heads, head_dim, batch * heads * head_dim


def _strided(*tensors: Tensor) -> tuple[Any, ...]:
    """Each tensor followed by its strides."""
    return tuple(item for tensor in tensors for item in (tensor, tensor.stride()))


def _moments(tensor: Tensor, order: int, count: int) -> Tensor:
    """Room for that many sets of moments."""
    batch, heads, _, head_dim = tensor.shape
    return tensor.new_empty(
        count, 2 * (order + 1) + 1, batch, heads, head_dim, dtype=accumulator_dtype(tensor.dtype)
    )


def _like(tensor: Tensor) -> Tensor:
    """Room for a result laid out like the tensor, or contiguous where that has fewer elements than places."""
    broadcast = 0 in tensor.stride()
    return torch.empty_like(
        tensor, memory_format=torch.contiguous_format if broadcast else torch.preserve_format
    )
