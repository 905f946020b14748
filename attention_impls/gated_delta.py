"""The gated delta rule: the state forgets, and what a key held before is overwritten, not added to."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from attention_impls.blocks import chunk_rows, grouped, ungrouped
from attention_impls.chunks import empty_sums
from attention_impls.decay import chunked, fading, needed
from attention_impls.hyperparameters import DOT_SCALE, check, dot_scale
from attention_impls.nouns import Problem
from attention_impls.sweeps import Block, empty_state, sweep_on, swept
from attention_impls.validate import validate_causal, validate_qkv

EPSILON = 1e-6  # added to the squared length of a query or key, as in the authors' code


class State(NamedTuple):
    """What is left of the tokens so far, [batch, heads, head_dim, head_dim], float32 (float64 for float64)."""

    context: Tensor


def eager(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    gate: Tensor | None = None,
    beta: Tensor | None = None,
) -> Tensor:
    """The gated delta rule, causal only, in time linear in seq_len.

    Formula: S_t = exp(g_t) (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T, y_t = scale * q_t^T S_t, queries
    and keys divided by their length first, x / sqrt(|x|^2 + 1e-6). A chunk is solved at once: the value that a
    token really adds, beta_t (v_t - what its key held), follows from those before it, a triangular system
    of the chunk's size. This is the core alone: no convolutions, no output gate and no norm. Half precision is
    computed in float32.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: it must be True: the recurrence has no form that sees later tokens.
        scale: factor of the dot products; None is 1 / sqrt(head_dim).
        gate: log-decay of every token, finite, 0 or less, [batch, heads, seq_len].
        beta: how much of a key's old value is replaced, 0 to 1, [batch, heads, seq_len].

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L D^2 / H) time, O(L D) memory: beside output and gradients, a state of each block and
    the temporaries of one. Chunks follow one another. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: the tensors, an operand or the scale break their rules, or it is not causal.

    Paper: Yang et al. 2024, arXiv 2412.06464.
    """
    gate, beta = checked(query, key, value, causal, scale, gate, beta)
    return swept(_block(query, scale), query, key, value, gate, beta)


def oracle(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    gate: Tensor | None = None,
    beta: Tensor | None = None,
) -> Tensor:
    """The float64 truth: the recurrence, one token after the other, every step's matrix written out."""
    gate, beta = (x.double() for x in checked(query, key, value, causal, scale, gate, beta))
    query, key, value = (x.double() for x in (query, key, value))
    query, key = (x / torch.sqrt(x.square().sum(-1, keepdim=True) + EPSILON) for x in (query, key))
    width = key.shape[3]
    one = torch.eye(width, dtype=key.dtype, device=key.device)
    state, outputs = key.new_zeros(*key.shape[:2], width, width), []
    for position in range(query.shape[2]):
        k, strength = key[:, :, position], beta[:, :, position, None, None]
        turned = one - strength * torch.einsum("bhk,bhl->bhkl", k, k)
        brought = strength * torch.einsum("bhk,bhv->bhkv", k, value[:, :, position])
        state = torch.exp(gate[:, :, position, None, None]) * (turned @ state) + brought
        outputs.append(torch.einsum("bhk,bhkv->bhv", query[:, :, position], state))
    return torch.stack(outputs, 2) * dot_scale(query.shape[-1], scale)


def init_state(problem: Problem) -> State:
    """The empty state before the first token."""
    shape = (problem.batch, problem.heads, problem.head_dim, problem.head_dim)
    return State(empty_sums(problem, *shape))


def prefill(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: State | None = None,
    *,
    scale: float | None = None,
    gate: Tensor | None = None,
    beta: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, state after the last).

    With a state, the tokens follow those that it stands for. Errors as ``eager``. Computes no gradients.
    """
    gate, beta = checked(query, key, value, True, scale, gate, beta)
    context = grouped(state.context) if state else empty_state(query)
    output, after = sweep_on(_block(query, scale), context, query, key, value, gate, beta)
    return output, State(ungrouped(after, len(query)))


def step(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: State,
    *,
    scale: float | None = None,
    gate: Tensor | None = None,
    beta: Tensor | None = None,
) -> tuple[Tensor, State]:
    """One token: tensors [batch, heads, head_dim], gate and beta [batch, heads] -> (output, new state).

    Complexity: O(D^2 / H) time and state, whatever the number of tokens.
    """
    check("gated-delta", DOT_SCALE, scale)
    wide = state.context.dtype
    gate, beta = (needed("gated-delta", n, x, query.shape[:2]) for n, x in (("gate", gate), ("beta", beta)))
    query_row, key_row = (normalised(x.to(wide))[..., None, :] for x in (query, key))
    faded = state.context * torch.exp(gate.to(wide))[..., None, None]
    change = (value.to(wide)[..., None, :] - key_row @ faded) * beta.to(wide)[..., None, None]
    context = faded + key_row.mT * change
    output = (query_row @ context).squeeze(-2) * dot_scale(query.shape[-1], scale)
    return output.to(query.dtype), State(context)


def normalised(x: Tensor) -> Tensor:
    """Every row divided by its length."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + EPSILON)


def _block(query: Tensor, scale: float | None) -> Block:
    return functools.partial(_overwriting, weight=dot_scale(query.shape[-1], scale))


def _overwriting(
    state: Tensor, query: Tensor, key: Tensor, value: Tensor, gate: Tensor, beta: Tensor, *, weight: float
) -> tuple[Tensor, Tensor]:
    """A block: its outputs, and the state after it."""
    chunk = min(query.shape[1], chunk_rows(query))
    query, key = normalised(query) * weight, normalised(key)
    query, key, value, gate, beta = (chunked(x, chunk) for x in (query, key, value, gate, beta))
    total = gate.cumsum(-1)
    left, reached, end = fading(total), torch.exp(total)[..., None], total[..., -1:]
    own, of_state = _solved(key, value, beta[..., None], reached, left)
    kept = (key * torch.exp(end - total)[..., None]).mT
    before, after = _states_between(kept @ own, kept @ of_state, torch.exp(end), state)
    output = ((query @ key.mT) * left) @ (own - of_state @ before) + (query * reached) @ before
    return output.flatten(1, 2), after


def _solved(key: Tensor, value: Tensor, beta: Tensor, reached: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """The values u that the tokens of a chunk really add, as u = own - of_state @ (the state before it).

    u_t = beta_t (v_t - reached_t S^T k_t - sum_{j < t} left_tj (k_t^T k_j) u_j), for all t of a chunk at once.
    """
    overlap = ((beta * key) @ key.mT * left).tril(-1)
    wanted = torch.cat((beta * value, beta * reached * key), -1)
    solved = torch.linalg.solve_triangular(overlap, wanted, upper=False, unitriangular=True)
    own, of_state = solved.chunk(2, -1)
    return own, of_state


def _states_between(sums: Tensor, turns: Tensor, decays: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The state before every chunk and the one after the last: S -> decay S - turn S + sum, chunk by chunk.

    Args:
        sums, turns: [groups, chunks, head_dim, head_dim].
        decays: [groups, chunks, 1].
        state: before the first chunk, [groups, head_dim, head_dim].
    """
    found = []
    for brought, turn, decay in zip(sums.unbind(1), turns.unbind(1), decays.unbind(1), strict=True):
        found.append(state)
        state = torch.baddbmm(torch.addcmul(brought, decay[..., None], state), turn, state, alpha=-1)
    return torch.stack(found, 1), state


def checked(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    causal: bool,
    scale: float | None,
    gate: Tensor | None,
    beta: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Gate and beta, after all rules have been checked."""
    validate_qkv(query, key, value)
    check("gated-delta", DOT_SCALE, scale)
    validate_causal("gated-delta", causal)
    shape = query.shape[:3]
    return needed("gated-delta", "gate", gate, shape), needed("gated-delta", "beta", beta, shape)
