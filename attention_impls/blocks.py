"""Sweeps over positions, block by block, so that temporaries stay in a cache.

Linear attentions reduce their keys and values to sums block by block. A causal block is a batch of chunks: within
a chunk the products are a masked matrix, between chunks the sums are carried. Blocks are wide: half precision is
converted as it is read and as it is written.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from attention_impls.chunks import accumulator_dtype

BLOCK_ELEMENTS = {"cpu": 2**18, "cuda": 2**23}
"""Elements of one tensor's block: 1 MiB in float32 on a CPU, the fastest of 2^16 to 2^20."""

LEAST_BLOCKS = {"cpu": 4, "cuda": 1}
LEAST_CAUSAL_BLOCKS = {"cpu": 8, "cuda": 1}
"""Blocks of a long enough tensor. On a CPU a block's temporaries, a dozen when causal, together stay below two
tensors: glibc gives back free memory above twice the greatest block, and every page costs when it returns."""

MIN_CHUNK_ROWS = 64  # below this, a chunk's matrix products are too small for the hardware

STRIP_ROWS = 16
"""Rows that one triangle of ones sums up: the fastest of 16 to 64, and faster than cumsum."""


def chunk_rows(tensor: Tensor) -> int:
    """Rows of a causal chunk: as long as the head is wide, work inside and between chunks balance."""
    return max(MIN_CHUNK_ROWS, tensor.shape[-1])


def block_rows(tensor: Tensor, causal: bool) -> int:
    """Rows of a block of [batch, heads, seq_len, head_dim]: whole chunks, at least one."""
    batch, heads, _, head_dim = tensor.shape
    device = tensor.device.type if tensor.device.type in BLOCK_ELEMENTS else "cpu"
    least = (LEAST_CAUSAL_BLOCKS if causal else LEAST_BLOCKS)[device]
    elements = min(BLOCK_ELEMENTS[device], tensor.numel() // least)
    chunk = chunk_rows(tensor)
    return max(1, elements // (batch * heads * head_dim * chunk)) * chunk


def blocks(tensor: Tensor) -> list[slice]:
    """The positions of every block of a sweep that is not causal."""
    return _cut(tensor.shape[-2], block_rows(tensor, causal=False))


def causal_blocks(tensor: Tensor) -> list[slice]:
    """The positions of every block, each of whole chunks or of one short chunk."""
    found = _cut(tensor.shape[-2], block_rows(tensor, causal=True))
    return [part for rows in found for part in whole_chunks(rows, chunk_rows(tensor))]


def _cut(length: int, rows: int) -> list[slice]:
    return [slice(start, min(start + rows, length)) for start in range(0, length, rows)]


def whole_chunks(rows: slice, chunk: int) -> Iterable[slice]:
    """A block as one of whole chunks, and one of what is left; without those that are empty."""
    middle = rows.stop - (rows.stop - rows.start) % chunk
    return (part for part in (slice(rows.start, middle), slice(middle, rows.stop)) if part.start < part.stop)


def read(x: Tensor, rows: slice) -> Tensor:
    """These rows of [batch, heads, seq_len, head_dim] as [batch * heads, rows, head_dim], wide."""
    return x[:, :, rows].to(accumulator_dtype(x.dtype)).flatten(0, 1)


def write(x: Tensor, rows: slice, block: Tensor) -> None:
    """The inverse of ``read``."""
    target = x[:, :, rows]
    target.copy_(block.view(target.shape))


def add(x: Tensor, rows: slice, block: Tensor) -> None:
    """Add the block to these rows."""
    target = x[:, :, rows]
    target.add_(block.view(target.shape))


def no_sums(x: Tensor) -> tuple[Tensor, Tensor]:
    """Zeros for a context [batch * heads, head_dim, head_dim] and a normaliser [batch * heads, 1, head_dim], wide."""
    batch, heads, _, head_dim = x.shape
    context = x.new_zeros(batch * heads, head_dim, head_dim, dtype=accumulator_dtype(x.dtype))
    return context, torch.zeros_like(context[:, :1])


def no_sum(x: Tensor) -> Tensor:
    """Zeros for a sum over the positions of [batch, heads, seq_len, head_dim]: [batch * heads, 1, head_dim], wide."""
    batch, heads, _, head_dim = x.shape
    return x.new_zeros(batch * heads, 1, head_dim, dtype=accumulator_dtype(x.dtype))


def tokens_seen(chunks: Tensor, rows: slice, tokens: int, groups: int) -> Tensor:
    """How many tokens every row of the chunks sees, ``tokens`` being those before the first of all."""
    first, last = tokens + rows.start + 1, tokens + rows.stop + 1
    counts = torch.arange(first, last, dtype=chunks.dtype, device=chunks.device)
    return counts.view(1, -1, chunks.shape[1], 1).expand(groups, -1, -1, -1).reshape(len(chunks), -1, 1)


def grouped(sums: Tensor) -> Tensor:
    """[batch, heads, rows, columns] -> [batch * heads, rows, columns]."""
    return sums.flatten(0, 1)


def ungrouped(sums: Tensor, batch: int) -> Tensor:
    """The inverse of ``grouped``."""
    return torch.unflatten(sums, 0, (batch, -1))


def split(block: Tensor, chunk: int) -> Tensor:
    """[groups, rows, columns] -> [groups * chunks, rows of a chunk, columns]."""
    rows, columns = block.shape[1:]
    return block.reshape(-1, min(rows, chunk), columns)


def read_chunks(x: Tensor, rows: slice) -> Tensor:
    """These rows in chunks, wide: [batch * heads * chunks, rows of a chunk, head_dim]."""
    return split(read(x, rows), chunk_rows(x))


def sums_before(sums: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
    """For every chunk the sum of all before it, and for every group the sum of all.

    Args:
        sums: one of each chunk, [groups * chunks, rows, columns].
        carried: what lies before the first chunk, [groups, rows, columns].
    """
    return _exclusive(sums, carried, first=True)


def sums_after(sums: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
    """For every chunk the sum of all after it. Arguments as ``sums_before``, carried being what lies behind."""
    return _exclusive(sums, carried, first=False)


def _exclusive(sums: Tensor, carried: Tensor, first: bool) -> tuple[Tensor, Tensor]:
    groups = len(carried)
    flat = sums.reshape(groups, len(sums) // groups, -1)
    chunks = flat.shape[1]
    ones = flat.new_ones(chunks, chunks)
    others = (ones.tril_(-1) if first else ones.triu_(1)).expand(groups, chunks, chunks)
    # A product with a triangle of ones runs several times faster than cumsum on a CPU.
    running = torch.baddbmm(carried.view(groups, 1, -1).expand_as(flat), others, flat)
    last = chunks - 1 if first else 0
    return running.view_as(sums), (running[:, last] + flat[:, last]).view_as(carried)


def running_sums(rows: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
    """For every row the sum of all up to it, this included, and for every group the sum of all.

    Args:
        rows: in chunks, [groups * chunks, rows, columns].
        carried: what lies before the first row, [groups, 1, columns].
    """
    return _inclusive(rows, carried, first=True)


def remaining_sums(rows: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
    """For every row the sum of all from it on. Arguments as ``running_sums``, carried being what lies behind."""
    return _inclusive(rows, carried, first=False)


def _inclusive(rows: Tensor, carried: Tensor, first: bool) -> tuple[Tensor, Tensor]:
    chunk, columns = rows.shape[1:]
    strip = STRIP_ROWS if chunk % STRIP_ROWS == 0 else chunk
    strips = rows.reshape(-1, strip, columns)  # of one sequence with heads side by side, rows lie apart
    beyond, total = _exclusive(strips.sum(-2, keepdim=True), carried, first)
    ones = rows.new_ones(strip, strip)
    seen = (ones.tril_() if first else ones.triu_()).expand(len(strips), strip, strip)
    return torch.baddbmm(beyond.expand_as(strips), seen, strips).view_as(rows), total
