"""AFT-local: an attention-free transformer with a learned bias for nearby pairs of positions only."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls import blocks
from attention_impls.aft import gated_means
from attention_impls.aft_bias import (
    add_through_terms,
    check_bias,
    columns,
    divided,
    future,
    gated,
    gradient_of_sums,
    repair,
    repaired_gradients,
    terms,
    uncolumns,
)
from attention_impls.chunks import plan_chunks
from attention_impls.hyperparameters import BIAS_WINDOW, check
from attention_impls.validate import validate_qkv


def eager(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    window: int = 32,
    position_bias: Tensor | None = None,
) -> Tensor:
    """AFT-local: a gate times a mean of values, weighted per channel by keys and a bias of nearby pairs.

    Formula: y_i = sigmoid(q_i) * sum_j exp(k_j + w_ij) v_j / sum_j exp(k_j + w_ij), per channel, over j <= i
    when causal; w_ij is learned where |i - j| < window, and 0 elsewhere: every row sees all positions.

    Rows are computed in chunks. The keys around a chunk are a matrix product with exp(w), those before and
    behind them two sums. All parts are added, none is subtracted, so nothing cancels. Weights are relative
    to maxima as in AFT-full. Half precision is computed in float32.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim]; heads only reshape the channels.
        causal: position i sees positions j <= i only.
        window: s, 1 or more positions; only |i - j| < s has a bias.
        position_bias: [length, 2 s - 1] with length >= seq_len, w_ij at [i, j - i + s - 1]; its first rows
            are used. Causal, the columns from s on are never read.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L s D) time, O(L (D + s)) memory. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: the tensors, the window or the bias break their rules.

    Paper: Zhai et al. 2021, arXiv 2105.14103, eq. 4.
    """
    band = _check(query, key, value, window, position_bias)
    if causal:
        band = band[:, : band.shape[1] // 2 + 1]
    means: Tensor = _Means.apply(key, value, band, causal)  # type: ignore[no-untyped-call]
    return gated(query, means)


def oracle(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    window: int = 32,
    position_bias: Tensor | None = None,
) -> Tensor:
    """The float64 truth: all pairs' biases, and the weights of every pair and channel."""
    band = _check(query, key, value, window, position_bias)
    length, reach = query.shape[-2], band.shape[1] // 2
    bias = band.new_zeros(length, length)
    for offset in range(-reach, reach + 1):
        rows = slice(max(0, -offset), length - max(0, offset))
        bias = bias + torch.diag_embed(band[rows, offset + reach], offset)
    return gated_means(query, key, value, bias, causal=causal)


class _Band(NamedTuple):
    """The bias by row and offset, [seq_len, behind + 1 + ahead], -inf outside the sequence.

    behind, ahead: how far it reaches.
    top: the greatest w of each row, [seq_len, 1].
    """

    bias: Tensor
    behind: int
    ahead: int
    top: Tensor

    @property
    def chunk(self) -> int:
        """Rows of a chunk: enough for a matrix product, and no fewer than the band reaches."""
        return max(blocks.MIN_CHUNK_ROWS, self.behind)


class _Piece(NamedTuple):
    """Rows of a block, the running maximum of k at its end, and what carried sums are multiplied by."""

    rows: slice
    top: Tensor
    decay: Tensor


class _Slab(NamedTuple):
    """A block in chunks, and the keys around it.

    terms: of the positions from ``behind`` before the block on, 0 outside the sequence, [positions, 2 columns].
    seen: which of the sequence's positions they are; own: where those lie in the terms.
    weights: exp(w) of every chunk with the positions around it, [chunks, rows, around].
    far: exp(w) of all other positions, [chunks, rows, 1].
    """

    terms: Tensor
    seen: slice
    own: slice
    weights: Tensor
    far: Tensor

    @property
    def chunks(self) -> int:
        return self.weights.shape[0]

    @property
    def rows(self) -> int:
        return self.weights.shape[1]

    def around(self) -> Tensor:
        """The terms around every chunk, [chunks, around, 2 columns], a view: neighbours overlap."""
        return self.terms.unfold(0, self.weights.shape[2], self.rows).mT

    def by_chunk(self, x: Tensor, start: int = 0) -> Tensor:
        """Positions of the terms from ``start`` on, as many as the block has rows, in chunks: a view."""
        return x[start : start + self.chunks * self.rows].view(self.chunks, self.rows, -1)

    def padded(self, x: Tensor) -> Tensor:
        """Rows of the block in chunks, filled up with zeros."""
        return self.by_chunk(F.pad(x, (0, 0, 0, self.chunks * self.rows - len(x))))


class _Means(torch.autograd.Function):
    """The means without the gate, [batch, heads, seq_len, head_dim], in the dtype of sums."""

    @staticmethod
    def forward(ctx: Any, key: Tensor, value: Tensor, bias: Tensor, causal: bool) -> Tensor:
        k, v = columns(key), columns(value)
        band = _band(bias, causal, k.dtype)
        sums = k.new_empty(len(k), 2 * k.shape[1])
        before = torch.zeros_like(sums[0])
        for piece in _plan(key, k, causal):
            slab, rows = _slab(k, v, band, piece, causal), piece.rows
            before = before * piece.decay
            far = _before(slab, before) + (0 if causal else _after(slab, band))
            found = torch.baddbmm(slab.far * far[:, None], slab.weights, slab.around())
            sums[rows] = found.flatten(0, 1)[: rows.stop - rows.start]
            before = before + slab.terms[: rows.stop - rows.start].sum(0)
        means, totals = divided(sums)
        ctx.repaired = repair(means, totals, k, v, _Dense(band, causal))
        ctx.causal = causal
        ctx.save_for_backward(key, value, bias, sums)
        return uncolumns(means.contiguous(), key.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """As AFT-full: u_i = g_i / total_i passes to the terms by the transposed weights, near and far, and to
        exp(w_ij) by its product with the terms."""
        key, value, bias, sums = ctx.saved_tensors
        causal, (means, totals) = ctx.causal, sums.chunk(2, 1)
        k, v, g = columns(key), columns(value), columns(upstream)
        band, learns = _band(bias, causal, k.dtype), ctx.needs_input_grad[2]
        grad_key, grad_value, grad_bias = (torch.zeros_like(x) for x in (k, v, band.bias))
        of_sums = gradient_of_sums(g, means, totals)
        behind = torch.zeros_like(of_sums[0])
        for piece in reversed(_plan(key, k, causal)):
            slab, rows = _slab(k, v, band, piece, causal), piece.rows
            passed = slab.padded(of_sums[rows])
            if learns:
                of_weights = (passed @ slab.around().mT).mul_(slab.weights)
                grad_bias[rows] = _unskewed(of_weights, grad_bias.shape[1])[: rows.stop - rows.start]
            of_terms = _near(slab, band, passed)
            of_far = (slab.far * passed).sum(1)
            slab.by_chunk(of_terms).add_(_sums_of_later(of_far)[:, None])
            if not causal:
                slab.by_chunk(of_terms, 2 * band.behind).add_(_sums_of_earlier(of_far)[:, None])
            of_terms[: rows.stop - rows.start] += behind
            behind = (behind + of_far.sum(0)) * piece.decay
            own, seen = slab.own, slab.seen
            add_through_terms(slab.terms[own], of_terms[own], grad_key[seen], grad_value[seen])
        dense = _Dense(band, causal)
        again = ctx.repaired, g, means, totals, k, v, dense, grad_key, grad_value
        for part, of_dense in repaired_gradients(*again):
            grad_bias[part] += dense.narrowed(part, of_dense)
        gradients = (uncolumns(x, key.shape).to(key.dtype) for x in (grad_key, grad_value))
        return *gradients, grad_bias.to(bias.dtype) if learns else None, None


class _Dense:
    """w of some rows for all positions, -inf where they do not see."""

    def __init__(self, band: _Band, causal: bool) -> None:
        self.band, self.causal = band, causal

    def __call__(self, rows: Tensor) -> Tensor:
        band, length = self.band, len(self.band.bias)
        padded = band.bias.new_zeros(len(rows), band.behind + length + band.ahead)
        dense = padded.scatter_(1, self._places(rows), band.bias[rows])[:, band.behind : band.behind + length]
        return dense.masked_fill(future(rows, length), -math.inf) if self.causal else dense

    def narrowed(self, rows: Tensor, dense: Tensor) -> Tensor:
        """What such rows have in the band."""
        return F.pad(dense, (self.band.behind, self.band.ahead)).gather(1, self._places(rows))

    def _places(self, rows: Tensor) -> Tensor:
        return rows[:, None] + torch.arange(self.band.bias.shape[1], device=rows.device)


def _band(bias: Tensor, causal: bool, dtype: torch.dtype) -> _Band:
    length, width = bias.shape
    behind = width - 1 if causal else width // 2
    rows = torch.arange(length, device=bias.device)[:, None]
    places = rows + torch.arange(-behind, width - behind, device=bias.device)
    inside = bias.to(dtype).masked_fill((places < 0) | (places >= length), -math.inf)
    top = inside.amax(1, keepdim=True)
    sees_far = rows > behind
    if not causal:
        sees_far = sees_far | (rows + behind < length - 1)
    return _Band(inside, behind, 0 if causal else behind, torch.where(sees_far, top.clamp(min=0), top))


def _plan(key: Tensor, k: Tensor, causal: bool) -> list[_Piece]:
    """All rows relative to the channels' maxima; causal in blocks, relative to the running maxima."""
    if not causal:
        top = k.amax(0)
        return [_Piece(slice(0, len(k)), top, torch.ones_like(top).repeat(2))]
    sizes, tops = plan_chunks(key, blocks.block_rows(key, causal=True), lambda block: block)
    flat = [top.to(k.dtype).flatten() for top in tops]
    pieces, start = [], 0
    for size, top, before in zip(sizes, flat, [flat[0], *flat], strict=False):
        pieces.append(_Piece(slice(start, start + size), top, torch.exp(before - top).repeat(2)))
        start += size
    return pieces


def _slab(k: Tensor, v: Tensor, band: _Band, piece: _Piece, causal: bool) -> _Slab:
    rows, reach = piece.rows, band.behind
    count = rows.stop - rows.start
    chunk = max(min(band.chunk, count), reach)
    chunks = -(-count // chunk)
    first = rows.start - reach
    seen = slice(max(0, first), rows.stop if causal else min(len(k), rows.stop + band.ahead))
    own = slice(seen.start - first, seen.stop - first)
    both = k.new_zeros(reach + chunks * chunk + band.ahead, 2 * k.shape[1])
    both[own] = terms(k[seen], v[seen], piece.top)
    short = chunks * chunk - count
    near, top = (F.pad(x[rows], (0, 0, 0, short)).view(chunks, chunk, -1) for x in (band.bias, band.top))
    # Below 0 but where a row sees no other position, and there a greater number has nothing to weigh.
    weights = _skewed(near).sub_(top).clamp_(max=0).exp_()
    far = top.clamp(min=0).neg_().exp_()
    return _Slab(both, seen, own, weights.tril_(reach) if causal else weights, far)


def _skewed(near: Tensor) -> Tensor:
    """[chunks, rows, width] by offset -> by position around the chunk, [chunks, rows, rows + width - 1]; 0
    elsewhere."""
    chunks, rows, width = near.shape
    around = rows + width - 1
    # In rows one element wider than there are positions, every row starts one position further on.
    wide = F.pad(near, (0, around + 1 - width))
    return wide.flatten(1)[:, : rows * around].reshape(chunks, rows, around)


def _unskewed(around: Tensor, width: int) -> Tensor:
    """The inverse of ``_skewed``'s move: [chunks, rows, positions] -> [chunks * rows, width]."""
    chunks, rows, positions = around.shape
    wide = F.pad(around.flatten(1), (0, rows)).view(chunks, rows, positions + 1)
    return wide[..., :width].flatten(0, 1)


def _before(slab: _Slab, before: Tensor) -> Tensor:
    """For every chunk the sum of the terms before those around it, [chunks, 2 columns]."""
    return before + _sums_of_earlier(slab.by_chunk(slab.terms).sum(1))


def _after(slab: _Slab, band: _Band) -> Tensor:
    """For every chunk the sum of the terms behind those around it."""
    return _sums_of_later(slab.by_chunk(slab.terms, band.behind + band.ahead).sum(1))


def _sums_of_earlier(x: Tensor) -> Tensor:
    """For every row the sum of the rows before it."""
    return F.pad(x[:-1].cumsum(0), (0, 0, 1, 0))


def _sums_of_later(x: Tensor) -> Tensor:
    """For every row the sum of the rows after it."""
    return F.pad(x[1:].flip(0).cumsum(0).flip(0), (0, 0, 0, 1))


def _near(slab: _Slab, band: _Band, passed: Tensor) -> Tensor:
    """The transposed weights by what is passed on, added up over chunks: of the slab's terms."""
    rows, reach = slab.rows, band.behind
    found = slab.terms.new_zeros(len(slab.terms) + rows, slab.terms.shape[1])
    for start, stop in ((0, reach), (reach, reach + rows), (reach + rows, slab.weights.shape[2])):
        if start < stop:
            part = slab.weights[..., start:stop].mT @ passed
            slab.by_chunk(found, start)[:, : stop - start].add_(part)
    return found[: len(slab.terms)]


def _check(query: Tensor, key: Tensor, value: Tensor, window: int, bias: Tensor | None) -> Tensor:
    """The bias within the sequence's length, [seq_len, 2 s - 1] with s <= seq_len."""
    validate_qkv(query, key, value)
    check("aft-local", BIAS_WINDOW, window)
    length = query.shape[-2]
    rule = "[length, 2 * window - 1] with length >= seq_len"
    band = check_bias("aft-local", bias, (length, 2 * window - 1), rule, exact_columns=True)
    least = min(window, length)
    return band[:, window - least : window + least - 1]
