"""How sweeps of attentions with polynomial weights are cut: some heads, some rows, a block of features each.

A block holds the features of some rows of some heads: at most ``blocks.BLOCK_ELEMENTS``, unless one head's
shortest block has more.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_impls import blocks
from attention_impls.chunks import accumulator_dtype
from attention_impls.polynomial import Polynomial

MAX_BLOCK_ROWS = {"cpu": 512, "cuda": 4096}
"""Rows of a block that is not causal: more would leave too few heads for the cores to share."""

PASSING_COST = 8
"""Multiply-adds of a matrix product that take as long as one number of the sums that is passed on."""

Tile = tuple[slice, slice]  # of the batch, and of the heads


class Cut(NamedTuple):
    """What one sweep works on at a time: the tiles, and in each the rows of every block.

    chunk: rows of a chunk; a causal block is of whole chunks or of one short one.
    """

    tiles: list[Tile]
    rows: list[slice]
    chunk: int = 0


def full_cut(value: Tensor, polynomial: Polynomial) -> Cut:
    """Of a sweep that is not causal."""
    elements, width = _budget(value), _width(value, polynomial)
    most = MAX_BLOCK_ROWS[_kind(value)]
    rows = min(value.shape[2], max(blocks.MIN_CHUNK_ROWS, min(most, elements // width)))
    return Cut(tiles(value, elements // (rows * width)), cut_rows(value, rows))


def causal_cut(value: Tensor, polynomial: Polynomial) -> Cut:
    """Of a causal sweep."""
    elements, chunk = _budget(value), chunk_rows(value, polynomial)
    row = max(chunk, _width(value, polynomial))
    groups = max(1, min(value.shape[0] * value.shape[1], elements // (chunk * row)))
    rows = chunk * max(1, elements // (groups * chunk * row))
    found = [part for part in cut_rows(value, rows) for part in blocks.whole_chunks(part, chunk)]
    return Cut(tiles(value, groups), found, chunk)


def direct_cut(value: Tensor) -> Cut:
    """Of a sweep over queries that holds their weights of all keys."""
    elements, length = _budget(value), value.shape[2]
    rows = min(length, max(blocks.STRIP_ROWS, elements // length))
    return Cut(tiles(value, elements // (rows * length)), cut_rows(value, rows))


def chunk_rows(value: Tensor, polynomial: Polynomial) -> int:
    """Rows of a causal chunk. A row's work inside a chunk grows with the chunk, about 4 head_dim multiply-adds
    for every row, and its share in passing the sums on falls; both are least together where they are equal.
    """
    sums = polynomial.count * (value.shape[3] + 1)
    balanced = math.isqrt(PASSING_COST * sums // (2 * value.shape[3]))
    return min(value.shape[2], max(blocks.MIN_CHUNK_ROWS, balanced))


def tiles(value: Tensor, groups: int) -> list[Tile]:
    """Tiles of at most so many heads over the batch, at least one: all of some entries, or some of one."""
    batch, heads = value.shape[:2]
    whole = slice(0, heads)
    if groups >= heads:
        return [(entries, whole) for entries in _evenly(batch, groups // heads)]
    return [
        (slice(entry, entry + 1), part) for entry in range(batch) for part in _evenly(heads, max(1, groups))
    ]


def cut_rows(value: Tensor, rows: int) -> list[slice]:
    """All positions, so many at a time."""
    length = value.shape[2]
    return [slice(start, min(start + rows, length)) for start in range(0, length, rows)]


def columns(block: Tensor) -> Tensor:
    """[groups, rows, width] -> [groups, width, rows], every channel contiguous; its own inverse."""
    return block.mT.contiguous()


def with_ones(block: Tensor) -> Tensor:
    """Values [groups, rows, head_dim] and a 1 beside each: sums of them hold the sums of weights, too."""
    return F.pad(block, (0, 1), value=1.0)


def _evenly(count: int, most: int) -> list[slice]:
    size = math.ceil(count / math.ceil(count / most))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _width(value: Tensor, polynomial: Polynomial) -> int:
    return max(polynomial.count, value.shape[3] + 1)


def _kind(value: Tensor) -> str:
    return value.device.type if value.device.type in blocks.BLOCK_ELEMENTS else "cpu"


def _budget(value: Tensor) -> int:
    return blocks.BLOCK_ELEMENTS[_kind(value)]


def divide(output: Tensor, totals: Tensor, rows: slice, sums: Tensor) -> None:
    """Write the means of rows: sums [groups, rows, head_dim + 1] without the last column, over it."""
    blocks.write(totals, rows, sums[..., -1:])
    blocks.write(output, rows, sums[..., :-1] / sums[..., -1:])


def upstream_of_sums(upstream: Tensor, output: Tensor, totals: Tensor, rows: slice) -> Tensor:
    """The gradient of such sums: g / total, and beside it -(g / total) y for the total."""
    ahead = blocks.read(upstream, rows) / blocks.read(totals, rows)
    of_total = (ahead * blocks.read(output, rows)).sum(-1, keepdim=True)
    return torch.cat((ahead, of_total.neg_()), -1)


def empty_totals(value: Tensor) -> Tensor:
    """Of the sums of weights, [batch, heads, seq_len, 1]."""
    return value.new_empty(*value.shape[:3], 1, dtype=accumulator_dtype(value.dtype))


def no_sums(value: Tensor, polynomial: Polynomial) -> Tensor:
    """Zeros for the sums of every head, [batch, heads, features, head_dim + 1]."""
    batch, heads, _, head_dim = value.shape
    dtype = accumulator_dtype(value.dtype)
    return value.new_zeros(batch, heads, polynomial.count, head_dim + 1, dtype=dtype)
