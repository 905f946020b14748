"""Attention with polynomial weights written out: all weights of a block of queries at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls.blocks import read, write
from attention_impls.polynomial import Polynomial
from attention_impls.polynomial_tiles import direct_cut, divide, empty_totals, upstream_of_sums, with_ones


def attend_directly(
    query: Tensor, key: Tensor, value: Tensor, polynomial: Polynomial, *, causal: bool
) -> Tensor:
    """The same as ``polynomial_attention.attend`` in O(L^2 D) time and O(L D) memory."""
    output: Tensor = _Direct.apply(query, key, value, polynomial, causal)  # type: ignore[no-untyped-call]
    return output


class _Direct(torch.autograd.Function):
    """Blocks over the queries; the weights of each are made again for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, polynomial: Polynomial, causal: bool
    ) -> Tensor:
        output, totals, cut = value.new_empty(value.shape), empty_totals(value), direct_cut(value)
        for tile in cut.tiles:
            q, y, total = (x[tile] for x in (query, output, totals))
            k, v = _all(key[tile]), with_ones(_all(value[tile]))
            for rows in cut.rows:
                seen = rows.stop if causal else k.shape[1]
                weights = polynomial.of(read(q, rows) @ k[:, :seen].mT)
                weighted = _masked(weights, rows, causal) @ v[:, :seen]
                weighted[..., -1] += polynomial.epsilon
                divide(y, total, rows, weighted)
        ctx.save_for_backward(query, key, value, output, totals)
        ctx.polynomial, ctx.causal = polynomial, causal
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """With g_i the gradient of the sums of query i and x_ij = q_i.k_j: dx_ij = p'(x_ij) g_i.[v_j, 1]."""
        query, key, value, output, totals = ctx.saved_tensors
        gradients = tuple(torch.empty_like(x) for x in (query, key, value))
        for tile in direct_cut(value).tiles:
            ahead = [x[tile] for x in (upstream, output, totals)]
            inputs, found = [x[tile] for x in (query, key, value)], [x[tile] for x in gradients]
            _tile_gradients(ctx.polynomial, ctx.causal, inputs, ahead, found)
        return *gradients, None, None


def _tile_gradients(
    polynomial: Polynomial, causal: bool, inputs: list[Tensor], ahead: list[Tensor], found: list[Tensor]
) -> None:
    """Write the gradients of query, key and value of some heads, from that of the output, itself and its totals."""
    upstream, output, totals = ahead
    query, k, v = inputs[0], _all(inputs[1]), with_ones(_all(inputs[2]))
    grad_key, grad_value = torch.zeros_like(k), torch.zeros_like(v[..., :-1])
    for rows in direct_cut(inputs[2]).rows:
        seen = rows.stop if causal else k.shape[1]
        q, g, keys = read(query, rows), upstream_of_sums(upstream, output, totals, rows), k[:, :seen]
        scores = q @ keys.mT
        weights = _masked(polynomial.of(scores), rows, causal)
        grad_value[:, :seen].baddbmm_(weights.mT, g[..., :-1])
        of_scores = _masked(polynomial.slope(scores).mul_(g @ v[:, :seen].mT), rows, causal)
        grad_key[:, :seen].baddbmm_(of_scores.mT, q)
        write(found[0], rows, of_scores @ keys)
    write(found[1], slice(None), grad_key)
    write(found[2], slice(None), grad_value)


def _all(x: Tensor) -> Tensor:
    return read(x, slice(None))


def _masked(weights: Tensor, rows: slice, causal: bool) -> Tensor:
    """Without those of keys after the query: row 0 is position ``rows.start``."""
    return weights.tril_(rows.start) if causal else weights
