"""EA-series over a sequence that is spread over ranks: what is exchanged are sums per channel, whatever the length.

Not causal, a rank's moments S_n and Z_n are added to those of all others, and backward the adjoint sums G_n and
H_n of its queries. Causal, moments come from earlier ranks by an exclusive prefix scan, and adjoint sums from
later ones by an exclusive suffix scan. What ``backward`` needs is kept as in one process.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls import ea_fused, ea_series
from attention_impls.autocast import under_autocast
from attention_impls.sharded import ea_eager
from attention_impls.sharded.anchor import anchor
from attention_impls.sharded.ea_sums import SumsOverRanks
from attention_impls.sharded.exchange import Exchange


def fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    exchange: Exchange,
    *,
    causal: bool = False,
    order: int = 6,
    scale: float = 1.0,
    stabiliser: bool = True,
) -> Tensor:
    """``ea_fused.fused`` of the whole sequence at this rank's positions, by the same kernels.

    Every rank takes part in backward, whether its own tensors require gradients or not: where gradients are
    enabled the output always requires them, and every rank has to call backward. Gradients once, not twice.

    Args:
        query, key, value: this rank's shard, [batch, heads, its seq_len, head_dim].
        exchange: with the other ranks; nothing is exchanged in a world of one, which is ``ea_fused.fused``.
        causal, order, scale, stabiliser: as in ``ea_series.eager``, the same on every rank.

    Complexity: that of a shard, and causal a pass over its keys more, backward one over all its rows (on a GPU:
    neither). Received: see ``costs/sharded.py``.
    """
    knobs: dict[str, Any] = {"causal": causal, "order": order, "scale": scale, "stabiliser": stabiliser}
    if exchange.size == 1:
        return ea_fused.fused(query, key, value, **knobs)
    query, key, value = under_autocast(query, key, value)
    ea_series.validate(query, key, value, order, scale, stabiliser)
    knobs["ranks"] = SumsOverRanks(exchange, stabiliser, math.log(ea_fused.kernels(query).TOP_BASE))
    output: Tensor = _Fused.apply(query, key, value, anchor(query), knobs)  # type: ignore[no-untyped-call]
    return output


def eager(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    exchange: Exchange,
    *,
    causal: bool = False,
    order: int = 6,
    scale: float = 1.0,
    stabiliser: bool = True,
) -> Tensor:
    """``ea_series.eager`` of the whole sequence at this rank's positions. Arguments and rules as ``fused``.

    Complexity: that of a shard, and causal the moments of its keys once more.
    """
    if exchange.size == 1:
        knobs: dict[str, Any] = {"order": order, "scale": scale, "stabiliser": stabiliser}
        return ea_series.eager(query, key, value, causal=causal, **knobs)
    ea_series.validate(query, key, value, order, scale, stabiliser)
    ranks = SumsOverRanks(exchange, stabiliser, log_base=1.0)
    form = ea_eager.Causal if causal else ea_eager.Full
    plain = form(order, float(scale), stabiliser, ranks)
    output: Tensor = _Eager.apply(query, key, value, anchor(query), plain)  # type: ignore[no-untyped-call]
    return output


class _Fused(torch.autograd.Function):
    """The kernels' own forward and backward, with the exchange between their passes."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, anchored: Tensor, knobs: dict[str, Any]
    ) -> Tensor:
        kernels = ea_fused.kernels(query)
        output, moments = kernels.forward(query, key, value, **knobs, keep=anchored.requires_grad)
        ctx.save_for_backward(query, key, value, moments)
        ctx.knobs = knobs
        return output  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, moments = ctx.saved_tensors
        gradients = ea_fused.kernels(query).backward(query, key, value, upstream, moments, **ctx.knobs)
        return *gradients, None, None


class _Eager(torch.autograd.Function):
    """Autograd within a rank, the exchange between ranks: one node, which every rank's backward passes."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, anchored: Tensor, form: ea_eager.Form
    ) -> Tensor:
        with torch.set_grad_enabled(anchored.requires_grad):
            leaves = [x.detach().requires_grad_(anchored.requires_grad) for x in (query, key, value)]
            output, ctx.graph = form.forward(*leaves)
        ctx.form = form
        return output.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.form.backward(ctx.graph, upstream), None, None
