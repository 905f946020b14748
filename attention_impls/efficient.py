"""Efficient attention: normalise queries and keys apart, and multiply keys with values first."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from attention_impls.chunks import accumulator_dtype, plan_chunks
from attention_impls.hyperparameters import NORMALISATION, check
from attention_impls.spec import Problem
from attention_impls.validate import validate_qkv

MIN_CHUNK_ROWS = 64  # below this, a chunk's matrix products are too small for the hardware


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
    ``scaling`` row i is divided by i + 1. Running sums are kept in float32 for half precision.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: position i sees positions j <= i only.
        normalisation: ``softmax`` or ``scaling``.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L D^2 / H) time, O(L D + D^2 / H) memory.

    Raises:
        InvalidArgument: the tensors or the normalisation break their rules.

    Paper: Shen et al. 2021, arXiv 1812.01243. Several heads are the authors' code, not the paper; their
    residual connection is left out.
    """
    _check(query, key, value, normalisation)
    if causal:
        wide = accumulator_dtype(query.dtype)
        form = _causal_softmax if normalisation == "softmax" else _causal_scaling
        return form(query.to(wide), key.to(wide), value.to(wide))[0].to(query.dtype)
    if normalisation == "scaling":
        root = math.sqrt(query.shape[-2])
        return (query / root) @ ((key / root).transpose(-1, -2) @ value)
    wide = accumulator_dtype(query.dtype)
    query_weights = torch.softmax(query, -1, dtype=wide).to(query.dtype)
    key_weights = torch.softmax(key, -2, dtype=wide).to(query.dtype)
    return query_weights @ (key_weights.transpose(-1, -2) @ value)


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
    scaling = problem.hyperparameters.get("normalisation", NORMALISATION.default) == "scaling"
    shape = (problem.batch, problem.heads, problem.head_dim)
    dtype = accumulator_dtype(getattr(torch, problem.dtype))
    context = torch.zeros(*shape, problem.head_dim, dtype=dtype, device=problem.device)
    normaliser = torch.zeros((0,) if scaling else shape, dtype=dtype, device=problem.device)
    return State(context, normaliser, torch.full_like(normaliser, -math.inf), 0)


def prefill(
    query: Tensor, key: Tensor, value: Tensor, state: State | None = None, *, normalisation: str = "softmax"
) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, sums after the last).

    With a state, the tokens follow those that it stands for. Arguments and errors as ``eager``.
    """
    _check(query, key, value, normalisation)
    wide = accumulator_dtype(query.dtype)
    form = _causal_softmax if normalisation == "softmax" else _causal_scaling
    output, after = form(query.to(wide), key.to(wide), value.to(wide), state)
    # Views would keep a chunk alive for as long as the state lives.
    return output.to(query.dtype), State(
        after.context, after.normaliser.clone(), after.top.clone(), after.tokens
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


def _causal_scaling(
    query: Tensor, key: Tensor, value: Tensor, state: State | None = None
) -> tuple[Tensor, State]:
    length, head_dim = query.shape[-2:]
    nothing = query.new_zeros(0)
    context, _, _, tokens = state or State(
        query.new_zeros(*query.shape[:2], head_dim, head_dim), nothing, nothing, 0
    )
    outputs = []
    for q, k, v in zip(*(torch.split(x, _rows(query), -2) for x in (query, key, value)), strict=True):
        outputs.append((q @ k.transpose(-1, -2)).tril() @ v + q @ context)
        context = context + k.transpose(-1, -2) @ v
    seen = torch.arange(tokens + 1, tokens + length + 1, dtype=query.dtype, device=query.device)
    return torch.cat(outputs, -2) / seen[:, None], State(context, nothing, nothing, tokens + length)


def _causal_softmax(
    query: Tensor, key: Tensor, value: Tensor, state: State | None = None
) -> tuple[Tensor, State]:
    """Chunk by chunk, with exponentials relative to the running maximum at the chunk's end."""
    before = state.top[:, :, None] if state else None
    sizes, tops = plan_chunks(key, _rows(query), lambda chunk: chunk, before)
    query_weights = torch.softmax(query, -1)
    if state:
        context, normaliser, old_top = state.context, state.normaliser[:, :, None], state.top[:, :, None]
    else:
        context = query.new_zeros(*query.shape[:2], query.shape[-1], query.shape[-1])
        normaliser = query.new_zeros(*query.shape[:2], 1, query.shape[-1])
        old_top = tops[0]
    chunks = (torch.split(x, sizes, -2) for x in (query_weights, key, value))
    outputs = []
    for q, k, v, top in zip(*chunks, tops, strict=True):
        weights = torch.exp(k - top)
        decay = torch.exp(old_top - top)
        context, normaliser, old_top = decay.transpose(-1, -2) * context, decay * normaliser, top
        totals = normaliser + torch.cumsum(weights, -2)
        scaled = q / totals
        outputs.append((scaled @ weights.transpose(-1, -2)).tril() @ v + scaled @ context)
        context = context + weights.transpose(-1, -2) @ v
        normaliser = totals[..., -1:, :]
    tokens = query.shape[-2] + (state.tokens if state else 0)
    return torch.cat(outputs, -2), State(context, normaliser.squeeze(2), old_top.squeeze(2), tokens)


def _rows(query: Tensor) -> int:
    """Rows of a causal chunk: as long as the head is wide, work inside and between chunks balance."""
    return max(MIN_CHUNK_ROWS, query.shape[-1])


def _check(query: Tensor, key: Tensor, value: Tensor, normalisation: str) -> None:
    validate_qkv(query, key, value)
    check("efficient", NORMALISATION, normalisation)
