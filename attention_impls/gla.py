"""Gated linear attention: every channel of the state forgets as much as each token says."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_impls import blocks
from attention_impls.blocks import grouped, ungrouped
from attention_impls.chunks import empty_sums
from attention_impls.decay import chunked, fading_between, needed, stepped
from attention_impls.hyperparameters import DOT_SCALE, check, dot_scale
from attention_impls.nouns import Problem
from attention_impls.sweeps import Block, empty_state, sweep_on, swept
from attention_impls.validate import validate_causal, validate_qkv

LEAF_ROWS = 4  # of a chunk's halves of halves: so few that their weights are written out per channel

CHUNKS_AT_ONCE = 16  # whose states one product finds: its weights, per channel, grow with their square


class State(NamedTuple):
    """What is left of the tokens so far, in float32 (float64 for float64).

    context: sum of k v^T, each faded by the gates after it, [batch, heads, head_dim, head_dim].
    log_decay: sum of all gates, [batch, heads, head_dim]; by it an earlier state fades when two are merged.
    """

    context: Tensor
    log_decay: Tensor


def eager(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    gate: Tensor | None = None,
) -> Tensor:
    """Gated linear attention, causal only, in time linear in seq_len.

    Formula: S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T, y_t = scale * q_t^T S_t. Within a chunk, queries of its
    second half meet keys of its first relative to the gates summed up to its middle, and so on with halves of
    halves: no exponent is above 0, so nothing overflows however strong the gates. Half precision is computed
    in float32. This is the core alone: no output gate and no norm, and in a layer a gate projection of
    full rank, without the paper's low rank of 16 and its division of the log-gates by 16.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: it must be True: the recurrence has no form that sees later tokens.
        scale: factor of the dot products; None is 1 / sqrt(head_dim).
        gate: log-decay of every token and channel of the key, finite, 0 or less,
            [batch, heads, seq_len, head_dim].

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L D^2 / H) time, O(L D) memory: beside output and gradients, a state of each block and
    the temporaries of one. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: the tensors, the gate or the scale break their rules, or it is not causal.

    Paper: Yang et al. 2023, arXiv 2312.06635.
    """
    gate = checked(query, key, value, causal, scale, gate)
    return swept(_block(query, scale), query, key, value, gate)


def oracle(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    gate: Tensor | None = None,
) -> Tensor:
    """The float64 truth: the recurrence, one token after the other."""
    gate = checked(query, key, value, causal, scale, gate).double()
    query, key, value = query.double() * dot_scale(query.shape[-1], scale), key.double(), value.double()
    state, outputs = key.new_zeros(*key.shape[:2], key.shape[3], key.shape[3]), []
    for position in range(query.shape[2]):
        brought = torch.einsum("bhk,bhv->bhkv", key[:, :, position], value[:, :, position])
        state = torch.exp(gate[:, :, position, :, None]) * state + brought
        outputs.append(torch.einsum("bhk,bhkv->bhv", query[:, :, position], state))
    return torch.stack(outputs, 2)


def init_state(problem: Problem) -> State:
    """The empty sum before the first token."""
    shape = (problem.batch, problem.heads, problem.head_dim, problem.head_dim)
    zeros = empty_sums(problem, *shape)
    return State(zeros, zeros[..., 0].clone())


def prefill(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: State | None = None,
    *,
    scale: float | None = None,
    gate: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, state after the last).

    With a state, the tokens follow those that it stands for. Errors as ``eager``. Computes no gradients.
    """
    gate = checked(query, key, value, True, scale, gate)
    context = grouped(state.context) if state else empty_state(query)
    output, after = sweep_on(_block(query, scale), context, query, key, value, gate)
    decay = gate.to(after.dtype).sum(2)
    return output, State(ungrouped(after, len(query)), state.log_decay + decay if state else decay)


def step(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: State,
    *,
    scale: float | None = None,
    gate: Tensor | None = None,
) -> tuple[Tensor, State]:
    """One token: tensors and its gate [batch, heads, head_dim], and a state -> (output, new state).

    Complexity: O(D^2 / H) time and state, whatever the number of tokens.
    """
    check("gla", DOT_SCALE, scale)
    gate = needed("gla", "gate", gate, query.shape).to(state.context.dtype)
    query_wide, key, value = (x.to(state.context.dtype) for x in (query, key, value))
    faded = state.context * torch.exp(gate)[..., None]
    output, context = stepped(faded, query_wide, key, value)
    return (output * dot_scale(query.shape[-1], scale)).to(query.dtype), State(
        context, state.log_decay + gate
    )


def merge(earlier: State, later: State) -> State:
    """The state after the tokens of one state and then of another: the earlier fades by the later's gates."""
    left = torch.exp(later.log_decay)[..., None]
    return State(earlier.context * left + later.context, earlier.log_decay + later.log_decay)


def _block(query: Tensor, scale: float | None) -> Block:
    return functools.partial(_gated, weight=dot_scale(query.shape[-1], scale))


def _gated(
    state: Tensor, query: Tensor, key: Tensor, value: Tensor, gate: Tensor, *, weight: float
) -> tuple[Tensor, Tensor]:
    """A block: its outputs, and the state after it. Rows are added that bring nothing and fade nothing."""
    rows = query.shape[1]
    chunk = _chunk_rows(rows)
    padded = (F.pad(x, (0, 0, 0, -rows % chunk)) for x in (query * weight, key, value, gate))
    query, key, value, gate = (chunked(x, chunk) for x in padded)
    total = gate.cumsum(-2)
    end = total[..., -1:, :]
    sums = (key * torch.exp(end - total)).mT @ value
    before, after = _states_between(sums, end[..., 0, :], state)
    output = _inside(query, key, value, total) + (query * torch.exp(total)) @ before
    return output.flatten(1, 2)[:, :rows], after


def _chunk_rows(rows: int) -> int:
    """Rows of a chunk: a power of two of leaves, as many as a short block needs."""
    leaves = -(-min(rows, blocks.MIN_CHUNK_ROWS) // LEAF_ROWS)
    return LEAF_ROWS << (leaves - 1).bit_length()


def _inside(query: Tensor, key: Tensor, value: Tensor, total: Tensor) -> Tensor:
    """What the rows of a chunk bring each other, by halves; total: the gates summed, like them [..., rows, d]."""
    if query.shape[-2] <= LEAF_ROWS:
        return _leaf(query, key, value, total)
    query, key, value, total = (torch.unflatten(x, -2, (2, -1)) for x in (query, key, value, total))
    (early, late), middle = total.unbind(-3), total[..., 0, -1:, :]
    scores = (query[..., 1, :, :] * torch.exp(late - middle)) @ (
        key[..., 0, :, :] * torch.exp(middle - early)
    ).mT
    first, second = _inside(query, key, value, total).unbind(-3)
    return torch.cat((first, second + scores @ value[..., 0, :, :]), -2)


def _leaf(query: Tensor, key: Tensor, value: Tensor, total: Tensor) -> Tensor:
    """The same with every weight of every channel written out."""
    rows = query.shape[-2]
    later = torch.ones(rows, rows, dtype=torch.bool, device=query.device).triu_(1)[..., None]
    difference = total[..., :, None, :] - total[..., None, :, :]
    # Filled before exp: above the diagonal the difference is positive and may overflow.
    weighed = torch.exp(difference.masked_fill(later, -math.inf)) * key[..., None, :, :]
    return (weighed @ query[..., :, :, None]).squeeze(-1) @ value


def _states_between(sums: Tensor, ends: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The state before every chunk, and the one after the last.

    Args:
        sums: what each chunk adds to the state after it, [groups, chunks, head_dim, head_dim].
        ends: the gates of each chunk summed, [groups, chunks, head_dim].
        state: before the first chunk, [groups, head_dim, head_dim].
    """
    found = []
    parts = zip(torch.split(sums, CHUNKS_AT_ONCE, 1), torch.split(ends, CHUNKS_AT_ONCE, 1), strict=True)
    for part, part_ends in parts:
        reached, weights = fading_between(part_ends.mT)
        running = reached[..., None] * state[:, :, None] + weights @ part.transpose(1, 2)
        found.append(running[:, :, :-1].transpose(1, 2))
        state = running[:, :, -1].clone()
    return torch.cat(found, 1), state


def checked(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float | None, gate: Tensor | None
) -> Tensor:
    """The gate, after all rules have been checked."""
    validate_qkv(query, key, value)
    check("gla", DOT_SCALE, scale)
    validate_causal("gla", causal)
    return needed("gla", "gate", gate, query.shape)
