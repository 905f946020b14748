"""Attention with polynomial weights that is not causal: sums over all keys, then the ratio at every query."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls.blocks import read, write
from attention_impls.polynomial import Polynomial
from attention_impls.polynomial_tiles import (
    columns,
    divide,
    empty_totals,
    full_cut,
    no_sums,
    upstream_of_sums,
    with_ones,
)


class Full(torch.autograd.Function):
    """A block of features at a time, made again for the backward pass. Nothing waits but the sums."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, polynomial: Polynomial) -> Tensor:
        """The op; tensors as of ``polynomial_attention.attend``."""
        output, totals = value.new_empty(value.shape), empty_totals(value)
        all_sums, cut = no_sums(value, polynomial), full_cut(value, polynomial)
        for tile in cut.tiles:
            q, k, v, y, total, sums = (x[tile] for x in (query, key, value, output, totals, all_sums))
            found = sums.flatten(0, 1)
            for rows in cut.rows:
                features = polynomial.features(columns(read(k, rows)))
                found = torch.baddbmm(found, features, with_ones(read(v, rows)))
            sums.copy_(polynomial.weigh(found).view_as(sums))
            for rows in cut.rows:
                features = polynomial.features(columns(read(q, rows)))
                weighted = features.mT @ found
                weighted[..., -1] += polynomial.epsilon
                divide(y, total, rows, weighted)
        ctx.save_for_backward(query, key, value, output, totals, all_sums)
        ctx.polynomial = polynomial
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """With g_i the gradient of the sums of query i, T = sum_i phi(q_i) g_i^T:
        dphi(q_i) = W S g_i, dphi(k_j) = W T [v_j, 1], d[v_j, 1] = (W T)^T phi(k_j)."""
        query, key, value, output, totals, all_sums = ctx.saved_tensors
        polynomial: Polynomial = ctx.polynomial
        gradients = tuple(torch.empty_like(x) for x in (query, key, value))
        cut = full_cut(value, polynomial)
        for tile in cut.tiles:
            q, k, v, y, total, sums, up = (
                x[tile] for x in (query, key, value, output, totals, all_sums, upstream)
            )
            grad_q, grad_k, grad_v = (x[tile] for x in gradients)
            sums = sums.flatten(0, 1)
            behind = torch.zeros_like(sums)
            for rows in cut.rows:
                x, ahead = columns(read(q, rows)), upstream_of_sums(up, y, total, rows)
                behind = torch.baddbmm(behind, polynomial.features(x), ahead)
                write(grad_q, rows, polynomial.pullback(x, sums @ ahead.mT).mT)
            polynomial.weigh(behind)
            for rows in cut.rows:
                x = columns(read(k, rows))
                write(grad_v, rows, polynomial.features(x).mT @ behind[..., :-1])
                write(grad_k, rows, polynomial.pullback(x, behind @ with_ones(read(v, rows)).mT).mT)
        return *gradients, None
