"""Linear attention with the feature map elu + 1: the classic linear baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls.autocast import as_written, under_autocast
from attention_impls.blocks import (
    blocks,
    causal_blocks,
    chunk_rows,
    grouped,
    no_sums,
    read,
    split,
    sums_after,
    sums_before,
    ungrouped,
    write,
)
from attention_impls.chunks import empty_sums
from attention_impls.nouns import Problem
from attention_impls.validate import validate_qkv

EPSILON = 1e-6  # added to the denominator, as in the authors' code


Sums = tuple[Tensor, Tensor]  # of phi(k) v^T and of phi(k), or their gradients
Gradients = tuple[Tensor, Tensor, Tensor]  # of query, key and value
Store = Callable[[Tensor, slice, Tensor], None]  # of a block, into rows of a gradient


class State(NamedTuple):
    """Sums over the tokens so far, in float32 (float64 for float64).

    context: sum of phi(k) v^T, [batch, heads, head_dim, head_dim].
    normaliser: sum of phi(k), [batch, heads, head_dim].
    """

    context: Tensor
    normaliser: Tensor


def eager(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """Linear attention: weights phi(q)^T phi(k) in place of exp(q^T k), in time linear in seq_len.

    Formula: y_i = phi(q_i)^T sum_j phi(k_j) v_j^T / (phi(q_i)^T sum_j phi(k_j) + 1e-6), phi = elu + 1,
    over j <= i when causal. The causal form works in chunks: a masked product within each chunk, and
    the sums of all chunks before it. Half precision is computed in float32. Under autocast the inputs are
    rounded to its dtype first, as those of matrix products are.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: position i sees positions j <= i only.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L D^2 / H) time, O(L D) memory: beside the output, and the gradients, the temporaries
    of a block of at most ``blocks.BLOCK_ELEMENTS``. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: the tensors break their rules.

    Paper: Katharopoulos et al. 2020, arXiv 2006.16236.
    """
    query, key, value = under_autocast(query, key, value)
    validate_qkv(query, key, value)
    form = _Causal if causal else _Full
    output: Tensor = form.apply(query, key, value)  # type: ignore[no-untyped-call]
    return output


def oracle(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """The float64 truth: the [seq_len, seq_len] weights, divided by their sums."""
    validate_qkv(query, key, value)
    query, key, value = query.double(), key.double(), value.double()
    query, key = (torch.where(x > 0, x + 1, torch.exp(x.clamp(max=0))) for x in (query, key))
    weights = torch.einsum("bhid,bhjd->bhij", query, key)
    if causal:
        weights = weights.tril()
    return torch.einsum("bhij,bhjd->bhid", weights, value) / (weights.sum(-1, keepdim=True) + EPSILON)


def init_state(problem: Problem) -> State:
    """The empty sums before the first token."""
    shape = (problem.batch, problem.heads, problem.head_dim)
    zeros = empty_sums(problem, *shape, problem.head_dim)
    return State(zeros, zeros[..., 0].clone())


def prefill(query: Tensor, key: Tensor, value: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, sums after the last).

    With a state, the tokens follow those that it stands for. Errors as ``eager``. Computes no gradients.
    """
    validate_qkv(query, key, value)
    carried = (grouped(state.context), grouped(state.normaliser[:, :, None])) if state else no_sums(query)
    output, (context, normaliser), _ = causal_forward(query, key, value, carried, keep=False)
    batch = len(query)
    return output, State(ungrouped(context, batch), ungrouped(normaliser, batch).squeeze(2))


def step(query: Tensor, key: Tensor, value: Tensor, state: State) -> tuple[Tensor, State]:
    """One token: tensors [batch, heads, head_dim] and the sums so far -> (output, new sums).

    Complexity: O(D^2 / H) time and state, whatever the number of tokens.
    """
    wide = state.context.dtype
    query_features, key_features = _features(query.to(wide)), _features(key.to(wide))
    context = state.context + key_features[..., :, None] * value.to(wide)[..., None, :]
    normaliser = state.normaliser + key_features
    weighted = (query_features[..., None, :] @ context).squeeze(-2)
    total = (query_features * normaliser).sum(-1, keepdim=True)
    return (weighted / (total + EPSILON)).to(query.dtype), State(context, normaliser)


def merge(earlier: State, later: State) -> State:
    """The sums after the tokens of one state and then of another."""
    return State(earlier.context + later.context, earlier.normaliser + later.normaliser)


def elu_plus_one(x: Tensor) -> Tensor:
    """The feature map, for autograd to follow."""
    return torch.exp(torch.clamp(x, max=0)) + torch.relu(x)


def _features(x: Tensor) -> Tensor:
    """The same in place, where nothing is followed: two tensors fewer."""
    return torch.clamp(x, max=0).exp_().add_(torch.relu(x))


def _slope(features: Tensor) -> Tensor:
    """The derivative of the feature map: exp(x) below 0, else 1."""
    return torch.clamp(features, max=1)


class _Full(torch.autograd.Function):
    """Sums over all keys, then the ratio at every query, a block at a time. Nothing waits but the sums."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        sums = key_sums(key, value)
        ctx.save_for_backward(query, key, value, *sums)
        return outputs(query, sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, *sums = ctx.saved_tensors
        gradients: Gradients = (torch.empty_like(query), torch.empty_like(key), torch.empty_like(value))
        behind = query_gradients(query, upstream, sums, gradients[0])
        key_gradients(key, value, behind, gradients, write)
        return gradients


@as_written
def key_sums(key: Tensor, value: Tensor) -> Sums:
    """The sums over all keys."""
    context, normaliser = no_sums(key)
    for rows in blocks(key):
        features = _features(read(key, rows))
        context = torch.baddbmm(context, features.mT, read(value, rows))
        normaliser += features.sum(-2, keepdim=True)
    return context, normaliser


@as_written
def outputs(query: Tensor, sums: Sequence[Tensor]) -> Tensor:
    """The ratio at every query, of sums that all of them see."""
    context, normaliser = sums
    output = torch.empty_like(query)
    for rows in blocks(query):
        features = _features(read(query, rows))
        total = (features * normaliser).sum(-1, keepdim=True).add_(EPSILON)
        write(output, rows, (features @ context).div_(total))
    return output


@as_written
def query_gradients(query: Tensor, upstream: Tensor, sums: Sequence[Tensor], grad_query: Tensor) -> Sums:
    """Writes the query's gradient; returns those of the sums.

    With h_i = g_i / total_i and u_i = -h_i^T y_i, the gradients of the weighted sum and of the total:
    dphi(q_i) = C h_i + u_i z, dC = sum_i phi(q_i) h_i^T, dz = sum_i u_i phi(q_i).
    """
    context, normaliser = sums
    grad_context, grad_normaliser = no_sums(query)
    for rows in blocks(query):
        features = _features(read(query, rows))
        total = (features * normaliser).sum(-1, keepdim=True).add_(EPSILON)
        ahead = read(upstream, rows) / total
        gradient = ahead @ context.mT
        of_total = (features * gradient).sum(-1, keepdim=True).div_(-total)
        grad_context = torch.baddbmm(grad_context, features.mT, ahead)
        grad_normaliser += (features * of_total).sum(-2, keepdim=True)
        gradient.addcmul_(of_total, normaliser)
        write(grad_query, rows, gradient.mul_(_slope(features)))
    return grad_context, grad_normaliser


@as_written
def key_gradients(key: Tensor, value: Tensor, behind: Sums, gradients: Gradients, store: Store) -> None:
    """Stores what the gradients of sums over all keys pass on: dphi(k_j) = dC v_j + dz, dv_j = dC^T phi(k_j).

    Args:
        store: ``blocks.write``, or ``blocks.add`` where there is a part already.
    """
    context, normaliser = behind
    _, grad_key, grad_value = gradients
    for rows in blocks(key):
        features, values = _features(read(key, rows)), read(value, rows)
        gradient = torch.baddbmm(normaliser, values, context.mT)
        store(grad_value, rows, features @ context)
        store(grad_key, rows, gradient.mul_(_slope(features)))


class _Causal(torch.autograd.Function):
    """The same with the sums of each query's past: chunks of a block at once, and the sums before them."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keep = any(ctx.needs_input_grad)
        output, _, kept = causal_forward(query, key, value, no_sums(query), keep=keep)
        ctx.save_for_backward(query, key, value, output, *kept)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Gradients:
        gradients, _ = causal_backward(upstream, *ctx.saved_tensors)
        return gradients


@as_written
@torch.no_grad()
def causal_forward(
    query: Tensor, key: Tensor, value: Tensor, carried: Sums, *, keep: bool
) -> tuple[Tensor, Sums, list[Tensor]]:
    """The output, the sums at the end, and with ``keep`` those before every block, from those carried in."""
    output = torch.empty_like(query)
    kept: list[Tensor] = []
    for rows in causal_blocks(query):
        kept += carried if keep else ()
        block, carried = _causal_block(_chunks(rows, query, key, value), carried)
        write(output, rows, block)
    return output, carried, kept


@as_written
def causal_backward(
    upstream: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, *kept: Tensor
) -> tuple[Gradients, Sums]:
    """Gradients from the sums kept before every block, and those of the sums at the start.

    As in the full form, C and z being sums over j <= i and their gradients sums over i >= j.
    """
    gradients = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    before, behind = list(kept), no_sums(query)
    for rows in reversed(causal_blocks(query)):
        normaliser, context = before.pop(), before.pop()
        chunks = _chunks(rows, query, key, value, output, upstream)
        parts, behind = _causal_gradients(chunks, (context, normaliser), behind)
        for gradient, part in zip(gradients, parts, strict=True):
            write(gradient, rows, part)
    return gradients, behind


def _causal_block(chunks: list[Tensor], carried: Sums) -> tuple[Tensor, Sums]:
    """The outputs of a block in chunks, and the sums at its end, from those before it."""
    query, key, v = chunks
    q, k = _features(query), _features(key)
    contexts, context = sums_before(k.mT @ v, carried[0])
    normalisers, normaliser = sums_before(k.sum(-2, keepdim=True), carried[1])
    inside = (q @ k.mT).tril_()
    weighted = (q @ contexts).baddbmm_(inside, v)
    return weighted.div_(_total(q, inside, normalisers)), (context, normaliser)


def _causal_gradients(
    chunks: list[Tensor], carried: Sums, behind: Sums
) -> tuple[tuple[Tensor, Tensor, Tensor], Sums]:
    """Gradients of a block's query, key and value, and the sums at its start, from those behind it."""
    query, key, v, y, upstream = chunks
    q, k = _features(query), _features(key)
    contexts, _ = sums_before(k.mT @ v, carried[0])
    normalisers, _ = sums_before(k.sum(-2, keepdim=True), carried[1])
    inside = (q @ k.mT).tril_()
    ahead = upstream / _total(q, inside, normalisers)
    of_total = (ahead * y).sum(-1, keepdim=True).neg_()
    scores = torch.baddbmm(of_total.expand_as(inside), ahead, v.mT).tril_()
    grad_query = torch.baddbmm(of_total * normalisers, ahead, contexts.mT).baddbmm_(scores, k)
    grad_contexts, context = sums_after(q.mT @ ahead, behind[0])
    grad_normalisers, normaliser = sums_after((q * of_total).sum(-2, keepdim=True), behind[1])
    grad_value = (k @ grad_contexts).baddbmm_(inside.mT, ahead)
    grad_key = torch.baddbmm(grad_normalisers, v, grad_contexts.mT).baddbmm_(scores.mT, q)
    gradients = grad_query.mul_(_slope(q)), grad_key.mul_(_slope(k)), grad_value
    return gradients, (context, normaliser)


def _chunks(rows: slice, *tensors: Tensor) -> list[Tensor]:
    """A block of each tensor, in chunks."""
    return [split(read(x, rows), chunk_rows(x)) for x in tensors]


def _total(query: Tensor, inside: Tensor, normalisers: Tensor) -> Tensor:
    """The denominator of every row of the chunks."""
    return inside.sum(-1, keepdim=True).add_((query * normalisers).sum(-1, keepdim=True)).add_(EPSILON)
