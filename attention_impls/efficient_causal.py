"""The causal form of efficient attention: chunk by chunk, from sums that are carried along."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls.autocast import as_written
from attention_impls.blocks import (
    block_rows,
    causal_blocks,
    chunk_rows,
    grouped,
    no_sums,
    read,
    remaining_sums,
    running_sums,
    split,
    sums_after,
    sums_before,
    ungrouped,
    whole_chunks,
    write,
)
from attention_impls.chunks import accumulator_dtype, plan_chunks

Sums = tuple[Tensor, Tensor]  # a context and a normaliser, or their gradients
Gradients = tuple[Tensor, Tensor, Tensor]  # of query, key and value


class _Causal(torch.autograd.Function):
    """Both normalisations, chunk by chunk: y_i = f_i^T sum_{j <= i} w_j v_j^T.

    softmax: w_j = exp(k_j - top), top being the running maximum at the block's end, and f_i is the
    softmax of q_i over the sum of w_j, j <= i. scaling: w_j = k_j and f_i = q_i / i. What is carried from
    block to block is rescaled when the top rises.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, softmax: bool) -> Tensor:
        plan, keep = plan_pieces(key, softmax), any(ctx.needs_input_grad)
        output, _, kept = causal_forward(query, key, value, plan, no_sums(query), keep=keep)
        ctx.plan = plan
        ctx.save_for_backward(query, key, value, *kept)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients, _ = causal_backward(upstream, ctx.plan, *ctx.saved_tensors)
        return *gradients, None


def causal(query: Tensor, key: Tensor, value: Tensor, softmax: bool) -> Tensor:
    """The causal output, differentiable once; ``softmax`` or else scaling normalisation."""
    output: Tensor = _Causal.apply(query, key, value, softmax)  # type: ignore[no-untyped-call]
    return output


@as_written
@torch.no_grad()
def causal_forward(
    query: Tensor, key: Tensor, value: Tensor, plan: list[Piece], carried: Sums, *, keep: bool
) -> tuple[Tensor, Sums, list[Tensor]]:
    """The output, the sums at the end, and with ``keep`` those before every block, from those carried in."""
    output = torch.empty_like(query)
    kept: list[Tensor] = []
    context, normaliser = carried
    for piece in plan:
        context, normaliser = context * piece.decay.mT, normaliser * piece.decay
        kept += [context, normaliser] if keep else []
        factors, normaliser = _factors(query, key, normaliser, piece)
        values = split(read(value, piece.rows), chunk_rows(query))
        block, context = _causal_block(factors, values, context)
        write(output, piece.rows, block)
    return output, (context, normaliser), kept


@as_written
def causal_backward(
    upstream: Tensor, plan: list[Piece], query: Tensor, key: Tensor, value: Tensor, *kept: Tensor
) -> tuple[Gradients, Sums]:
    """Gradients from the sums kept before every piece, and those of the sums at the start."""
    gradients = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    before, behind = list(kept), no_sums(query)
    for piece in reversed(plan):
        normaliser, context = before.pop(), before.pop()
        factors, _ = _factors(query, key, normaliser, piece)
        v, g = (split(read(x, piece.rows), chunk_rows(x)) for x in (value, upstream))
        parts, (grad_context, grad_normaliser) = _causal_gradients(
            factors, v, g, context, behind, softmax=piece.top is not None
        )
        behind = grad_context * piece.decay.mT, grad_normaliser * piece.decay
        for gradient, part in zip(gradients, parts, strict=True):
            write(gradient, piece.rows, part)
    return gradients, behind


class _Factors(NamedTuple):
    """In chunks: features f, weights w, and what f was divided by."""

    features: Tensor
    weights: Tensor
    totals: Tensor


def _causal_block(factors: _Factors, v: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs of a block in chunks, and the context at its end, from the one before it."""
    contexts, context = sums_before(factors.weights.mT @ v, carried)
    inside = (factors.features @ factors.weights.mT).tril_()
    return (factors.features @ contexts).baddbmm_(inside, v), context


def _causal_gradients(
    factors: _Factors, v: Tensor, upstream: Tensor, carried: Tensor, behind: Sums, softmax: bool
) -> tuple[tuple[Tensor, Tensor, Tensor], Sums]:
    """Gradients of a block's query, key and value, and the sums at its start, from those behind it.

    df_i = C_i g_i, dw_j = E_j v_j, dv_j = E_j^T w_j with C_i = sum_{j <= i} w_j v_j^T and
    E_j = sum_{i >= j} f_i g_i^T. The totals n_i add -sum_{i >= j} f_i df_i / n_i to dw_j.
    """
    features, weights, totals = factors
    contexts, _ = sums_before(weights.mT @ v, carried)
    grad_contexts, context = sums_after(features.mT @ upstream, behind[0])
    inside = (features @ weights.mT).tril_()
    grad_value = (weights @ grad_contexts).baddbmm_(inside.mT, upstream)
    scores = (upstream @ v.mT).tril_()
    grad_features = (upstream @ contexts.mT).baddbmm_(scores, weights)
    grad_weights = (v @ grad_contexts.mT).baddbmm_(scores.mT, features)
    if not softmax:
        return (grad_features.div_(totals), grad_weights, grad_value), (context, behind[1])
    of_totals = grad_features.mul_(features) / -totals
    through_totals, normaliser = remaining_sums(of_totals, behind[1])
    grad_key = grad_weights.add_(through_totals).mul_(weights)
    return (centred(grad_features, features.mul_(totals)), grad_key, grad_value), (context, normaliser)


class Piece(NamedTuple):
    """Positions of a causal block, and the running maximum of k at its end: None for scaling.

    decay: what the sums carried from before are multiplied by, [batch * heads, 1, head_dim].
    seen: how many tokens there are before it.
    """

    rows: slice
    top: Tensor | None
    decay: Tensor
    seen: int


def plan_pieces(key: Tensor, softmax: bool, before: Tensor | None = None, tokens: int = 0) -> list[Piece]:
    """Causal blocks, with softmax cut where a channel's maximum rises steeply.

    Args:
        before: the maximum of earlier rows, [batch * heads, 1, head_dim], if there are any; tokens: how many.
    """
    batch, heads, _, head_dim = key.shape
    wide = accumulator_dtype(key.dtype)
    if not softmax:
        same = key.new_ones(batch * heads, 1, head_dim, dtype=wide)
        return [Piece(rows, None, same, tokens + rows.start) for rows in causal_blocks(key)]
    earlier = None if before is None else ungrouped(before, batch)
    sizes, tops = plan_chunks(key, block_rows(key, causal=True), lambda block: block, earlier)
    pieces, start = [], 0
    old_top = grouped(tops[0].to(wide)) if before is None else before
    for size, narrow in zip(sizes, tops, strict=True):
        top = narrow.to(wide).flatten(0, 1)
        for rows in whole_chunks(slice(start, start + size), chunk_rows(key)):
            pieces.append(Piece(rows, top, torch.exp(old_top - top), tokens + rows.start))
            old_top = top
        start += size
    return pieces


def _factors(query: Tensor, key: Tensor, normaliser: Tensor, piece: Piece) -> tuple[_Factors, Tensor]:
    """The factors of a block, and the normaliser at its end from the one before it."""
    rows, top = piece.rows, piece.top
    chunk = chunk_rows(query)
    if top is None:
        last = piece.seen + rows.stop - rows.start
        seen = torch.arange(piece.seen + 1, last + 1, dtype=normaliser.dtype, device=query.device)
        totals = split(seen[None, :, None].expand(len(normaliser), -1, 1), chunk)
        features = split(read(query, rows), chunk) / totals
        return _Factors(features, split(read(key, rows), chunk), totals), normaliser
    weights = split((read(key, rows) - top).exp_(), chunk)
    totals, normaliser = running_sums(weights, normaliser)
    features = split(torch.softmax(read(query, rows), -1), chunk).div_(totals)
    return _Factors(features, weights, totals), normaliser


def centred(weighted: Tensor, weights: Tensor) -> Tensor:
    """The gradient of a softmax's input: weights * gradient, less the weights times its sum. In place."""
    return weighted.addcmul_(weights, weighted.sum(-1, keepdim=True), value=-1)
