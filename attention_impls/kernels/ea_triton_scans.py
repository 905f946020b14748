"""Triton kernels of EA-series that run over chunks: moments from the first to the last, adjoints in reverse.

Shapes as in ``ea_triton_forward`` and ``ea_triton_causal_backward``.
"""

# Kernels are compiled by Triton: constants are upper case there, tuples are joined with +, types are inferred.
# ruff: noqa: N803, RUF005
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, assignment"

from __future__ import annotations

import triton
import triton.language as tl

from attention_impls.kernels.ea_triton_rows import (
    higher,
    lanes_if,
    lanes_of,
    load_moment,
    lowest_top,
    store_moment,
)


@triton.jit(do_not_specialize=["chunks", "rows"])
def scan_totals(
    moments,  # chunk totals; turned into the moments before each chunk
    chunk_tops,  # [chunks, channels]
    initial,  # [rows, channels]: the moments before the first chunk, or None
    final,  # [rows, channels]: those after the last
    chunks,
    rows,
    channels,
    KEEP: tl.constexpr,
    STABILISED: tl.constexpr,
    LANES: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Running moments over chunks, in place if ``KEEP``, each relative to the running top.

    One program for each row of moments and block of channels, sequential over the few hundred chunks that
    there are at most; the loads of ``ROWS`` chunks are under way at once.
    """
    lanes = lanes_of(tl.program_id(0), channels, LANES)
    row = tl.program_id(1)
    is_top = row == rows - 1  # the totals of this row are the tops themselves
    if initial is None:
        running = tl.full([LANES], 0, chunk_tops.dtype.element_ty)
        top = running
        if STABILISED:
            top = tl.full([LANES], float("-inf"), chunk_tops.dtype.element_ty)
    else:
        running = load_moment(initial, row, lanes)
        top = load_moment(initial, rows - 1, lanes)
    moments += row * channels + lanes[0]
    stride = tl.cast(rows, tl.int64) * channels
    for first in range(0, chunks, ROWS):
        totals = ()
        total_tops = ()
        for r in tl.static_range(ROWS):
            chunk = tl.cast(first + r, tl.int64)
            seen = first + r < chunks
            mask = lanes_if(lanes, seen & (row < rows - 1))
            totals = totals + (tl.load(moments + chunk * stride, mask=mask, other=0.0),)
            mask = lanes_if(lanes, seen)
            total_tops = total_tops + (
                tl.load(chunk_tops + chunk * channels + lanes[0], mask=mask, other=0.0),
            )
        for r in tl.static_range(ROWS):
            seen = first + r < chunks
            if KEEP:
                kept = tl.where(is_top, top, running)
                tl.store(moments + tl.cast(first + r, tl.int64) * stride, kept, mask=lanes_if(lanes, seen))
            new_top = higher(top, tl.where(seen, total_tops[r], top))
            gained = tl.where(seen, totals[r] * tl.exp(total_tops[r] - new_top), 0.0)
            running = tl.where(seen, running * tl.exp(top - new_top), running) + gained
            top = new_top
    store_moment(final, row, tl.where(is_top, top, running), lanes)


@triton.jit(do_not_specialize=["chunks", "rows"])
def scan_adjoints(
    adjoints,  # of each chunk; turned into the sum over the chunks after each
    moments,  # before each chunk, for their tops
    initial,  # [rows + 1, channels]: the adjoints after the last chunk and the top there, or None
    final,  # [rows + 1, channels]: those of all chunks and the top before the first, or None
    chunks,
    rows,  # of adjoints: those of moments are one more
    channels,
    KEEP: tl.constexpr,
    LANES: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Running adjoints over chunks, from the last to the first, in place if ``KEEP``. Programs as in ``scan_totals``.

    A chunk's adjoints are relative to the top before it, which the chunk before it ends with. Going back
    the tops fall, and alpha relative to a lower top is smaller: nothing overflows.
    """
    lanes = lanes_of(tl.program_id(0), channels, LANES)
    row = tl.program_id(1)
    adjoints += row * channels + lanes[0]
    stride = tl.cast(rows, tl.int64) * channels
    tops_before = moments + rows * channels + lanes[0]
    if initial is None:
        running = tl.full([LANES], 0, moments.dtype.element_ty)
        later_top = running
    else:
        running = load_moment(initial, row, lanes)
        later_top = load_moment(initial, rows, lanes)
    for step in range(0, chunks, ROWS):
        totals = ()
        total_tops = ()
        for r in tl.static_range(ROWS):
            chunk = tl.cast(chunks - 1 - step - r, tl.int64)
            seen = lanes_if(lanes, chunk >= 0)
            totals = totals + (tl.load(adjoints + chunk * stride, mask=seen, other=0.0),)
            total_tops = total_tops + (
                tl.load(tops_before + chunk * (stride + channels), mask=seen, other=0.0),
            )
        for r in tl.static_range(ROWS):
            chunk = tl.cast(chunks - 1 - step - r, tl.int64)
            if KEEP:
                tl.store(adjoints + chunk * stride, running, mask=lanes_if(lanes, chunk >= 0))
            fall = tl.exp(total_tops[r] - later_top)
            if initial is None:
                # Nothing is carried to the last chunk, so that the first of these tops is of no account.
                fall = tl.where(step + r > 0, fall, 0.0)
            running = tl.where(chunk >= 0, totals[r] + running * fall, running)
            later_top = total_tops[r]
    if final is not None:
        store_moment(final, row, running, lanes)
        # Before the first token there is no top, and no key to have a gradient: any number will do.
        store_moment(final, rows, higher(lowest_top(running), load_moment(moments, rows, lanes)), lanes)
