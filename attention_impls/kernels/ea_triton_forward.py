"""Triton kernels of the EA-series forward: chunk totals, the outputs, one decode step.

Shapes: query, key, value, output [batch, heads, seq_len, head_dim] with any strides, passed as tuples;
moments [chunks, 2 (ORDER + 1) + 1, channels], dense, with channels = batch * heads * head_dim; the rows
are S_0..S_t, Z_0..Z_t and the top that they are relative to.
"""

# Kernels are compiled by Triton: constants are upper case there, tuples are joined with +, types are inferred.
# ruff: noqa: N803
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, assignment"

from __future__ import annotations

import triton
import triton.language as tl

from attention_impls.kernels.ea_triton_rows import (
    absorb,
    advanced,
    columns,
    empty_moments,
    higher,
    lanes_of,
    load_moment,
    load_moments,
    load_rows,
    log_weight,
    lowest_top,
    place,
    rescaled,
    series,
    store_moment,
    store_moments,
    store_row,
    top_of_rows,
    tops,
)


@triton.jit(do_not_specialize=["seq_len", "chunk_rows"])
def chunk_totals(
    key,
    key_strides,
    value,
    value_strides,
    moments,  # the rows of tops are left to ``scan_totals``
    chunk_tops,  # [chunks, channels]
    seq_len,
    chunk_rows,
    heads,
    head_dim,
    channels,
    ORDER: tl.constexpr,
    SCALE: tl.constexpr,
    STABILISED: tl.constexpr,
    LANES: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The moments of each chunk alone, relative to its own top."""
    count: tl.constexpr = ORDER + 1
    chunk, start, length, lanes = place(seq_len, chunk_rows, channels, LANES)
    key_column = columns(key, key_strides, lanes, start, heads, head_dim)
    value_column = columns(value, value_strides, lanes, start, heads, head_dim)
    top = tl.full([LANES], 0, moments.dtype.element_ty)
    value_moments = empty_moments(top, count)
    key_moments = empty_moments(top, count)
    if STABILISED:
        top = lowest_top(top)
    keys = load_rows(key_column, length, lanes, ROWS)
    values = load_rows(value_column, length, lanes, ROWS)
    for done in range(0, length, ROWS):
        key_column = advanced(key_column, ROWS)
        value_column = advanced(value_column, ROWS)
        next_keys = load_rows(key_column, length - done - ROWS, lanes, ROWS)
        next_values = load_rows(value_column, length - done - ROWS, lanes, ROWS)
        if STABILISED:
            # Rescaled once for all rows at hand: what vanishes by it has vanished from the total, too.
            old_top = top
            top = top_of_rows(top, keys, length - done, SCALE, ROWS)
            value_moments = rescaled(value_moments, tl.exp(old_top - top), count)
            key_moments = rescaled(key_moments, tl.exp(old_top - top), count)
        for r in tl.static_range(ROWS):
            wide_key = keys[r].to(top.dtype)
            weight = tl.exp(log_weight(wide_key, SCALE) - top)
            weight = tl.where(r < length - done, weight, 0.0)
            value_moments, key_moments = absorb(
                value_moments, key_moments, weight, wide_key, values[r].to(top.dtype), ORDER
            )
        keys = next_keys
        values = next_values
    moments += chunk * (2 * count + 1) * channels
    store_moments(moments, value_moments, lanes, count)
    store_moments(moments + count * channels, key_moments, lanes, count)
    store_moment(chunk_tops, chunk, top, lanes)


@triton.jit(do_not_specialize=["seq_len", "chunk_rows"])
def full_outputs(
    query,
    query_strides,
    output,
    output_strides,
    moments,  # of all keys
    seq_len,
    chunk_rows,
    heads,
    head_dim,
    channels,
    ORDER: tl.constexpr,
    SCALE: tl.constexpr,
    LANES: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The ratio of both series at every query."""
    count: tl.constexpr = ORDER + 1
    _chunk, start, length, lanes = place(seq_len, chunk_rows, channels, LANES)
    query_column = columns(query, query_strides, lanes, start, heads, head_dim)
    output_column = columns(output, output_strides, lanes, start, heads, head_dim)
    value_moments = load_moments(moments, lanes, count)
    key_moments = load_moments(moments + count * channels, lanes, count)
    queries = load_rows(query_column, length, lanes, ROWS)
    for done in range(0, length, ROWS):
        query_column = advanced(query_column, ROWS)
        next_queries = load_rows(query_column, length - done - ROWS, lanes, ROWS)
        for r in tl.static_range(ROWS):
            x = 2 * SCALE * queries[r].to(moments.dtype.element_ty)
            y = series(value_moments, x, ORDER) / series(key_moments, x, ORDER)
            store_row(output_column, r, length - done, lanes, y)
        output_column = advanced(output_column, ROWS)
        queries = next_queries


@triton.jit
def _causal_rows(
    query,
    key,
    value,
    output,
    value_moments,
    key_moments,
    top,
    length,
    lanes,
    ORDER: tl.constexpr,
    SCALE: tl.constexpr,
    STEEP: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The rows of one chunk, from the moments before it relative to ``top``: the last, or the old if steep."""
    count: tl.constexpr = ORDER + 1
    queries = load_rows(query, length, lanes, ROWS)
    keys = load_rows(key, length, lanes, ROWS)
    values = load_rows(value, length, lanes, ROWS)
    for done in range(0, length, ROWS):
        query = advanced(query, ROWS)
        key = advanced(key, ROWS)
        value = advanced(value, ROWS)
        next_queries = load_rows(query, length - done - ROWS, lanes, ROWS)
        next_keys = load_rows(key, length - done - ROWS, lanes, ROWS)
        next_values = load_rows(value, length - done - ROWS, lanes, ROWS)
        for r in tl.static_range(ROWS):
            wide_key = keys[r].to(top.dtype)
            if STEEP:
                new_top = higher(higher(lowest_top(top), top), log_weight(wide_key, SCALE))
                value_moments = rescaled(value_moments, tl.exp(top - new_top), count)
                key_moments = rescaled(key_moments, tl.exp(top - new_top), count)
                top = new_top
            weight = tl.exp(log_weight(wide_key, SCALE) - top)
            value_moments, key_moments = absorb(
                value_moments, key_moments, weight, wide_key, values[r].to(top.dtype), ORDER
            )
            x = 2 * SCALE * queries[r].to(top.dtype)
            y = series(value_moments, x, ORDER) / series(key_moments, x, ORDER)
            store_row(output, r, length - done, lanes, y)
        output = advanced(output, ROWS)
        queries = next_queries
        keys = next_keys
        values = next_values


@triton.jit(do_not_specialize=["seq_len", "chunk_rows"])
def causal_outputs(
    query,
    query_strides,
    key,
    key_strides,
    value,
    value_strides,
    output,
    output_strides,
    moments,  # before each chunk
    seq_len,
    chunk_rows,
    heads,
    head_dim,
    channels,
    ORDER: tl.constexpr,
    SCALE: tl.constexpr,
    STABILISED: tl.constexpr,
    LANES: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The ratio of both series at every query, of prefix sums that grow row by row."""
    count: tl.constexpr = ORDER + 1
    chunk, start, length, lanes = place(seq_len, chunk_rows, channels, LANES)
    query_column = columns(query, query_strides, lanes, start, heads, head_dim)
    key_column = columns(key, key_strides, lanes, start, heads, head_dim)
    value_column = columns(value, value_strides, lanes, start, heads, head_dim)
    output_column = columns(output, output_strides, lanes, start, heads, head_dim)
    size = (2 * count + 1) * channels
    moments += chunk * size
    value_moments = load_moments(moments, lanes, count)
    key_moments = load_moments(moments + count * channels, lanes, count)
    old_top = tl.full([LANES], 0, moments.dtype.element_ty)
    top = old_top
    steep = False
    if STABILISED:
        next_chunk = tl.where(start + length < seq_len, size, 0)
        old_top, top, steep = tops(
            moments + 2 * count * channels, next_chunk, key_column, length, lanes, SCALE, ROWS
        )
    if steep:
        _causal_rows(
            query_column,
            key_column,
            value_column,
            output_column,
            value_moments,
            key_moments,
            old_top,
            length,
            lanes,
            ORDER,
            SCALE,
            True,
            1,
        )
    else:
        _causal_rows(
            query_column,
            key_column,
            value_column,
            output_column,
            rescaled(value_moments, tl.exp(old_top - top), count),
            rescaled(key_moments, tl.exp(old_top - top), count),
            top,
            length,
            lanes,
            ORDER,
            SCALE,
            False,
            ROWS,
        )


@triton.jit
def decode_step(
    query,
    query_strides,
    key,
    key_strides,
    value,
    value_strides,
    output,
    output_strides,
    state,  # [2 (ORDER + 1) + 1, channels]
    new_state,
    heads,
    head_dim,
    channels,
    ORDER: tl.constexpr,
    SCALE: tl.constexpr,
    STABILISED: tl.constexpr,
    LANES: tl.constexpr,
):
    """One token: its output and the moments that include it. Reads and writes the state once."""
    count: tl.constexpr = ORDER + 1
    lanes = lanes_of(tl.program_id(0), channels, LANES)
    value_moments = load_moments(state, lanes, count)
    key_moments = load_moments(state + count * channels, lanes, count)
    top = load_moment(state, 2 * count, lanes)
    query_column = columns(query, query_strides, lanes, 0, heads, head_dim)
    wide_query = load_rows(query_column, 1, lanes, 1)[0].to(top.dtype)
    key_column = columns(key, key_strides, lanes, 0, heads, head_dim)
    wide_key = load_rows(key_column, 1, lanes, 1)[0].to(top.dtype)
    value_column = columns(value, value_strides, lanes, 0, heads, head_dim)
    wide_value = load_rows(value_column, 1, lanes, 1)[0].to(top.dtype)
    new_top = tl.full(top.shape, 0, top.dtype)
    if STABILISED:
        new_top = higher(higher(lowest_top(top), top), log_weight(wide_key, SCALE))
    value_moments = rescaled(value_moments, tl.exp(top - new_top), count)
    key_moments = rescaled(key_moments, tl.exp(top - new_top), count)
    weight = tl.exp(log_weight(wide_key, SCALE) - new_top)
    value_moments, key_moments = absorb(value_moments, key_moments, weight, wide_key, wide_value, ORDER)
    x = 2 * SCALE * wide_query
    y = series(value_moments, x, ORDER) / series(key_moments, x, ORDER)
    store_row(columns(output, output_strides, lanes, 0, heads, head_dim), 0, 1, lanes, y)
    store_moments(new_state, value_moments, lanes, count)
    store_moments(new_state + count * channels, key_moments, lanes, count)
    store_moment(new_state, 2 * count, new_top, lanes)
