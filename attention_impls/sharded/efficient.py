"""Efficient attention with softmax normalisation over ranks: the sums of a shard are all that is exchanged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls import efficient as plain
from attention_impls import efficient_causal
from attention_impls.autocast import under_autocast
from attention_impls.blocks import add, no_sums, write
from attention_impls.sharded import efficient_scaling
from attention_impls.sharded.anchor import anchor
from attention_impls.sharded.exchange import Exchange


def efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    exchange: Exchange,
    *,
    causal: bool = False,
    normalisation: str = "softmax",
) -> Tensor:
    """The output of ``efficient.eager`` over all ranks' positions, at this rank's own.

    Full: an all-reduce of the keys' maxima, so that all ranks' weights have one scale, and one of the sums;
    backward one of the context's gradient. Causal: an exclusive prefix scan of sums that bring their maxima
    along, backward an exclusive suffix scan of their gradients. With ``scaling`` there are no maxima: the sums
    of k v^T and the count of tokens. What is exchanged does not depend on seq_len.

    Args:
        query, key, value: this rank's shard, [batch, heads, its seq_len, head_dim].
        causal, normalisation: as ``efficient.eager``.

    Complexity: as ``efficient.eager`` on the shard; causal reads keys and values once more, backward too. In
    half precision the causal gradients of key and value are rounded twice.

    Every rank takes part in backward, as in ``sharded.ea_series``.

    Raises:
        InvalidArgument: the tensors or the normalisation break their rules.
    """
    if exchange.size == 1:
        return plain.eager(query, key, value, causal=causal, normalisation=normalisation)
    query, key, value = under_autocast(query, key, value)
    plain.checked(query, key, value, normalisation)
    if normalisation == "scaling":
        return efficient_scaling.efficient(query, key, value, exchange, causal=causal)
    form = _Causal if causal else _Full
    output: Tensor = form.apply(query, key, value, anchor(query), exchange)  # type: ignore[no-untyped-call]
    return output


class _Full(torch.autograd.Function):
    """The phases of the full form, the ranks meeting between them."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, anchored: Tensor, exchange: Exchange
    ) -> Tensor:
        top = exchange.highest(plain.key_top(key))
        sums = exchange.total(torch.cat(plain.key_sums(key, value, top), 1))
        context, normaliser = sums[:, :-1], sums[:, -1:]
        context = context / normaliser.mT
        ctx.exchange = exchange
        ctx.save_for_backward(query, key, value, context, normaliser, top)
        return plain.outputs(query, context)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, context, normaliser, top = ctx.saved_tensors
        gradients: efficient_causal.Gradients = (
            torch.empty_like(query),
            torch.empty_like(key),
            torch.empty_like(value),
        )
        grad_context = ctx.exchange.total(plain.query_gradients(query, upstream, context, gradients[0]))
        behind = plain.of_sums(context, normaliser, grad_context)
        plain.key_gradients(key, value, top, behind, gradients, write)
        return *gradients, None, None


class _Causal(torch.autograd.Function):
    """The causal form from the sums of earlier ranks; later ranks' gradients of the sums are added at the end."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, anchored: Tensor, exchange: Exchange
    ) -> Tensor:
        top = plain.key_top(key)
        earlier = exchange.before(_packed(plain.key_sums(key, value, top), top), _merged_sums)
        carried, before = (no_sums(query), None) if earlier is None else _unpacked(earlier)
        plan = efficient_causal.plan_pieces(key, True, before)
        output, _, kept = efficient_causal.causal_forward(
            query, key, value, plan, carried, keep=anchored.requires_grad
        )
        ctx.exchange, ctx.plan = exchange, plan
        ctx.save_for_backward(query, key, value, top if before is None else before, *kept)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, before, *kept = ctx.saved_tensors
        gradients, of_start = efficient_causal.causal_backward(upstream, ctx.plan, query, key, value, *kept)
        later = ctx.exchange.after(_packed(of_start, before), _merged_gradients)
        if later is not None:
            behind, top = _unpacked(later)  # the lowest top of later ranks is that of this rank's end
            plain.key_gradients(key, value, top, behind, gradients, add)
        return *gradients, None, None


def _packed(sums: efficient_causal.Sums, top: Tensor) -> Tensor:
    """[batch * heads, head_dim + 2, head_dim]: a key channel's sums and its top in one column."""
    context, normaliser = sums
    return torch.cat((context.mT, normaliser, top), 1)


def _unpacked(packed: Tensor) -> tuple[efficient_causal.Sums, Tensor]:
    return (packed[:, :-2].mT.contiguous(), packed[:, -2:-1]), packed[:, -1:]


def _merged_sums(one: Tensor, other: Tensor) -> Tensor:
    """Sums of weights exp(k - top), relative to the higher top."""
    top = torch.maximum(one[:, -1:], other[:, -1:])
    first, second = (part[:, :-1] * torch.exp(part[:, -1:] - top) for part in (one, other))
    return torch.cat((first + second, top), 1)


def _merged_gradients(one: Tensor, other: Tensor) -> Tensor:
    """Gradients of such sums, relative to the lower top: where sums shrink, their gradients grow."""
    top = torch.minimum(one[:, -1:], other[:, -1:])
    first, second = (part[:, :-1] * torch.exp(top - part[:, -1:]) for part in (one, other))
    return torch.cat((first + second, top), 1)
