"""What the Triton kernels share: how a program sees its channels, and the algebra of one row.

A program owns ``LANES`` channels, counted flat over [batch, heads, head_dim], and walks down the rows
(positions) of one chunk. Every channel belongs to one thread, which holds the channel's moments in
registers. That suits sums over rows better than a [rows, LANES] tile would:

* a prefix sum costs one addition a row. ``tl.cumsum`` over a tile would pay a scan across threads, with
  shuffles or shared memory, for each of the 2 (order + 1) moments;
* totals need no reduction at the end, and 2 (order + 1) trees across warps would cost as much as tiles;
* a warp reads whole cache lines: a row of 64 channels is 128 bytes at 16 bits and 256 at 32.

The price is the latency of a loop over rows. It is hidden by loading ``ROWS`` rows before the first is
used (the loop's body is unrolled over them) and by the multiprocessor's other warps.

Moments are tuples of [LANES] tensors, one for each power, unrolled at compile time. Triton has such
tuples from 3.3 on. Of Triton's language only built-ins are used: what its own ``standard`` module adds,
such as ``tl.zeros``, is bound to the compiler or the interpreter when Triton is imported, and would bind
the tests to the order of imports.
"""

# Kernels are compiled by Triton: constants are upper case there, tuples are joined with +, types are inferred.
# ruff: noqa: N803, RUF005
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, assignment"

from __future__ import annotations

import triton
import triton.language as tl

MAX_RISE = tl.constexpr(30.0)
"""Largest rise of the top within a chunk whose rows all compute relative to its last top: see chunks.py."""


@triton.jit
def place(seq_len, chunk_rows, channels, LANES: tl.constexpr):
    """Where a program works: its chunk, the chunk's first row and length, its lanes."""
    blocks = (channels + LANES - 1) // LANES
    chunk = (tl.program_id(0) // blocks).to(tl.int64)
    start = chunk * chunk_rows
    length = tl.minimum(seq_len - start, chunk_rows).to(tl.int32)
    return chunk, start, length, lanes_of(tl.program_id(0) % blocks, channels, LANES)


@triton.jit
def lanes_of(block, channels, LANES: tl.constexpr):
    """A block's channels, and how many there are in all: the last block may have more lanes than channels."""
    return block * LANES + tl.arange(0, LANES), channels


@triton.jit
def lanes_if(lanes, holds):
    """The mask of the lanes that exist, or of none."""
    # Not ``(lane < channels) & holds``: the interpreter of Triton 3.9 makes integers of it.
    return lanes[0] < tl.where(holds, lanes[1], 0)


@triton.jit
def columns(tensor, strides, lanes, row, heads, head_dim):
    """Each lane's channel from that row on: (pointers to the row, stride of rows)."""
    lane = lanes[0]
    plane = lane // head_dim
    # 64 bits: a tensor may have more than 2^31 elements.
    batch = (plane // heads).to(tl.int64)
    head = (plane % heads).to(tl.int64)
    channel = (lane % head_dim).to(tl.int64)
    stride = tl.cast(strides[2], tl.int64)
    pointers = tensor + (batch * strides[0] + head * strides[1] + channel * strides[3])
    return advanced((pointers, stride), row)


@triton.jit
def advanced(column, rows):
    """The columns that many rows further on."""
    return column[0] + rows * column[1], column[1]


@triton.jit
def load_rows(column, left, lanes, ROWS: tl.constexpr):
    """The first ``ROWS`` rows, of which ``left`` exist and the others are 0.

    In their own dtype: to convert here would be to wait for each load in turn.
    """
    rows = ()
    for r in tl.static_range(ROWS):
        rows = rows + (tl.load(column[0] + r * column[1], mask=lanes_if(lanes, r < left), other=0.0),)
    return rows


@triton.jit
def store_row(column, r, left, lanes, values):
    """Row r, converted to the tensor's dtype."""
    pointers = column[0] + r * column[1]
    tl.store(pointers, values.to(pointers.dtype.element_ty), mask=lanes_if(lanes, r < left))


@triton.jit
def load_moment(moments, n, lanes):
    """Row n of [rows, channels] at each lane."""
    return tl.load(moments + n * lanes[1] + lanes[0], mask=lanes[0] < lanes[1], other=0.0)


@triton.jit
def store_moment(moments, n, values, lanes):
    """The opposite of ``load_moment``."""
    tl.store(moments + n * lanes[1] + lanes[0], values, mask=lanes[0] < lanes[1])


@triton.jit
def load_moments(moments, lanes, COUNT: tl.constexpr):
    """Rows 0..COUNT - 1 of [rows, channels] at each lane."""
    loaded = ()
    for n in tl.static_range(COUNT):
        loaded = loaded + (load_moment(moments, n, lanes),)
    return loaded


@triton.jit
def store_moments(moments, values, lanes, COUNT: tl.constexpr):
    """The opposite of ``load_moments``."""
    for n in tl.static_range(COUNT):
        store_moment(moments, n, values[n], lanes)


@triton.jit
def empty_moments(like, COUNT: tl.constexpr):
    """``COUNT`` moments of no rows."""
    empty = ()
    for _n in tl.static_range(COUNT):
        empty = empty + (tl.full(like.shape, 0, like.dtype),)
    return empty


@triton.jit
def rescaled(moments, factor, COUNT: tl.constexpr):
    """All moments times a factor per lane."""
    scaled = ()
    for n in tl.static_range(COUNT):
        scaled = scaled + (moments[n] * factor,)
    return scaled


@triton.jit
def log_weight(key, SCALE: tl.constexpr):
    """-s k^2."""
    return -SCALE * key * key


@triton.jit
def higher(top, found):
    """The greater of both, and ``top`` where ``found`` is not a number: it must not reach earlier rows."""
    return tl.where(found > top, found, top)


@triton.jit
def greater(a, b):
    """The maximum, to reduce lanes with."""
    return tl.where(a > b, a, b)


@triton.jit
def lowest_top(like):
    """The least top that is kept: finite, so that the difference of two tops is a number.

    Only where -s k^2 of all keys stays below it do all weights vanish, and the output is not a number.
    """
    if like.dtype == tl.float64:
        lowest = tl.full(like.shape, -1e308, like.dtype)
    else:
        lowest = tl.full(like.shape, -3e38, like.dtype)
    return lowest


@triton.jit
def top_of_rows(top, keys, left, SCALE: tl.constexpr, ROWS: tl.constexpr):
    """The greatest log-weight of the rows at hand, of which ``left`` exist; at least ``top``."""
    for r in tl.static_range(ROWS):
        found = log_weight(keys[r].to(top.dtype), SCALE)
        # A row past the end was loaded as a key of 0, whose log-weight would be the greatest of all.
        top = higher(top, tl.where(r < left, found, top))
    return top


@triton.jit
def top_of_chunk(top, key, length, lanes, SCALE: tl.constexpr, ROWS: tl.constexpr):
    """The greatest log-weight of the first ``length`` rows, at least ``top``."""
    for done in range(0, length, ROWS):
        keys = load_rows(key, length - done, lanes, ROWS)
        key = advanced(key, ROWS)
        top = top_of_rows(top, keys, length - done, SCALE, ROWS)
    return top


@triton.jit
def tops(
    tops_before,  # the tops' row of the moments before this chunk
    next_chunk,  # elements from there to the next chunk's, or 0 if there is none
    key,
    length,
    lanes,
    SCALE: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The running top before a chunk and at its end, and whether the chunk is steep.

    Steep: the top of a lane rises within the chunk so far that relative to the last top the weights of
    earlier rows would vanish, although those rows need them. Then every row needs a top of its own.
    """
    old_top = load_moment(tops_before, 0, lanes)
    lowest = higher(lowest_top(old_top), old_top)
    if next_chunk > 0:
        top = load_moment(tops_before + next_chunk, 0, lanes)
    else:
        top = top_of_chunk(lowest, key, length, lanes, SCALE, ROWS)
    first = load_rows(key, 1, lanes, 1)[0].to(top.dtype)
    entering = higher(lowest, log_weight(first, SCALE))
    steep = tl.reduce(tl.where(lanes_if(lanes, True), top - entering, 0.0), 0, greater) > MAX_RISE
    return old_top, top, steep


@triton.jit
def absorb(value_moments, key_moments, weight, key, value, ORDER: tl.constexpr):
    """S_n + w k^n v and Z_n + w k^n. The powers grow from w, so that a vanished w stays 0."""
    new_value_moments = ()
    new_key_moments = ()
    for n in tl.static_range(ORDER + 1):
        new_value_moments = new_value_moments + (value_moments[n] + weight * value,)
        new_key_moments = new_key_moments + (key_moments[n] + weight,)
        weight = weight * key
    return new_value_moments, new_key_moments


@triton.jit
def series(moments, x, ORDER: tl.constexpr):
    """sum_n x^n / n! moments[n] by Horner's rule, with x = 2 s q."""
    total = moments[ORDER]
    for i in tl.static_range(ORDER):
        total = moments[ORDER - 1 - i] + x * (1.0 / (ORDER - i)) * total
    return total


@triton.jit
def slope(moments, x, ORDER: tl.constexpr):
    """The derivative of ``series`` with respect to x, which is the series of the moments 1..ORDER."""
    if ORDER == 0:
        total = tl.full(x.shape, 0, x.dtype)
    else:
        total = moments[ORDER]
        for i in tl.static_range(ORDER - 1):
            total = moments[ORDER - 1 - i] + x * (1.0 / (ORDER - 1 - i)) * total
    return total


@triton.jit
def absorb_adjoint(value_adjoints, key_adjoints, alpha, output, x, ORDER: tl.constexpr):
    """G_n + alpha x^n / n! and H_n - alpha y x^n / n!: the gradients of the loss by S_n and by Z_n."""
    new_value_adjoints = ()
    new_key_adjoints = ()
    weight = alpha
    for n in tl.static_range(ORDER + 1):
        new_value_adjoints = new_value_adjoints + (value_adjoints[n] + weight,)
        new_key_adjoints = new_key_adjoints + (key_adjoints[n] - weight * output,)
        weight = weight * (x * (1.0 / (n + 1)))
    return new_value_adjoints, new_key_adjoints


@triton.jit
def polynomial(coefficients, k, ORDER: tl.constexpr):
    """sum_n k^n coefficients[n] and its derivative with respect to k."""
    total = coefficients[ORDER]
    derivative = tl.full(k.shape, 0, k.dtype)
    for i in tl.static_range(ORDER):
        derivative = derivative * k + total
        total = total * k + coefficients[ORDER - 1 - i]
    return total, derivative


@triton.jit
def query_gradient_of(value_moments, key_moments, query, upstream, ORDER: tl.constexpr, SCALE: tl.constexpr):
    """alpha, y, x and the query's gradient of one row."""
    x = 2 * SCALE * query
    denominator = series(key_moments, x, ORDER)
    y = series(value_moments, x, ORDER) / denominator
    alpha = upstream / denominator
    gradient = 2 * SCALE * alpha * (slope(value_moments, x, ORDER) - y * slope(key_moments, x, ORDER))
    return alpha, y, x, gradient


@triton.jit
def key_gradient_of(value_adjoints, key_adjoints, key, value, top, ORDER: tl.constexpr, SCALE: tl.constexpr):
    """The gradients of key and value of one row."""
    weight = tl.exp(log_weight(key, SCALE) - top)
    of_value, of_value_slope = polynomial(value_adjoints, key, ORDER)
    of_key, of_key_slope = polynomial(key_adjoints, key, ORDER)
    inner = value * of_value + of_key
    key_gradient = weight * (value * of_value_slope + of_key_slope - 2 * SCALE * key * inner)
    return key_gradient, weight * of_value
