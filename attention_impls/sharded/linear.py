"""Linear attention over ranks: the sums of a shard are all that is exchanged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls import linear as plain
from attention_impls.autocast import under_autocast
from attention_impls.blocks import add, no_sums, write
from attention_impls.sharded.anchor import anchor
from attention_impls.sharded.exchange import Exchange
from attention_impls.validate import validate_qkv


def linear(query: Tensor, key: Tensor, value: Tensor, exchange: Exchange, *, causal: bool = False) -> Tensor:
    """The output of ``linear.eager`` over all ranks' positions, at this rank's own.

    Full: one all-reduce of the sums of phi(k) v^T and of phi(k), backward one of their gradients. Causal: an
    exclusive prefix scan of the sums, backward an exclusive suffix scan of their gradients. What is exchanged
    does not depend on seq_len.

    Args:
        query, key, value: this rank's shard, [batch, heads, its seq_len, head_dim].

    Complexity: as ``linear.eager`` on the shard; causal reads keys and values once more, backward too. In half
    precision the causal gradients of key and value are rounded twice.

    Every rank takes part in backward, as in ``sharded.ea_series``.

    Raises:
        InvalidArgument: the tensors break their rules.
    """
    if exchange.size == 1:
        return plain.eager(query, key, value, causal=causal)
    query, key, value = under_autocast(query, key, value)
    validate_qkv(query, key, value)
    form = _Causal if causal else _Full
    output: Tensor = form.apply(query, key, value, anchor(query), exchange)  # type: ignore[no-untyped-call]
    return output


class _Full(torch.autograd.Function):
    """The phases of the full form, the ranks meeting between them."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, anchored: Tensor, exchange: Exchange
    ) -> Tensor:
        sums = _unpacked(exchange.total(_packed(plain.key_sums(key, value))))
        ctx.exchange = exchange
        ctx.save_for_backward(query, key, value, *sums)
        return plain.outputs(query, sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *sums = ctx.saved_tensors
        gradients: plain.Gradients = (torch.empty_like(query), torch.empty_like(key), torch.empty_like(value))
        own = plain.query_gradients(query, upstream, sums, gradients[0])
        plain.key_gradients(key, value, _unpacked(ctx.exchange.total(_packed(own))), gradients, write)
        return *gradients, None, None


class _Causal(torch.autograd.Function):
    """The causal form from the sums of earlier ranks; later ranks' gradients of the sums are added at the end."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, anchored: Tensor, exchange: Exchange
    ) -> Tensor:
        earlier = exchange.before(_packed(plain.key_sums(key, value)), torch.add)
        carried = no_sums(query) if earlier is None else _unpacked(earlier)
        output, _, kept = plain.causal_forward(query, key, value, carried, keep=anchored.requires_grad)
        ctx.exchange = exchange
        ctx.save_for_backward(query, key, value, output, *kept)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients, of_start = plain.causal_backward(upstream, *ctx.saved_tensors)
        later = ctx.exchange.after(_packed(of_start), torch.add)
        if later is not None:
            _, key, value, *_ = ctx.saved_tensors
            plain.key_gradients(key, value, _unpacked(later), gradients, add)
        return *gradients, None, None


def _packed(sums: plain.Sums) -> Tensor:
    """Both sums as one tensor, [batch * heads, head_dim + 1, head_dim], so that one message takes them."""
    return torch.cat(sums, 1)


def _unpacked(packed: Tensor) -> plain.Sums:
    return packed[:, :-1], packed[:, -1:]
