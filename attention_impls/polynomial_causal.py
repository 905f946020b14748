"""Causal attention with polynomial weights: in chunks, with the sums of the chunks before.

Within a chunk the weights are p of the dot products, masked; between chunks the sums of features are carried.
The backward pass sweeps twice, forward with the sums again for the gradient of the queries and back for those
of keys and values, so that no chunk's sums wait for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls.blocks import read, split, sums_after, sums_before, write
from attention_impls.polynomial import Polynomial
from attention_impls.polynomial_tiles import (
    causal_cut,
    columns,
    divide,
    empty_totals,
    no_sums,
    upstream_of_sums,
    with_ones,
)


class Causal(torch.autograd.Function):
    """The op as autograd sees it."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, polynomial: Polynomial) -> Tensor:
        """The op; tensors as of ``polynomial_attention.attend``."""
        output, totals, _ = causal_forward(query, key, value, polynomial)
        ctx.save_for_backward(query, key, value, output, totals)
        ctx.polynomial = polynomial
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """As of ``polynomial_full.Full``, S being a sum over j <= i and T over i >= j."""
        query, key, value, output, totals = ctx.saved_tensors
        polynomial: Polynomial = ctx.polynomial
        gradients = tuple(torch.empty_like(x) for x in (query, key, value))
        cut, zeros = causal_cut(value, polynomial), no_sums(value, polynomial)
        for tile in cut.tiles:
            q, k, v, y, total, up, none = (
                x[tile] for x in (query, key, value, output, totals, upstream, zeros)
            )
            grad_q, grad_k, grad_v = (x[tile] for x in gradients)
            sums = behind = none.flatten(0, 1)
            for rows in cut.rows:
                parts = _read(cut.chunk, rows, q, k, v, y, total, up)
                of_query, sums = _query_gradient(polynomial, *parts, sums)
                write(grad_q, rows, columns(of_query))
            for rows in reversed(cut.rows):
                parts = _read(cut.chunk, rows, q, k, v, y, total, up)
                of_key, of_value, behind = _key_gradients(polynomial, *parts, behind)
                write(grad_k, rows, columns(of_key))
                write(grad_v, rows, of_value)
        return *gradients, None


@torch.no_grad()
def causal_forward(
    query: Tensor, key: Tensor, value: Tensor, polynomial: Polynomial, carried: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, the sums of weights, and the sums of features after the last token.

    Args:
        query, key, value, polynomial: as ``polynomial_attention.attend``.
        carried: sums of the tokens before, [batch, heads, features, head_dim + 1], if there are any.
    """
    output, totals = value.new_empty(value.shape), empty_totals(value)
    all_sums = no_sums(value, polynomial) if carried is None else carried.clone()
    cut = causal_cut(value, polynomial)
    for tile in cut.tiles:
        q, k, v, y, total, kept = (x[tile] for x in (query, key, value, output, totals, all_sums))
        sums = kept.flatten(0, 1)
        for rows in cut.rows:
            q_rows, k_rows = (columns(split(read(x, rows), cut.chunk)) for x in (q, k))
            values = with_ones(split(read(v, rows), cut.chunk))
            weighted, sums = _block(polynomial, q_rows, k_rows, values, sums)
            weighted[..., -1] += polynomial.epsilon
            divide(y, total, rows, weighted)
        kept.copy_(sums.view_as(kept))
    return output, totals, all_sums


def _block(
    polynomial: Polynomial, query: Tensor, key: Tensor, values: Tensor, carried: Tensor
) -> tuple[Tensor, Tensor]:
    """The weighted sums of a block in chunks, and the sums at its end, from those before it."""
    sums, carried = sums_before(polynomial.features(key) @ values, carried)
    inside = polynomial.of(query.mT @ key).tril_()
    outside = polynomial.features(query).mT @ polynomial.weigh(sums)
    return outside.baddbmm_(inside, values), carried


def _query_gradient(
    polynomial: Polynomial, query: Tensor, key: Tensor, values: Tensor, ahead: Tensor, carried: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradient of a block's query, and the sums at its end, from those before it."""
    sums, carried = sums_before(polynomial.features(key) @ values, carried)
    gradient = polynomial.pullback(query, polynomial.weigh(sums) @ ahead.mT)
    of_scores = polynomial.slope(query.mT @ key).mul_(ahead @ values.mT).tril_()
    return gradient.baddbmm_(key, of_scores.mT), carried


def _key_gradients(
    polynomial: Polynomial, query: Tensor, key: Tensor, values: Tensor, ahead: Tensor, behind: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a block's key and value, and the sums of gradients at its start, from those behind it."""
    sums, behind = sums_after(polynomial.features(query) @ ahead, behind)
    polynomial.weigh(sums)
    scores = query.mT @ key
    of_value = polynomial.features(key).mT @ sums[..., :-1]
    of_value = of_value.baddbmm_(polynomial.of(scores).tril_().mT, ahead[..., :-1])
    of_key = polynomial.pullback(key, sums @ values.mT)
    of_scores = polynomial.slope(scores).mul_(ahead @ values.mT).tril_()
    return of_key.baddbmm_(query, of_scores), of_value, behind


def _read(
    chunk: int, rows: slice, query: Tensor, key: Tensor, value: Tensor, *of_output: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A block in chunks: query and key by columns, values with ones, and the gradient of the sums."""
    output, totals, upstream = of_output
    q, k, v = (split(read(x, rows), chunk) for x in (query, key, value))
    ahead = split(upstream_of_sums(upstream, output, totals, rows), chunk)
    return columns(q), columns(k), with_ones(v), ahead
