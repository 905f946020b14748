"""Retention: linear attention that forgets at a fixed rate, another one in every head."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from attention_impls.blocks import grouped, ungrouped
from attention_impls.chunks import accumulator_dtype, empty_sums
from attention_impls.decay import decayed, stepped
from attention_impls.hyperparameters import DOT_SCALE, check, dot_scale
from attention_impls.nouns import Problem
from attention_impls.sweeps import Block, empty_state, sweep_on, swept
from attention_impls.validate import validate_qkv


class State(NamedTuple):
    """What is left of the tokens so far, in float32 (float64 for float64), and how many they are.

    context: sum of gamma^(age) k v^T, [batch, heads, head_dim, head_dim].
    tokens: so many have been seen; by them an earlier state fades when two are merged.
    """

    context: Tensor
    tokens: int


def eager(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Retention: weights scale * gamma^(i - j) q_i^T k_j, without a normaliser, in time linear in seq_len.

    Formula: y_i = scale * q_i^T sum_{j <= i} gamma_h^(i - j) k_j v_j^T, gamma_h = 1 - 2^(-5 - h) in head
    h = 0, 1, ... OUR EXTENSION, where it is not causal: the sum over all j of gamma_h^|i - j|, along a
    sequence what Fan et al. 2023 (RMT, arXiv 2309.11523) do on an image. Half precision is computed in
    float32. This is the core alone: no xPos rotation, no group norm and no output gate.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: position i sees positions j <= i only.
        scale: factor of the dot products; None is 1 / sqrt(head_dim).

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L D^2 / H) time, O(L D) memory: beside output and gradients, a state of each block and
    the temporaries of one. Not causal, two sweeps. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: the tensors or the scale break their rules.

    Paper: Sun et al. 2023, arXiv 2307.08621.
    """
    weight = checked(query, key, value, scale)
    if causal:
        return swept(_block(query, weight), query, key, value)
    # Wide, for the two sweeps are added; the second leaves out the token itself, which the first has seen.
    wide = [x.to(accumulator_dtype(x.dtype)) for x in (query, key, value)]
    forwards = swept(_block(query, weight), *wide)
    backwards = swept(_block(query, weight, strict=True), *(x.flip(2) for x in wide)).flip(2)
    return (forwards + backwards).to(query.dtype)


def oracle(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """The float64 truth: the [seq_len, seq_len] matrix of gamma^|i - j| times the dot products."""
    weight = checked(query, key, value, scale)
    query, key, value = query.double(), key.double(), value.double()
    gamma = 1 - 2 ** (-5.0 - torch.arange(query.shape[1], dtype=torch.float64, device=query.device))
    place = torch.arange(query.shape[2], device=query.device)
    weights = gamma[:, None, None] ** (place[:, None] - place).abs()
    if causal:
        weights = weights.tril()
    scores = torch.einsum("bhid,bhjd->bhij", query, key) * weight
    return torch.einsum("bhij,bhjd->bhid", scores * weights, value)


def init_state(problem: Problem) -> State:
    """The empty sum before the first token."""
    shape = (problem.batch, problem.heads, problem.head_dim, problem.head_dim)
    return State(empty_sums(problem, *shape), 0)


def prefill(
    query: Tensor, key: Tensor, value: Tensor, state: State | None = None, *, scale: float | None = None
) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, state after the last).

    With a state, the tokens follow those that it stands for. Errors as ``eager``. Computes no gradients.
    """
    weight = checked(query, key, value, scale)
    context, tokens = (grouped(state.context), state.tokens) if state else (empty_state(query), 0)
    output, after = sweep_on(_block(query, weight), context, query, key, value)
    return output, State(ungrouped(after, len(query)), tokens + query.shape[2])


def step(
    query: Tensor, key: Tensor, value: Tensor, state: State, *, scale: float | None = None
) -> tuple[Tensor, State]:
    """One token: tensors [batch, heads, head_dim] and the state so far -> (output, new state).

    Complexity: O(D^2 / H) time and state, whatever the number of tokens.
    """
    check("retention", DOT_SCALE, scale)
    query_wide, key, value = (x.to(state.context.dtype) for x in (query, key, value))
    faded = state.context * torch.exp(log_gammas(state.context))[:, None, None]
    output, context = stepped(faded, query_wide, key, value)
    return (output * dot_scale(query.shape[-1], scale)).to(query.dtype), State(context, state.tokens + 1)


def merge(earlier: State, later: State) -> State:
    """The state after the tokens of one state and then of another: the earlier fades by the later's tokens."""
    left = torch.exp(later.tokens * log_gammas(earlier.context))[:, None, None]
    return State(earlier.context * left + later.context, earlier.tokens + later.tokens)


def log_gammas(like: Tensor) -> Tensor:
    """The log-decay of every head, [heads], for a tensor [batch, heads, ...] and in its dtype."""
    rates = 2 ** (-5 - torch.arange(like.shape[1], dtype=torch.float64, device=like.device))
    return torch.log1p(-rates).to(like.dtype)


def _block(query: Tensor, weight: float, strict: bool = False) -> Block:
    gates = log_gammas(query.new_empty((1, query.shape[1]), dtype=accumulator_dtype(query.dtype)))
    gate = gates.repeat(len(query))[:, None]
    return functools.partial(_retained, gate=gate, weight=weight, strict=strict)


def _retained(
    state: Tensor, query: Tensor, key: Tensor, value: Tensor, *, gate: Tensor, weight: float, strict: bool
) -> tuple[Tensor, Tensor]:
    return decayed(state, query * weight, key, value, gate, strict=strict)


def checked(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> float:
    """The factor of the dot products, after all rules have been checked."""
    validate_qkv(query, key, value)
    check("retention", DOT_SCALE, scale)
    return dot_scale(query.shape[-1], scale)
