"""Triton kernels of the causal EA-series backward: queries in order, keys in reverse order.

As in ``ea_triton_backward``, but query i has the moments of its own prefix, and key j the adjoints of the
queries i >= j. Both run through a chunk row by row from what is known at its border, never by subtracting
from a total. alpha and y of each row are written by the first pass for the second, which could not have
them again: they belong to prefixes, and it comes from the other end.

Query i weighs key j by exp(log-weight_j - top_i), at most 1 with the running top of the rows up to i, and
its alpha is relative to that top as well. Going back to earlier keys the top falls, and adjoints rescaled to
a lower top get smaller: nothing overflows.
"""

# Kernels are compiled by Triton: constants are upper case there, tuples are joined with +, types are inferred.
# ruff: noqa: N803
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, assignment"

from __future__ import annotations

import triton
import triton.language as tl

from attention_impls.kernels.ea_triton_rows import (
    absorb,
    absorb_adjoint,
    advanced,
    columns,
    empty_moments,
    higher,
    key_gradient_of,
    load_moments,
    load_rows,
    log_weight,
    lowest_top,
    place,
    query_gradient_of,
    rescaled,
    store_moments,
    store_row,
    top_of_chunk,
    tops,
)


@triton.jit
def _causal_query_rows(
    query,
    key,
    value,
    upstream,
    query_gradient,
    alphas,
    outputs,
    value_moments,
    key_moments,
    old_top,
    top,
    length,
    lanes,
    ORDER: tl.constexpr,
    SCALE: tl.constexpr,
    STEEP: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The rows of one chunk; returns its adjoints relative to ``old_top``, as earlier chunks need them."""
    count: tl.constexpr = ORDER + 1
    value_adjoints = empty_moments(top, count)
    key_adjoints = empty_moments(top, count)
    share = tl.exp(old_top - top)
    queries = load_rows(query, length, lanes, ROWS)
    keys = load_rows(key, length, lanes, ROWS)
    values = load_rows(value, length, lanes, ROWS)
    upstreams = load_rows(upstream, length, lanes, ROWS)
    for done in range(0, length, ROWS):
        query = advanced(query, ROWS)
        key = advanced(key, ROWS)
        value = advanced(value, ROWS)
        upstream = advanced(upstream, ROWS)
        next_queries = load_rows(query, length - done - ROWS, lanes, ROWS)
        next_keys = load_rows(key, length - done - ROWS, lanes, ROWS)
        next_values = load_rows(value, length - done - ROWS, lanes, ROWS)
        next_upstreams = load_rows(upstream, length - done - ROWS, lanes, ROWS)
        for r in tl.static_range(ROWS):
            wide_key = keys[r].to(top.dtype)
            if STEEP:
                new_top = higher(higher(lowest_top(top), top), log_weight(wide_key, SCALE))
                value_moments = rescaled(value_moments, tl.exp(top - new_top), count)
                key_moments = rescaled(key_moments, tl.exp(top - new_top), count)
                top = new_top
                share = tl.exp(old_top - top)
            # A row past the end was loaded as zeros. With a weight of 0 its alpha and y are 0 and finite.
            weight = tl.where(r < length - done, tl.exp(log_weight(wide_key, SCALE) - top), 0.0)
            value_moments, key_moments = absorb(
                value_moments, key_moments, weight, wide_key, values[r].to(top.dtype), ORDER
            )
            alpha, y, x, gradient = query_gradient_of(
                value_moments, key_moments, queries[r].to(top.dtype), upstreams[r].to(top.dtype), ORDER, SCALE
            )
            store_row(query_gradient, r, length - done, lanes, gradient)
            store_row(alphas, r, length - done, lanes, alpha)
            store_row(outputs, r, length - done, lanes, y)
            value_adjoints, key_adjoints = absorb_adjoint(
                value_adjoints, key_adjoints, alpha * share, y, x, ORDER
            )
        query_gradient = advanced(query_gradient, ROWS)
        alphas = advanced(alphas, ROWS)
        outputs = advanced(outputs, ROWS)
        queries = next_queries
        keys = next_keys
        values = next_values
        upstreams = next_upstreams
    return value_adjoints, key_adjoints


@triton.jit(do_not_specialize=["seq_len", "chunk_rows"])
def causal_query_gradients(
    query,
    query_strides,
    key,
    key_strides,
    value,
    value_strides,
    upstream,
    upstream_strides,
    query_gradient,
    query_gradient_strides,
    alphas,
    alpha_strides,
    outputs,
    output_strides,
    moments,  # before each chunk
    adjoints,  # of each chunk, relative to the top before it
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
    """The gradient of every query; alpha and y of every row, which the pass over keys needs in reverse."""
    count: tl.constexpr = ORDER + 1
    chunk, start, length, lanes = place(seq_len, chunk_rows, channels, LANES)
    query_column = columns(query, query_strides, lanes, start, heads, head_dim)
    key_column = columns(key, key_strides, lanes, start, heads, head_dim)
    value_column = columns(value, value_strides, lanes, start, heads, head_dim)
    upstream_column = columns(upstream, upstream_strides, lanes, start, heads, head_dim)
    gradient_column = columns(query_gradient, query_gradient_strides, lanes, start, heads, head_dim)
    alpha_column = columns(alphas, alpha_strides, lanes, start, heads, head_dim)
    output_column = columns(outputs, output_strides, lanes, start, heads, head_dim)
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
        value_adjoints, key_adjoints = _causal_query_rows(
            query_column,
            key_column,
            value_column,
            upstream_column,
            gradient_column,
            alpha_column,
            output_column,
            value_moments,
            key_moments,
            old_top,
            old_top,
            length,
            lanes,
            ORDER,
            SCALE,
            True,
            1,
        )
    else:
        value_adjoints, key_adjoints = _causal_query_rows(
            query_column,
            key_column,
            value_column,
            upstream_column,
            gradient_column,
            alpha_column,
            output_column,
            rescaled(value_moments, tl.exp(old_top - top), count),
            rescaled(key_moments, tl.exp(old_top - top), count),
            old_top,
            top,
            length,
            lanes,
            ORDER,
            SCALE,
            False,
            ROWS,
        )
    adjoints += chunk * 2 * count * channels
    store_moments(adjoints, value_adjoints, lanes, count)
    store_moments(adjoints + count * channels, key_adjoints, lanes, count)


@triton.jit
def _causal_key_rows(
    query,
    key,
    value,
    alphas,
    outputs,
    key_gradient,
    value_gradient,
    value_adjoints,
    key_adjoints,
    lowest,
    top,
    length,
    lanes,
    ORDER: tl.constexpr,
    SCALE: tl.constexpr,
    STEEP: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The rows of one chunk in reverse, from the adjoints after it relative to its last ``top``."""
    count: tl.constexpr = ORDER + 1
    first_key = key
    groups = (length + ROWS - 1) // ROWS
    last = (groups - 1) * ROWS
    query = advanced(query, last)
    key = advanced(key, last)
    value = advanced(value, last)
    alphas = advanced(alphas, last)
    outputs = advanced(outputs, last)
    key_gradient = advanced(key_gradient, last)
    value_gradient = advanced(value_gradient, last)
    queries = load_rows(query, length - last, lanes, ROWS)
    keys = load_rows(key, length - last, lanes, ROWS)
    values = load_rows(value, length - last, lanes, ROWS)
    row_alphas = load_rows(alphas, length - last, lanes, ROWS)
    row_outputs = load_rows(outputs, length - last, lanes, ROWS)
    for group in range(groups):
        left = length - last + group * ROWS  # rows from this group's first to the chunk's end
        query = advanced(query, -ROWS)
        key = advanced(key, -ROWS)
        value = advanced(value, -ROWS)
        alphas = advanced(alphas, -ROWS)
        outputs = advanced(outputs, -ROWS)
        next_left = tl.where(group + 1 < groups, left + ROWS, 0)
        next_queries = load_rows(query, next_left, lanes, ROWS)
        next_keys = load_rows(key, next_left, lanes, ROWS)
        next_values = load_rows(value, next_left, lanes, ROWS)
        next_row_alphas = load_rows(alphas, next_left, lanes, ROWS)
        next_row_outputs = load_rows(outputs, next_left, lanes, ROWS)
        for r in tl.static_range(ROWS - 1, -1, -1):
            if STEEP:
                # The running top cannot be run backwards: found anew for each row. Steep chunks are rare.
                new_top = top_of_chunk(lowest, first_key, length - left + 1, lanes, SCALE, 8)
                value_adjoints = rescaled(value_adjoints, tl.exp(new_top - top), count)
                key_adjoints = rescaled(key_adjoints, tl.exp(new_top - top), count)
                top = new_top
            value_adjoints, key_adjoints = absorb_adjoint(
                value_adjoints,
                key_adjoints,
                row_alphas[r].to(top.dtype),
                row_outputs[r].to(top.dtype),
                2 * SCALE * queries[r].to(top.dtype),
                ORDER,
            )
            of_key, of_value = key_gradient_of(
                value_adjoints,
                key_adjoints,
                keys[r].to(top.dtype),
                values[r].to(top.dtype),
                top,
                ORDER,
                SCALE,
            )
            store_row(key_gradient, r, left, lanes, of_key)
            store_row(value_gradient, r, left, lanes, of_value)
        queries = next_queries
        keys = next_keys
        values = next_values
        row_alphas = next_row_alphas
        row_outputs = next_row_outputs
        key_gradient = advanced(key_gradient, -ROWS)
        value_gradient = advanced(value_gradient, -ROWS)


@triton.jit(do_not_specialize=["seq_len", "chunk_rows"])
def causal_key_gradients(
    query,
    query_strides,
    key,
    key_strides,
    value,
    value_strides,
    alphas,  # may be the memory of key_gradient: a thread reads a row's element before it writes it
    alpha_strides,
    outputs,  # may be the memory of value_gradient
    output_strides,
    key_gradient,
    key_gradient_strides,
    value_gradient,
    value_gradient_strides,
    moments,  # before each chunk, for their tops
    adjoints,  # after each chunk, relative to the top at its end
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
    """The gradients of every key and value."""
    count: tl.constexpr = ORDER + 1
    chunk, start, length, lanes = place(seq_len, chunk_rows, channels, LANES)
    query_column = columns(query, query_strides, lanes, start, heads, head_dim)
    key_column = columns(key, key_strides, lanes, start, heads, head_dim)
    value_column = columns(value, value_strides, lanes, start, heads, head_dim)
    alpha_column = columns(alphas, alpha_strides, lanes, start, heads, head_dim)
    output_column = columns(outputs, output_strides, lanes, start, heads, head_dim)
    key_gradient_column = columns(key_gradient, key_gradient_strides, lanes, start, heads, head_dim)
    value_gradient_column = columns(value_gradient, value_gradient_strides, lanes, start, heads, head_dim)
    adjoints += chunk * 2 * count * channels
    value_adjoints = load_moments(adjoints, lanes, count)
    key_adjoints = load_moments(adjoints + count * channels, lanes, count)
    old_top = tl.full([LANES], 0, moments.dtype.element_ty)
    top = old_top
    steep = False
    if STABILISED:
        size = (2 * count + 1) * channels
        moments += chunk * size
        next_chunk = tl.where(start + length < seq_len, size, 0)
        old_top, top, steep = tops(
            moments + 2 * count * channels, next_chunk, key_column, length, lanes, SCALE, ROWS
        )
    if steep:
        _causal_key_rows(
            query_column,
            key_column,
            value_column,
            alpha_column,
            output_column,
            key_gradient_column,
            value_gradient_column,
            value_adjoints,
            key_adjoints,
            higher(lowest_top(old_top), old_top),
            top,
            length,
            lanes,
            ORDER,
            SCALE,
            True,
            1,
        )
    else:
        _causal_key_rows(
            query_column,
            key_column,
            value_column,
            alpha_column,
            output_column,
            key_gradient_column,
            value_gradient_column,
            value_adjoints,
            key_adjoints,
            top,
            top,
            length,
            lanes,
            ORDER,
            SCALE,
            False,
            ROWS,
        )
