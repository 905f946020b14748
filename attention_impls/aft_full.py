"""AFT-full: an attention-free transformer with a learned bias for every pair of positions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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
from attention_impls.chunks import CHUNK_ELEMENTS, plan_chunks
from attention_impls.validate import validate_qkv

PAIRS = 8
"""Pairs of positions in a block, per element of a chunk: 2^20 on a CPU. A matrix product needs many rows."""

MIN_BLOCK_ROWS = 16


def eager(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, position_bias: Tensor | None = None
) -> Tensor:
    """AFT-full: a gate times a mean of values, weighted per channel by keys and a bias of each pair.

    Formula: y_i = sigmoid(q_i) * sum_j exp(k_j + w_ij) v_j / sum_j exp(k_j + w_ij), per channel, over j <= i
    when causal. Both sums are matrix products of exp(w) with all channels, relative to the maxima of w in a
    row and of k in a channel; where such a product would vanish the row is computed again without it, see
    ``aft_bias``. Half precision is computed in float32.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim]; heads only reshape the channels.
        causal: position i sees positions j <= i only.
        position_bias: w, [length, length] with length >= seq_len; its first rows and columns are used.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L^2 D) time, as two matrix products; O(L D) memory and a block of exp(w). Gradients can be
    taken once, not twice.

    Raises:
        InvalidArgument: the tensors or the bias break their rules.

    Paper: Zhai et al. 2021, arXiv 2105.14103, eq. 2. There w may be the product of two narrow matrices;
    here it is one parameter.
    """
    bias = _check(query, key, value, position_bias)
    means: Tensor = _Means.apply(key, value, bias, causal)  # type: ignore[no-untyped-call]
    return gated(query, means)


def oracle(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, position_bias: Tensor | None = None
) -> Tensor:
    """The float64 truth: the weights of every pair and channel, a softmax over the positions of each row."""
    return gated_means(query, key, value, _check(query, key, value, position_bias), causal=causal)


class _Group(NamedTuple):
    """Rows in blocks, and the keys that they see, relative to one top."""

    blocks: list[slice]
    keys: slice
    terms: Tensor


class _Means(torch.autograd.Function):
    """The means without the gate, [batch, heads, seq_len, head_dim], in the dtype of sums."""

    @staticmethod
    def forward(ctx: Any, key: Tensor, value: Tensor, bias: Tensor, causal: bool) -> Tensor:
        k, v = columns(key), columns(value)
        sums = k.new_empty(len(k), 2 * k.shape[1])
        for group in _groups(key, k, v, causal):
            for rows in group.blocks:
                torch.mm(_weights(bias, rows, group, causal), group.terms, out=sums[rows])
        means, totals = divided(sums)
        ctx.repaired = repair(means, totals, k, v, _Bias(bias, causal, k.dtype))
        ctx.causal = causal
        ctx.save_for_backward(key, value, bias, sums)
        return uncolumns(means.contiguous(), key.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """With A = exp(w), E = exp(k) and u_i = g_i / total_i: dA_ij = sum_c u_i E_j (v_j - m_i),
        d(E v) = A^T u and dE = -A^T (u m); every logarithm passes its weight times that."""
        key, value, bias, sums = ctx.saved_tensors
        causal, (means, totals) = ctx.causal, sums.chunk(2, 1)
        k, v, g = columns(key), columns(value), columns(upstream)
        grad_key, grad_value = torch.zeros_like(k), torch.zeros_like(v)
        grad_bias = torch.zeros_like(bias, dtype=k.dtype) if ctx.needs_input_grad[2] else None
        of_sums = gradient_of_sums(g, means, totals)
        for group in _groups(key, k, v, causal):
            of_terms = torch.zeros_like(group.terms)
            for rows in group.blocks:
                weights = _weights(bias, rows, group, causal)
                of_terms.addmm_(weights.mT, of_sums[rows])
                if grad_bias is not None:
                    grad_bias[rows, group.keys] = weights.mul_(of_sums[rows] @ group.terms.mT)
            add_through_terms(group.terms, of_terms, grad_key[group.keys], grad_value[group.keys])
        again = ctx.repaired, g, means, totals, k, v, _Bias(bias, causal, k.dtype), grad_key, grad_value
        for part, of_bias in repaired_gradients(*again):
            if grad_bias is not None:
                grad_bias[part] += of_bias
        grad_bias = None if grad_bias is None else grad_bias.to(bias.dtype)
        gradients = (uncolumns(x, key.shape).to(key.dtype) for x in (grad_key, grad_value))
        return *gradients, grad_bias, None


class _Bias:
    """w of some rows, -inf where they do not see."""

    def __init__(self, bias: Tensor, causal: bool, dtype: torch.dtype) -> None:
        self.bias, self.causal, self.dtype = bias, causal, dtype

    def __call__(self, rows: Tensor) -> Tensor:
        dense = self.bias[rows].to(self.dtype)
        return dense.masked_fill_(future(rows, dense.shape[1]), -math.inf) if self.causal else dense


def _groups(key: Tensor, k: Tensor, v: Tensor, causal: bool) -> Iterator[_Group]:
    """All rows relative to the channels' maxima; causal block by block, relative to the running maxima.

    Causal, the terms of all earlier keys are made anew for every block: one exponential where the products
    do four operations for every row of the block.
    """
    length = len(k)
    pairs = PAIRS * CHUNK_ELEMENTS.get(key.device.type, CHUNK_ELEMENTS["cpu"])
    size = max(MIN_BLOCK_ROWS, pairs // length)
    if not causal:
        every = [slice(start, min(start + size, length)) for start in range(0, length, size)]
        yield _Group(every, slice(0, length), terms(k, v, k.amax(0)))
        return
    stop = 0
    for rows, top in zip(*plan_chunks(key, size, lambda block: block), strict=True):
        start, stop = stop, stop + rows
        keys = slice(0, stop)
        yield _Group([slice(start, stop)], keys, terms(k[keys], v[keys], top.to(k.dtype).flatten()))


def _weights(bias: Tensor, rows: slice, group: _Group, causal: bool) -> Tensor:
    """exp(w) of a block relative to each row's maximum, 0 where a row does not see."""
    block = bias[rows, group.keys].to(group.terms.dtype, copy=True)
    if causal:
        # The block's rows are the last of its keys: only those columns can lie in the future.
        count = rows.stop - rows.start
        later = torch.ones(count, count, dtype=torch.bool, device=bias.device).triu_(1)
        block[:, -count:].masked_fill_(later, -math.inf)
    return block.sub_(block.amax(1, keepdim=True)).exp_()


def _check(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    validate_qkv(query, key, value)
    length = query.shape[-2]
    return check_bias("aft-full", bias, (length, length), "[length, length] with length >= seq_len")
