"""Efficient attention: normalise queries and keys apart, and multiply keys with values first."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls.autocast import as_written, under_autocast
from attention_impls.blocks import blocks, grouped, no_sums, read, ungrouped, write
from attention_impls.chunks import accumulator_dtype, empty_sums
from attention_impls.efficient_causal import Gradients, Sums, causal_forward, centred, plan_pieces
from attention_impls.efficient_causal import causal as causal_form
from attention_impls.hyperparameters import NORMALISATION, check
from attention_impls.nouns import Problem
from attention_impls.validate import validate_qkv

Store = Callable[[Tensor, slice, Tensor], None]  # of a block, into rows of a gradient


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
        Under autocast the inputs are rounded to its dtype first, as those of matrix products are.

    Complexity: O(L D^2 / H) time, O(L D + D^2 / H) memory: beside the output, and the gradients, the
    temporaries of a block of at most ``blocks.BLOCK_ELEMENTS``. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: the tensors or the normalisation break their rules.

    Paper: Shen et al. 2021, arXiv 1812.01243. Several heads are the authors' code, not the paper; their
    residual connection is left out.
    """
    query, key, value = under_autocast(query, key, value)
    checked(query, key, value, normalisation)
    output: Tensor
    if causal:
        output = causal_form(query, key, value, normalisation == "softmax")
    elif normalisation == "softmax":
        output = _Full.apply(query, key, value)  # type: ignore[no-untyped-call]
    else:
        output = scaled_outputs(query, products(key, value) / query.shape[-2])
    return output


def oracle(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, normalisation: str = "softmax"
) -> Tensor:
    """The float64 truth: the [seq_len, seq_len] weights, row by row normalised over what the row sees."""
    checked(query, key, value, normalisation)
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
    checked(query, key, value, normalisation)
    softmax, batch = normalisation == "softmax", len(query)
    tokens = state.tokens if state else 0
    before = grouped(state.top[:, :, None]) if state and softmax else None
    plan = plan_pieces(key, softmax, before, tokens)
    context, normaliser = no_sums(query)
    if state:
        context = grouped(state.context)
        normaliser = grouped(state.normaliser[:, :, None]) if softmax else normaliser
    output, (context, normaliser), _ = causal_forward(
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
        top = key_top(key)
        context, normaliser = key_sums(key, value, top)
        context /= normaliser.mT
        ctx.save_for_backward(query, key, value, context, normaliser, top)
        return outputs(query, context)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Gradients:
        query, key, value, context, normaliser, top = ctx.saved_tensors
        gradients: Gradients = (torch.empty_like(query), torch.empty_like(key), torch.empty_like(value))
        grad_context = query_gradients(query, upstream, context, gradients[0])
        behind = of_sums(context, normaliser, grad_context)
        key_gradients(key, value, top, behind, gradients, write)
        return gradients


def key_top(key: Tensor) -> Tensor:
    """The maximum of every key channel, [batch * heads, 1, head_dim], wide."""
    return key.amax(-2, keepdim=True).to(accumulator_dtype(key.dtype)).flatten(0, 1)


@as_written
def key_sums(key: Tensor, value: Tensor, top: Tensor) -> Sums:
    """The sums of exp(k - top) v^T and of exp(k - top) over all keys."""
    context, normaliser = no_sums(key)
    for rows in blocks(key):
        weights = (read(key, rows) - top).exp_()
        context = torch.baddbmm(context, weights.mT, read(value, rows))
        normaliser += weights.sum(-2, keepdim=True)
    return context, normaliser


@as_written
def outputs(query: Tensor, context: Tensor) -> Tensor:
    """Every query's softmax times a context that all of them see."""
    output = torch.empty_like(query)
    for rows in blocks(query):
        write(output, rows, torch.softmax(read(query, rows), -1) @ context)
    return output


@as_written
def query_gradients(query: Tensor, upstream: Tensor, context: Tensor, grad_query: Tensor) -> Tensor:
    """Writes the query's gradient; returns that of the context.

    With p_i the softmax of a query: dp_i = C g_i, dC = sum_i p_i g_i^T.
    """
    grad_context = torch.zeros_like(context)
    for rows in blocks(query):
        weights, gradient = torch.softmax(read(query, rows), -1), read(upstream, rows)
        grad_context = torch.baddbmm(grad_context, weights.mT, gradient)
        grad_weights = (gradient @ context.mT).mul_(weights)
        write(grad_query, rows, centred(grad_weights, weights))
    return grad_context


def of_sums(context: Tensor, normaliser: Tensor, grad_context: Tensor) -> Sums:
    """Gradients of the sums from that of the context, the sums' ratio: dC / z, and -(row sums of C * dC) / z."""
    mean = (context * grad_context).sum(-1)[:, None] / normaliser
    return grad_context / normaliser.mT, mean.neg_()


@as_written
def key_gradients(
    key: Tensor, value: Tensor, top: Tensor, behind: Sums, gradients: Gradients, store: Store
) -> None:
    """Stores what the gradients of ``key_sums`` pass on: dk_j = w_j (dC v_j + dz), dv_j = dC^T w_j.

    Args:
        store: ``blocks.write``, or ``blocks.add`` where there is a part already.
    """
    context, normaliser = behind
    _, grad_key, grad_value = gradients
    for rows in blocks(key):
        weights = (read(key, rows) - top).exp_()
        grad_weights = torch.baddbmm(normaliser, read(value, rows), context.mT)
        store(grad_value, rows, weights @ context)
        store(grad_key, rows, grad_weights.mul_(weights))


@as_written
def products(key: Tensor, value: Tensor) -> Tensor:
    """The sums of k v^T over all keys, [batch, heads, head_dim, head_dim], wide: those of scaling normalisation."""
    wide = accumulator_dtype(key.dtype)
    return key.to(wide).mT @ value.to(wide)


@as_written
def scaled_outputs(query: Tensor, mean: Tensor) -> Tensor:
    """Every query times the mean, in the query's dtype."""
    return (query.to(mean.dtype) @ mean).to(query.dtype)


def checked(query: Tensor, key: Tensor, value: Tensor, normalisation: str) -> None:
    """Refuse tensors and a normalisation that break their rules."""
    validate_qkv(query, key, value)
    check("efficient", NORMALISATION, normalisation)
