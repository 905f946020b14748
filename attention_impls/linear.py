"""Linear attention with the feature map elu + 1: the classic linear baseline."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_impls.chunks import accumulator_dtype
from attention_impls.spec import Problem
from attention_impls.validate import validate_qkv

EPSILON = 1e-6  # added to the denominator, as in the authors' code
MIN_CHUNK_ROWS = 64  # below this, a chunk's matrix products are too small for the hardware


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
    the sums of all chunks before it. Half precision is computed in float32.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: position i sees positions j <= i only.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L D^2 / H) time, O(L D) memory.

    Raises:
        InvalidArgument: the tensors break their rules.

    Paper: Katharopoulos et al. 2020, arXiv 2006.16236.
    """
    validate_qkv(query, key, value)
    wide = accumulator_dtype(query.dtype)
    query_features, key_features = _features(query.to(wide)), _features(key.to(wide))
    if causal:
        return _causal(query_features, key_features, value.to(wide))[0].to(query.dtype)
    return _full(query_features, key_features, value.to(wide)).to(query.dtype)


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
    dtype = accumulator_dtype(getattr(torch, problem.dtype))
    zeros = torch.zeros(*shape, problem.head_dim, dtype=dtype, device=problem.device)
    return State(zeros, zeros[..., 0].clone())


def prefill(query: Tensor, key: Tensor, value: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, sums after the last).

    With a state, the tokens follow those that it stands for. Errors as ``eager``.
    """
    validate_qkv(query, key, value)
    wide = accumulator_dtype(query.dtype)
    query_features, key_features = _features(query.to(wide)), _features(key.to(wide))
    output, after = _causal(query_features, key_features, value.to(wide), state)
    return output.to(query.dtype), after


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


def _features(x: Tensor) -> Tensor:
    return F.elu(x) + 1


def _full(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    weighted = query @ (key.transpose(-1, -2) @ value)
    total = (query * key.sum(-2, keepdim=True)).sum(-1, keepdim=True)
    return weighted / (total + EPSILON)


def _causal(query: Tensor, key: Tensor, value: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    length, head_dim = query.shape[-2:]
    # A chunk as long as the head is wide keeps all chunk states together at L * D elements.
    rows = min(length, max(MIN_CHUNK_ROWS, head_dim))
    query, key, value = (_chunked(x, rows) for x in (query, key, value))
    contexts, context = _before(key.transpose(-1, -2) @ value, state and state.context)
    normalisers, normaliser = _before(key.sum(-2, keepdim=True), state and state.normaliser[:, :, None])
    inside = (query @ key.transpose(-1, -2)).tril()
    weighted = inside @ value + query @ contexts
    total = inside.sum(-1, keepdim=True) + (query * normalisers).sum(-1, keepdim=True)
    output = (weighted / (total + EPSILON)).flatten(2, 3)[:, :, :length]
    return output, State(context, normaliser.squeeze(2))


def _chunked(x: Tensor, rows: int) -> Tensor:
    """[batch, heads, chunks, rows, head_dim]; the last chunk is filled up with zeros."""
    return torch.unflatten(F.pad(x, (0, 0, 0, -x.shape[-2] % rows)), 2, (-1, rows))


def _before(chunk_sums: Tensor, earlier: Tensor | None) -> tuple[Tensor, Tensor]:
    """For every chunk the sum of all before it, from an earlier sum on; and the sum of everything."""
    running = chunk_sums.cumsum(2)
    before, everything = F.pad(running[:, :, :-1], (0, 0, 0, 0, 1, 0)), running[:, :, -1].clone()
    if earlier is None:
        return before, everything
    return before + earlier[:, :, None], everything + earlier
