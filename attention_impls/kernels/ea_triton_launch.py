"""How the Triton kernels of EA-series are cut into programs and launched, and room for what they write."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attention_impls.chunks import accumulator_dtype

MIN_CHUNK_ROWS = 32  # below, the moments of a chunk are more traffic than its rows
MAX_CHUNK_ROWS = 256  # above, their traffic no longer counts, and the last programs run alone for longer
PROGRAMS = 2048  # 16 warps for each of 132 multiprocessors: enough to hide the latency of memory

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


def launch(kernel: Any, like: Tensor, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run a kernel on the device of ``like``, with the tiles for its dtype."""
    chosen = tiles(kernel.__name__, constants.get("ORDER", 0), like.dtype)
    if "ROWS" in kernel.arg_names:
        constants["ROWS"] = chosen.rows
    with torch.cuda.device_of(like):  # type: ignore[no-untyped-call]
        kernel[grid](
            *arguments, **constants, LANES=chosen.lanes, num_warps=chosen.warps, enable_fp_fusion=True
        )


def programs(tensor: Tensor, order: int) -> tuple[int]:
    """One program for each chunk of rows and block of channels."""
    batch, heads, _, head_dim = tensor.shape
    lanes = tiles("", order, tensor.dtype).lanes
    return (-(-batch * heads * head_dim // lanes) * blocks(tensor),)


def sizes(tensor: Tensor) -> tuple[int, ...]:
    """seq_len, chunk_rows, heads, head_dim and channels, as the kernels take them."""
    batch, heads, seq_len, head_dim = tensor.shape
    return seq_len, chunk_rows(tensor), heads, head_dim, batch * heads * head_dim


def strided(*tensors: Tensor) -> tuple[Any, ...]:
    """Each tensor followed by its strides."""
    return tuple(item for tensor in tensors for item in (tensor, tensor.stride()))


def room_for_moments(tensor: Tensor, order: int, count: int) -> Tensor:
    """Room for that many sets of moments."""
    batch, heads, _, head_dim = tensor.shape
    return tensor.new_empty(
        count, 2 * (order + 1) + 1, batch, heads, head_dim, dtype=accumulator_dtype(tensor.dtype)
    )


def room_like(tensor: Tensor) -> Tensor:
    """Room for a result laid out like the tensor, or contiguous where that has fewer elements than places."""
    broadcast = 0 in tensor.stride()
    return torch.empty_like(
        tensor, memory_format=torch.contiguous_format if broadcast else torch.preserve_format
    )
