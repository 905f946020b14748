"""Triton kernels of the EA-series backward where every query sees every key: a pass over each.

With alpha_i = g_i / R_i the pass over queries writes dq_i = alpha_i (P'_i - y_i R'_i) and sums the adjoint
moments G_n = sum_i alpha_i x_i^n / n!, H_n = -sum_i alpha_i y_i x_i^n / n!; the pass over keys evaluates
them as polynomials in k_j.

Shapes as in ``ea_triton_forward``; adjoints [chunks, 2 (ORDER + 1), channels], G_0..G_t and H_0..H_t.
"""

# Kernels are compiled by Triton: constants are upper case there, tuples are joined with +, types are inferred.
# ruff: noqa: N803
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, assignment"

from __future__ import annotations

import triton
import triton.language as tl

from attention_impls.kernels.ea_triton_rows import (
    absorb_adjoint,
    advanced,
    columns,
    empty_moments,
    key_gradient_of,
    load_moment,
    load_moments,
    load_rows,
    place,
    query_gradient_of,
    store_moments,
    store_row,
)


@triton.jit(do_not_specialize=["seq_len", "chunk_rows"])
def full_query_gradients(
    query,
    query_strides,
    upstream,
    upstream_strides,
    query_gradient,
    query_gradient_strides,
    moments,  # of all keys
    adjoints,  # of each chunk of queries
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
    """The gradient of every query, and each chunk's share of the adjoints."""
    count: tl.constexpr = ORDER + 1
    chunk, start, length, lanes = place(seq_len, chunk_rows, channels, LANES)
    query_column = columns(query, query_strides, lanes, start, heads, head_dim)
    upstream_column = columns(upstream, upstream_strides, lanes, start, heads, head_dim)
    gradient_column = columns(query_gradient, query_gradient_strides, lanes, start, heads, head_dim)
    value_moments = load_moments(moments, lanes, count)
    key_moments = load_moments(moments + count * channels, lanes, count)
    value_adjoints = empty_moments(key_moments[0], count)
    key_adjoints = empty_moments(key_moments[0], count)
    queries = load_rows(query_column, length, lanes, ROWS)
    upstreams = load_rows(upstream_column, length, lanes, ROWS)
    for done in range(0, length, ROWS):
        query_column = advanced(query_column, ROWS)
        upstream_column = advanced(upstream_column, ROWS)
        next_queries = load_rows(query_column, length - done - ROWS, lanes, ROWS)
        next_upstreams = load_rows(upstream_column, length - done - ROWS, lanes, ROWS)
        for r in tl.static_range(ROWS):
            wide_query = queries[r].to(moments.dtype.element_ty)
            wide_upstream = upstreams[r].to(moments.dtype.element_ty)
            alpha, y, x, gradient = query_gradient_of(
                value_moments, key_moments, wide_query, wide_upstream, ORDER, SCALE
            )
            # Rows past the end add nothing: their upstream was loaded as 0.
            value_adjoints, key_adjoints = absorb_adjoint(value_adjoints, key_adjoints, alpha, y, x, ORDER)
            store_row(gradient_column, r, length - done, lanes, gradient)
        gradient_column = advanced(gradient_column, ROWS)
        queries = next_queries
        upstreams = next_upstreams
    adjoints += chunk * 2 * count * channels
    store_moments(adjoints, value_adjoints, lanes, count)
    store_moments(adjoints + count * channels, key_adjoints, lanes, count)


@triton.jit(do_not_specialize=["seq_len", "chunk_rows"])
def full_key_gradients(
    key,
    key_strides,
    value,
    value_strides,
    key_gradient,
    key_gradient_strides,
    value_gradient,
    value_gradient_strides,
    tops_of_all,  # [channels]: what the weights are relative to
    adjoints,  # of all queries
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
    """The gradients of every key and value."""
    count: tl.constexpr = ORDER + 1
    _chunk, start, length, lanes = place(seq_len, chunk_rows, channels, LANES)
    key_column = columns(key, key_strides, lanes, start, heads, head_dim)
    value_column = columns(value, value_strides, lanes, start, heads, head_dim)
    key_gradient_column = columns(key_gradient, key_gradient_strides, lanes, start, heads, head_dim)
    value_gradient_column = columns(value_gradient, value_gradient_strides, lanes, start, heads, head_dim)
    value_adjoints = load_moments(adjoints, lanes, count)
    key_adjoints = load_moments(adjoints + count * channels, lanes, count)
    top = load_moment(tops_of_all, 0, lanes)
    keys = load_rows(key_column, length, lanes, ROWS)
    values = load_rows(value_column, length, lanes, ROWS)
    for done in range(0, length, ROWS):
        key_column = advanced(key_column, ROWS)
        value_column = advanced(value_column, ROWS)
        next_keys = load_rows(key_column, length - done - ROWS, lanes, ROWS)
        next_values = load_rows(value_column, length - done - ROWS, lanes, ROWS)
        for r in tl.static_range(ROWS):
            of_key, of_value = key_gradient_of(
                value_adjoints,
                key_adjoints,
                keys[r].to(top.dtype),
                values[r].to(top.dtype),
                top,
                ORDER,
                SCALE,
            )
            store_row(key_gradient_column, r, length - done, lanes, of_key)
            store_row(value_gradient_column, r, length - done, lanes, of_value)
        key_gradient_column = advanced(key_gradient_column, ROWS)
        value_gradient_column = advanced(value_gradient_column, ROWS)
        keys = next_keys
        values = next_values
