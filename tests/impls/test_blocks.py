"""Blocks of positions: they cover every position once, and sums run through them as cumsum does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attention_impls import blocks

from .support import error

GROUPS, CHUNKS, COLUMNS = 2, 3, 4


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 640, 1000, 4097])
@pytest.mark.parametrize("rows_of_all_heads", [1, 2**9, 2**20])
def test_causal_blocks_cover_every_position_once_in_whole_chunks_or_one_short(
    length: int, rows_of_all_heads: int
) -> None:
    tensor = torch.empty(1).expand(1, rows_of_all_heads, length, 1)
    found = blocks.causal_blocks(tensor)
    assert [position for rows in found for position in range(length)[rows]] == list(range(length))
    sizes = [rows.stop - rows.start for rows in found]
    assert all(
        size % 64 == 0 or (size < 64 and number == len(sizes) - 1) for number, size in enumerate(sizes)
    )


def test_a_block_of_a_short_sequence_is_a_part_and_of_a_long_one_is_bounded() -> None:
    for length, full, causal in ((2**9, 2**7, 2**6), (2**10, 2**8, 2**7), (2**16, 2**9, 2**9)):
        tensor = torch.empty(1).expand(1, 8, length, 64)
        assert blocks.block_rows(tensor, causal=False) == full
        assert blocks.block_rows(tensor, causal=True) == causal


@pytest.mark.parametrize("rows", [5, 16, 48])
def test_running_and_remaining_sums_are_cumsums_in_both_directions(rows: int) -> None:
    chunks, carried = drawn(GROUPS * CHUNKS, rows, COLUMNS), drawn(GROUPS, 1, COLUMNS)
    groups = chunks.view(GROUPS, -1, COLUMNS)
    total = groups.sum(1, keepdim=True) + carried
    forward, backward = groups.cumsum(1) + carried, groups.flip(1).cumsum(1).flip(1) + carried
    for sums, expected in ((blocks.running_sums, forward), (blocks.remaining_sums, backward)):
        found, end = sums(chunks, carried)
        assert error(found.view_as(groups), expected) < 1e-13
        assert error(end, total) < 1e-13


def test_sums_before_and_after_leave_out_the_chunk_itself() -> None:
    sums, carried = drawn(GROUPS * CHUNKS, 2, COLUMNS), drawn(GROUPS, 2, COLUMNS)
    before, all_before = blocks.sums_before(sums, carried)
    after, all_after = blocks.sums_after(sums, carried)
    groups = sums.view(GROUPS, CHUNKS, 2, COLUMNS)
    total = groups.sum(1) + carried
    for found in (all_before, all_after):
        assert error(found, total) < 1e-13
    assert error(before.view_as(groups)[:, 2], groups[:, :2].sum(1) + carried) < 1e-13
    assert error(after.view_as(groups)[:, 0], groups[:, 1:].sum(1) + carried) < 1e-13
    assert torch.equal(before.view_as(groups)[:, 0], carried)


def test_what_is_written_is_what_was_read_whatever_the_layout_and_dtype() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        tokens_first = drawn(2, 7, 3, 4).to(dtype).transpose(1, 2)
        for x in (tokens_first, tokens_first.contiguous()):
            copy = torch.zeros_like(x)
            for rows in (slice(0, 3), slice(3, 7)):
                blocks.write(copy, rows, blocks.read(x, rows))
            assert torch.equal(copy, x)
