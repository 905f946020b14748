"""Efficient attention: normalise queries and keys apart, and multiply keys with values first."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls.blocks import (
    block_rows,
    blocks,
    causal_blocks,
    chunk_rows,
    grouped,
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
from attention_impls.chunks import accumulator_dtype, empty_sums, plan_chunks
from attention_impls.hyperparameters import NORMALISATION, check
from attention_impls.nouns import Problem
from attention_impls.validate import validate_qkv

Sums = tuple[Tensor, Tensor]  # a context and a normaliser, or their gradients


class State(NamedTuple):
    """Sums over the tokens so far, in float32 (float64 for float64).

    context: sum of exp(k - top) v^T, or of k v^T, [batch, heads, head_dim, head_dim].
    normaliser: sum of exp(k - top), [batch, heads, head_dim]; empty with scaling normalisation.
    top: running maximum of k, of the same shape as the normaliser.
    tokens: how many tokens the sums hold.
    """

    context: Tensor
    normaliser: Tensor
    top: Tensor
    tokens: int


def eager(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, normalisation: str = "softmax"
) -> Tensor:
    """Efficient attention: rho_q(Q) (rho_k(K)^T V), linear in seq_len.

    Formula: with ``softmax`` rho_q is the softmax of each query over its channels and rho_k the softmax
    of each key channel over the positions; the implied weights rho_q rho_k^T sum to one per row, but
    are not softmax(Q K^T). With ``scaling`` both are Y / sqrt(seq_len), so y = (Q K^T / L) V exactly.

    Causal: OUR EXTENSION, the paper defines none. With ``softmax`` row i normalises every key channel
    over j <= i (a running softmax per channel), so the last row equals the non-causal form; with
    ``scaling`` row i is divided by i + 1.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: position i sees positions j <= i only.
        normalisation: ``softmax`` or ``scaling``.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query. Half precision is computed in float32.

    Complexity: O(L D^2 / H) time, O(L D + D^2 / H) memory: beside the output, and the gradients, the
    temporaries of a block of at most ``blocks.BLOCK_ELEMENTS``. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: the tensors or the normalisation break their rules.

    Paper: Shen et al. 2021, arXiv 1812.01243. Several heads are the authors' code, not the paper; their
    residual connection is left out.
    """
    _check(query, key, value, normalisation)
    output: Tensor
    if causal:
        output = _Causal.apply(query, key, value, normalisation == "softmax")  # type: ignore[no-untyped-call]
    elif normalisation == "softmax":
        output = _Full.apply(query, key, value)  # type: ignore[no-untyped-call]
    else:
        wide = accumulator_dtype(query.dtype)
        mean = key.to(wide).mT @ value.to(wide) / query.shape[-2]
        output = (query.to(wide) @ mean).to(query.dtype)
    return output


def oracle(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, normalisation: str = "softmax"
) -> Tensor:
    """The float64 truth: the [seq_len, seq_len] weights, row by row normalised over what the row sees."""
    _check(query, key, value, normalisation)
    query, key, value = query.double(), key.double(), value.double()
    length = query.shape[-2]
    sees = torch.ones(length, length, dtype=torch.float64, device=query.device)
    sees = sees.tril() if causal else sees
    if normalisation == "scaling":
        weights = torch.einsum("bhid,bhjd->bhij", query, key) * sees / sees.sum(-1, keepdim=True)
    else:
        query_weights = torch.exp(query) / torch.exp(query).sum(-1, keepdim=True)
        key_weights = torch.exp(key)[:, :, None] * sees[..., None]  # [batch, heads, i, j, channel]
        key_weights = key_weights / key_weights.sum(3, keepdim=True)
        weights = torch.einsum("bhic,bhijc->bhij", query_weights, key_weights)
    return torch.einsum("bhij,bhjd->bhid", weights, value)


def init_state(problem: Problem) -> State:
    """The empty sums before the first token."""
    scaling = problem.knob(NORMALISATION) == "scaling"
    shape = (problem.batch, problem.heads, problem.head_dim)
    context = empty_sums(problem, *shape, problem.head_dim)
    normaliser = empty_sums(problem, *((0,) if scaling else shape))
    return State(context, normaliser, torch.full_like(normaliser, -math.inf), 0)


def prefill(
    query: Tensor, key: Tensor, value: Tensor, state: State | None = None, *, normalisation: str = "softmax"
) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, sums after the last).

    With a state, the tokens follow those that it stands for. Arguments and errors as ``eager``. Computes no
    gradients.
    """
    _check(query, key, value, normalisation)
    softmax, batch = normalisation == "softmax", len(query)
    tokens = state.tokens if state else 0
    before = grouped(state.top[:, :, None]) if state and softmax else None
    plan = _plan(key, softmax, before, tokens)
    context, normaliser = _no_sums(query)
    if state:
        context = grouped(state.context)
        normaliser = grouped(state.normaliser[:, :, None]) if softmax else normaliser
    output, (context, normaliser), _ = _causal_forward(
        query, key, value, plan, (context, normaliser), keep=False
    )
    context, tokens = ungrouped(context, batch), tokens + query.shape[-2]
    top = plan[-1].top
    if top is None:
        nothing = context.new_zeros(0)
        return output, State(context, nothing, nothing, tokens)
    return output, State(
        context, ungrouped(normaliser, batch).squeeze(2), ungrouped(top, batch).squeeze(2).clone(), tokens
    )


def step(
    query: Tensor, key: Tensor, value: Tensor, state: State, *, normalisation: str = "softmax"
) -> tuple[Tensor, State]:
    """One token: tensors [batch, heads, head_dim] and the sums so far -> (output, new sums).

    Complexity: O(D^2 / H) time and state, whatever the number of tokens.
    """
    wide = state.context.dtype
    query_row, key_row, value_row = query.to(wide), key.to(wide), value.to(wide)
    tokens = state.tokens + 1
    if normalisation == "scaling":
        context = state.context + key_row[..., :, None] * value_row[..., None, :]
        new = State(context, state.normaliser, state.top, tokens)
        weights = query_row / tokens
    else:
        top = torch.maximum(state.top, key_row)
        decay, weight = torch.exp(state.top - top), torch.exp(key_row - top)
        context = decay[..., None] * state.context + weight[..., :, None] * value_row[..., None, :]
        new = State(context, decay * state.normaliser + weight, top, tokens)
        weights = torch.softmax(query_row, -1) / new.normaliser
    return (weights[..., None, :] @ new.context).squeeze(-2).to(query.dtype), new


def merge(earlier: State, later: State) -> State:
    """The sums after the tokens of one state and then of another, neither empty."""
    tokens = earlier.tokens + later.tokens
    if not earlier.top.numel():
        return State(earlier.context + later.context, earlier.normaliser, earlier.top, tokens)
    top = torch.maximum(earlier.top, later.top)
    before, after = torch.exp(earlier.top - top), torch.exp(later.top - top)
    context = before[..., None] * earlier.context + after[..., None] * later.context
    return State(context, before * earlier.normaliser + after * later.normaliser, top, tokens)


class _Full(torch.autograd.Function):
    """Softmax normalisation: sums over all keys, then every query times the sums, a block at a time.

    The keys' normaliser divides the sums, [head_dim, head_dim], not the keys. Nothing else waits.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        context, normaliser = _no_sums(query)
        top = key.amax(-2, keepdim=True).to(context.dtype).flatten(0, 1)
        for rows in blocks(query):
            weights = (read(key, rows) - top).exp_()
            context = torch.baddbmm(context, weights.mT, read(value, rows))
            normaliser += weights.sum(-2, keepdim=True)
        context /= normaliser.mT
        output = torch.empty_like(query)
        for rows in blocks(query):
            write(output, rows, torch.softmax(read(query, rows), -1) @ context)
        ctx.save_for_backward(query, key, value, context, normaliser, top)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """With p_i and w_j the normalised weights: dp_i = C g_i, dC = sum_i p_i g_i^T, dw_j = dC v_j,
        dv_j = dC^T w_j. The softmax of a channel passes w_j (dw_j - r), where r = sum_j w_j dw_j is the
        sum over a row of C * dC."""
        query, key, value, context, normaliser, top = ctx.saved_tensors
        grad_query, grad_key, grad_value = (torch.empty_like(x) for x in (query, key, value))
        grad_context = torch.zeros_like(context)
        for rows in blocks(query):
            weights, gradient = torch.softmax(read(query, rows), -1), read(upstream, rows)
            grad_context = torch.baddbmm(grad_context, weights.mT, gradient)
            grad_weights = (gradient @ context.mT).mul_(weights)
            write(grad_query, rows, _centred(grad_weights, weights))
        mean = (context * grad_context).sum(-1)[:, None] / normaliser
        grad_context /= normaliser.mT
        for rows in blocks(query):
            weights = (read(key, rows) - top).exp_()
            grad_weights = torch.baddbmm(mean, read(value, rows), grad_context.mT, beta=-1)
            write(grad_value, rows, weights @ grad_context)
            write(grad_key, rows, grad_weights.mul_(weights))
        return grad_query, grad_key, grad_value


class _Causal(torch.autograd.Function):
    """Both normalisations, chunk by chunk: y_i = f_i^T sum_{j <= i} w_j v_j^T.

    softmax: w_j = exp(k_j - top), top being the running maximum at the block's end, and f_i is the
    softmax of q_i over the sum of w_j, j <= i. scaling: w_j = k_j and f_i = q_i / i. What is carried from
    block to block is rescaled when the top rises.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, softmax: bool) -> Tensor:
        plan, keep = _plan(key, softmax), any(ctx.needs_input_grad)
        output, _, kept = _causal_forward(query, key, value, plan, _no_sums(query), keep=keep)
        ctx.plan = plan
        ctx.save_for_backward(query, key, value, *kept)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        gradients = tuple(torch.empty_like(x) for x in (query, key, value))
        behind = _no_sums(query)
        for piece in reversed(ctx.plan):
            normaliser, context = kept.pop(), kept.pop()
            factors, _ = _factors(query, key, normaliser, piece)
            v, g = (split(read(x, piece.rows), chunk_rows(x)) for x in (value, upstream))
            parts, (grad_context, grad_normaliser) = _causal_gradients(
                factors, v, g, context, behind, softmax=piece.top is not None
            )
            behind = grad_context * piece.decay.mT, grad_normaliser * piece.decay
            for gradient, part in zip(gradients, parts, strict=True):
                write(gradient, piece.rows, part)
        return *gradients, None


@torch.no_grad()
def _causal_forward(
    query: Tensor, key: Tensor, value: Tensor, plan: list[_Piece], carried: Sums, *, keep: bool
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
    return (_centred(grad_features, features.mul_(totals)), grad_key, grad_value), (context, normaliser)


class _Piece(NamedTuple):
    """Positions of a causal block, and the running maximum of k at its end: None for scaling.

    decay: what the sums carried from before are multiplied by, [batch * heads, 1, head_dim].
    seen: how many tokens there are before it.
    """

    rows: slice
    top: Tensor | None
    decay: Tensor
    seen: int


def _plan(key: Tensor, softmax: bool, before: Tensor | None = None, tokens: int = 0) -> list[_Piece]:
    """Causal blocks, with softmax cut where a channel's maximum rises steeply.

    Args:
        before: the maximum of earlier rows, [batch * heads, 1, head_dim], if there are any; tokens: how many.
    """
    batch, heads, _, head_dim = key.shape
    wide = accumulator_dtype(key.dtype)
    if not softmax:
        same = key.new_ones(batch * heads, 1, head_dim, dtype=wide)
        return [_Piece(rows, None, same, tokens + rows.start) for rows in causal_blocks(key)]
    earlier = None if before is None else ungrouped(before, batch)
    sizes, tops = plan_chunks(key, block_rows(key, causal=True), lambda block: block, earlier)
    pieces, start = [], 0
    old_top = grouped(tops[0].to(wide)) if before is None else before
    for size, narrow in zip(sizes, tops, strict=True):
        top = narrow.to(wide).flatten(0, 1)
        for rows in whole_chunks(slice(start, start + size), chunk_rows(key)):
            pieces.append(_Piece(rows, top, torch.exp(old_top - top), tokens + rows.start))
            old_top = top
        start += size
    return pieces


def _factors(query: Tensor, key: Tensor, normaliser: Tensor, piece: _Piece) -> tuple[_Factors, Tensor]:
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


def _centred(weighted: Tensor, weights: Tensor) -> Tensor:
    """The gradient of a softmax's input: weights * gradient, less the weights times its sum. In place."""
    return weighted.addcmul_(weights, weighted.sum(-1, keepdim=True), value=-1)


def _no_sums(query: Tensor) -> Sums:
    """Zeros for a context [batch * heads, head_dim, head_dim] and a normaliser [batch * heads, 1, head_dim]."""
    batch, heads, _, head_dim = query.shape
    context = query.new_zeros(batch * heads, head_dim, head_dim, dtype=accumulator_dtype(query.dtype))
    return context, torch.zeros_like(context[:, :1])


def _check(query: Tensor, key: Tensor, value: Tensor, normalisation: str) -> None:
    validate_qkv(query, key, value)
    check("efficient", NORMALISATION, normalisation)
