"""The core of Mamba-2: linear attention that forgets as much as each token says, one number per head."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from attention_impls.blocks import grouped, ungrouped
from attention_impls.chunks import empty_sums
from attention_impls.decay import decayed, needed, stepped
from attention_impls.hyperparameters import OUTPUT_SCALE, check
from attention_impls.nouns import Problem
from attention_impls.sweeps import Block, empty_state, sweep_on, swept
from attention_impls.validate import validate_causal, validate_qkv


class State(NamedTuple):
    """What is left of the tokens so far, in float32 (float64 for float64).

    context: sum of k v^T, each faded by the gates after it, [batch, heads, head_dim, head_dim].
    log_decay: sum of all gates, [batch, heads]; by it an earlier state fades when two are merged.
    """

    context: Tensor
    log_decay: Tensor


def eager(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    scale: float = 1.0,
    gate: Tensor | None = None,
) -> Tensor:
    """Scalar-gated linear attention, the SSD core of Mamba-2, causal only, in time linear in seq_len.

    Formula: S_t = exp(g_t) S_{t-1} + k_t v_t^T, y_t = scale * q_t^T S_t. In the paper's letters q = C, k = B,
    v = Delta x and g = Delta A; here they come ready, every head with its own B and C. This is the core
    alone: no convolution, no skip D x, no output gate and no norm. Half precision is computed in float32.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: it must be True: the recurrence has no form that sees later tokens.
        scale: factor of the output.
        gate: log-decay of every token, finite, 0 or less, [batch, heads, seq_len].

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L D^2 / H) time, O(L D) memory: beside output and gradients, a state of each block and
    the temporaries of one. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: the tensors, the gate or the scale break their rules, or it is not causal.

    Paper: Dao & Gu 2024, arXiv 2405.21060.
    """
    gate = checked(query, key, value, causal, scale, gate)
    return swept(_block(scale), query, key, value, gate)


def oracle(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    scale: float = 1.0,
    gate: Tensor | None = None,
) -> Tensor:
    """The float64 truth: the [seq_len, seq_len] matrix of products of exp(gate) times the dot products."""
    gate = checked(query, key, value, causal, scale, gate).double()
    scores = torch.einsum("bhid,bhjd->bhij", query.double(), key.double())
    rows = []
    left = torch.zeros_like(scores[:, :, 0])
    for position in range(query.shape[2]):
        left = left * torch.exp(gate[:, :, position, None])
        left = left + torch.eye(left.shape[-1], dtype=left.dtype, device=left.device)[position]
        rows.append(left)
    weights = scores * torch.stack(rows, 2)
    return scale * torch.einsum("bhij,bhjd->bhid", weights, value.double())


def init_state(problem: Problem) -> State:
    """The empty sum before the first token."""
    shape = (problem.batch, problem.heads, problem.head_dim, problem.head_dim)
    zeros = empty_sums(problem, *shape)
    return State(zeros, zeros[..., 0, 0].clone())


def prefill(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: State | None = None,
    *,
    scale: float = 1.0,
    gate: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, state after the last).

    With a state, the tokens follow those that it stands for. Errors as ``eager``. Computes no gradients.
    """
    gate = checked(query, key, value, True, scale, gate)
    context = grouped(state.context) if state else empty_state(query)
    output, after = sweep_on(_block(scale), context, query, key, value, gate)
    decay = gate.to(after.dtype).sum(-1)
    return output, State(ungrouped(after, len(query)), state.log_decay + decay if state else decay)


def step(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: State,
    *,
    scale: float = 1.0,
    gate: Tensor | None = None,
) -> tuple[Tensor, State]:
    """One token: tensors [batch, heads, head_dim], its gate [batch, heads] and a state -> (output, new state).

    Complexity: O(D^2 / H) time and state, whatever the number of tokens.
    """
    check("mamba-2", OUTPUT_SCALE, scale)
    gate = needed("mamba-2", "gate", gate, query.shape[:2]).to(state.context.dtype)
    query_wide, key, value = (x.to(state.context.dtype) for x in (query, key, value))
    faded = state.context * torch.exp(gate)[..., None, None]
    output, context = stepped(faded, query_wide, key, value)
    return (output * scale).to(query.dtype), State(context, state.log_decay + gate)


def merge(earlier: State, later: State) -> State:
    """The state after the tokens of one state and then of another: the earlier fades by the later's gates."""
    left = torch.exp(later.log_decay)[..., None, None]
    return State(earlier.context * left + later.context, earlier.log_decay + later.log_decay)


def _block(scale: float) -> Block:
    return functools.partial(_gated, scale=scale)


def _gated(
    state: Tensor, query: Tensor, key: Tensor, value: Tensor, gate: Tensor, *, scale: float
) -> tuple[Tensor, Tensor]:
    return decayed(state, query * scale, key, value, gate)


def checked(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float, gate: Tensor | None
) -> Tensor:
    """The gate, after all rules have been checked."""
    validate_qkv(query, key, value)
    check("mamba-2", OUTPUT_SCALE, scale)
    validate_causal("mamba-2", causal)
    return needed("mamba-2", "gate", gate, query.shape[:3])
