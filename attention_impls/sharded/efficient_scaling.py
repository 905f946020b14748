"""Efficient attention with scaling normalisation over ranks: sums of k v^T, and how many tokens they hold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls import efficient as plain
from attention_impls import efficient_causal
from attention_impls.autocast import as_written
from attention_impls.blocks import add, blocks, grouped, no_sums, read
from attention_impls.sharded.anchor import anchor
from attention_impls.sharded.exchange import Exchange


def efficient(query: Tensor, key: Tensor, value: Tensor, exchange: Exchange, *, causal: bool) -> Tensor:
    """The output at this rank's own positions, of tensors that have been checked."""
    if causal:
        output: Tensor = _Causal.apply(query, key, value, anchor(query), exchange)  # type: ignore[no-untyped-call]
        return output
    sums = plain.products(key, value)
    query, mean = _Mean.apply(query, sums, anchor(query), key.shape[-2], exchange)  # type: ignore[no-untyped-call]
    return plain.scaled_outputs(query, mean)


class _Mean(torch.autograd.Function):
    """All ranks' sums over all ranks' tokens; every rank's output depends on them, so their gradients are summed.

    The query passes unchanged, so that a rank which asks for its gradient alone exchanges those of the sums.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, sums: Tensor, anchored: Tensor, tokens: int, exchange: Exchange
    ) -> tuple[Tensor, Tensor]:
        total, ctx.tokens = _unpacked(exchange.total(_packed(sums, tokens)), sums)
        ctx.exchange = exchange
        return query.view_as(query), total / ctx.tokens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_query: Tensor, of_mean: Tensor) -> tuple[Tensor | None, ...]:
        return of_query, ctx.exchange.total(of_mean) / ctx.tokens, None, None, None


class _Causal(torch.autograd.Function):
    """The causal form from the sums of earlier ranks; later ranks' gradients of the sums are added at the end."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, anchored: Tensor, exchange: Exchange
    ) -> Tensor:
        context, normaliser = no_sums(query)
        sums = grouped(plain.products(key, value))
        earlier, tokens = exchange.before(_packed(sums, key.shape[-2]), torch.add), 0
        if earlier is not None:
            context, tokens = _unpacked(earlier, sums)
        plan = efficient_causal.plan_pieces(key, False, tokens=tokens)
        output, _, kept = efficient_causal.causal_forward(
            query, key, value, plan, (context, normaliser), keep=anchored.requires_grad
        )
        ctx.exchange, ctx.plan = exchange, plan
        ctx.save_for_backward(query, key, value, *kept)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients, (of_start, _) = efficient_causal.causal_backward(upstream, ctx.plan, *ctx.saved_tensors)
        later = ctx.exchange.after(of_start, torch.add)
        if later is not None:
            _, key, value, *_ = ctx.saved_tensors
            _add_key_gradients(key, value, later, gradients)
        return *gradients, None, None


@as_written
def _add_key_gradients(
    key: Tensor, value: Tensor, later: Tensor, gradients: efficient_causal.Gradients
) -> None:
    """What the gradients of sums over all keys pass on: dk_j = dC v_j, dv_j = dC^T k_j."""
    _, grad_key, grad_value = gradients
    for rows in blocks(key):
        add(grad_key, rows, read(value, rows) @ later.mT)
        add(grad_value, rows, read(key, rows) @ later)


def _packed(sums: Tensor, tokens: int) -> Tensor:
    """One tensor of both. A float32 holds a count to 6e-8 of itself, as well as the positions it divides."""
    return torch.cat((sums.flatten(), sums.new_full((1,), tokens)))


def _unpacked(packed: Tensor, like: Tensor) -> tuple[Tensor, int]:
    return packed[:-1].view_as(like), round(packed[-1].item())
