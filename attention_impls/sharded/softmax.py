"""Softmax attention over ranks, the baseline: every rank gathers all keys and values."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls.autocast import under_autocast
from attention_impls.sharded.anchor import anchor
from attention_impls.sharded.exchange import Exchange
from attention_impls.softmax import checked_scale, sdpa

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def softmax(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    exchange: Exchange,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """The output of ``softmax.sdpa`` over all ranks' positions, at this rank's own.

    An all-gather of keys and values, whose gradients are summed over the ranks and scattered. Causal: the
    shard's queries see all keys up to its end; on a CPU PyTorch's flash kernel takes earlier keys in full and
    the shard's own under a mask, and both are joined by their log-sum-exps (Dao 2023, arXiv 2307.08691). No
    matrix of all pairs is held. Every rank takes part in backward, as in ``sharded.ea_series``.

    Args:
        query, key, value: this rank's shard, [batch, heads, its seq_len, head_dim].
        causal, scale: as ``softmax.sdpa``.

    Complexity: O(L^2 D / ranks) time, causal more on later ranks than on earlier ones; O(L D) memory and
    exchange, whatever the number of ranks.

    Raises:
        InvalidArgument: the tensors or the scale break their rules.
    """
    if exchange.size == 1:
        return sdpa(query, key, value, causal=causal, scale=scale)
    query, key, value = under_autocast(query, key, value)
    checked_scale(query, key, value, scale)
    # The fused kernels refuse rows that are not contiguous, such as broadcast ones.
    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    if not causal:
        query, keys, values = _gathered(query, key, value, exchange, exchange.size)
        return F.scaled_dot_product_attention(query, keys, values, scale=scale)
    if query.device.type == "cpu":
        query, *earlier = _gathered(query, key, value, exchange, exchange.rank)
        output: Tensor = _CausalOnCpu.apply(query, *earlier, key, value, scale)  # type: ignore[no-untyped-call]
        return output
    return _lower_right(*_gathered(query, key, value, exchange, exchange.rank + 1), scale)


def _lower_right(query: Tensor, keys: Tensor, values: Tensor, scale: float | None) -> Tensor:
    """The last query sees all keys, each earlier one a key less; without a matrix where a GPU's kernels fit."""
    from torch.nn.attention.bias import causal_lower_right  # a second, for it brings torch's compiler along

    bias = causal_lower_right(query.shape[-2], keys.shape[-2])
    output: Tensor = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=scale)
    return output


def _gathered(
    query: Tensor, key: Tensor, value: Tensor, exchange: Exchange, ranks: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The query, and keys and values of the first so many ranks, [batch, heads, their positions, head_dim]."""
    query, keys, values = _Gathered.apply(query, key, value, anchor(query), exchange, ranks)  # type: ignore[no-untyped-call]
    return query, keys, values


class _Gathered(torch.autograd.Function):
    """Both at once, so that all ranks exchange their gradients in one order.

    The query passes unchanged, so that a rank which asks for its gradient alone exchanges those of the others.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, anchored: Tensor, exchange: Exchange, ranks: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.exchange = exchange
        keys = exchange.gather(key)
        ctx.lengths = [part.shape[-2] for part in keys]
        joined = _joined(keys, ranks)
        del keys  # before the values come
        return query.view_as(query), joined, _joined(exchange.gather(value), ranks)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_query: Tensor, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        summed = [ctx.exchange.scatter_total(_parts(each, ctx.lengths)) for each in upstream]
        return of_query, *summed, None, None, None


def _joint(one: Tensor, of_one: Tensor, other: Tensor, of_other: Tensor) -> tuple[Tensor, Tensor]:
    """The output over two sets of keys, and its log-sum-exp, from those over each."""
    share = torch.sigmoid(of_other - of_one).unsqueeze(-1)
    output = torch.lerp(one.to(share.dtype), other.to(share.dtype), share)
    return output.to(one.dtype), torch.logaddexp(of_one, of_other)


def _joined(parts: list[Tensor], ranks: int) -> Tensor:
    return torch.cat(parts[:ranks], -2) if ranks else parts[0][..., :0, :].clone()


def _parts(gradient: Tensor, lengths: list[int]) -> list[Tensor]:
    """The gradient cut by ranks; of those that were not used it is zero."""
    parts, start = [], 0
    for length in lengths:
        part = gradient[..., start : start + length, :]
        parts.append(part if part.shape[-2] else _zeros(gradient, length))
        start += length
    return parts


def _zeros(like: Tensor, length: int) -> Tensor:
    return like.new_zeros(*like.shape[:-2], length, like.shape[-1])


class _CausalOnCpu(torch.autograd.Function):
    """Queries after the earlier keys and among their own, by two calls of the flash kernel.

    Given the joint output and log-sum-exp, the kernel's backward pass yields each part's share of the gradients.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        earlier_key: Tensor,
        earlier_value: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None,
    ) -> Tensor:
        output: Tensor
        output, total = _flash(query, key, value, is_causal=True, scale=scale)
        if earlier_key.shape[-2]:
            other, of_other = _flash(query, earlier_key, earlier_value, scale=scale)
            output, total = _joint(output, total, other, of_other)
        ctx.scale = scale
        ctx.save_for_backward(query, earlier_key, earlier_value, key, value, output, total)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        query, earlier_key, earlier_value, key, value, output, total = ctx.saved_tensors
        upstream = (
            upstream if upstream.stride(-1) == 1 else upstream.contiguous()
        )  # that of a sum is broadcast

        def gradients(keys: Tensor, values: Tensor, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
            found: tuple[Tensor, Tensor, Tensor] = _flash_backward(
                upstream, query, keys, values, output, total, 0.0, causal, scale=ctx.scale
            )
            return found

        grad_query, grad_key, grad_value = gradients(key, value, True)
        if not earlier_key.shape[-2]:
            return grad_query, earlier_key, earlier_value, grad_key, grad_value, None
        of_earlier, grad_earlier_key, grad_earlier_value = gradients(earlier_key, earlier_value, False)
        return grad_query.add_(of_earlier), grad_earlier_key, grad_earlier_value, grad_key, grad_value, None
