"""AFT-simple: an attention-free transformer whose keys weigh values by their own size alone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls.blocks import (
    block_rows,
    blocks,
    chunk_rows,
    grouped,
    read,
    read_chunks,
    remaining_sums,
    running_sums,
    split,
    ungrouped,
    whole_chunks,
    write,
)
from attention_impls.chunks import accumulator_dtype, empty_sums, plan_chunks
from attention_impls.nouns import Problem
from attention_impls.validate import validate_qkv

Sums = tuple[Tensor, Tensor]  # weighted values and weights, or their gradients, [batch * heads, 1, head_dim]


class State(NamedTuple):
    """The tokens so far, [batch, heads, head_dim] each, in float32 (float64 for float64).

    top: running maximum of k; total: sum of exp(k - top); weighted: sum of exp(k - top) v.
    """

    top: Tensor
    total: Tensor
    weighted: Tensor


def eager(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """AFT-simple: a gate times a mean of values, weighted per channel by exp(k), in time linear in seq_len.

    Formula: y_i = sigmoid(q_i) * sum_j exp(k_j) v_j / sum_j exp(k_j), per channel, over j <= i when causal.
    Weights are relative to the (running) maximum of k, so keys of any size neither overflow nor vanish.
    Half precision is computed in float32.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim]; heads only reshape the channels.
        causal: position i sees positions j <= i only.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L D) time and memory: beside the output, and the gradients, the temporaries of a block of
    at most ``blocks.BLOCK_ELEMENTS``. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: the tensors break their rules.

    Paper: Zhai et al. 2021, arXiv 2105.14103.
    """
    validate_qkv(query, key, value)
    form = _Causal if causal else _Full
    output: Tensor = form.apply(query, key, value)  # type: ignore[no-untyped-call]
    return output


def oracle(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """The float64 truth: the weights of every row and channel, a softmax over the positions that it sees."""
    validate_qkv(query, key, value)
    length = query.shape[-2]
    bias = torch.zeros(length, length, dtype=torch.float64, device=query.device)
    return gated_means(query, key, value, bias, causal=causal)


def gated_means(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, *, causal: bool) -> Tensor:
    """AFT in float64 with all [seq_len, seq_len, head_dim] weights: softmax over j of k_j + bias_ij."""
    scores = key.double()[:, :, None] + bias.double()[..., None]
    if causal:
        future = torch.ones(bias.shape, dtype=torch.bool, device=bias.device).triu(1)
        scores = scores.masked_fill(future[..., None], -math.inf)
    means = torch.einsum("bhijd,bhjd->bhid", torch.softmax(scores, 3), value.double())
    return means / (1 + torch.exp(-query.double()))


def init_state(problem: Problem) -> State:
    """The empty sums before the first token."""
    shape = (problem.batch, problem.heads, problem.head_dim)
    zeros = empty_sums(problem, *shape)
    return State(torch.full_like(zeros, -math.inf), zeros, zeros.clone())


def prefill(query: Tensor, key: Tensor, value: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, sums after the last).

    With a state, the tokens follow those that it stands for. Errors as ``eager``. Computes no gradients.
    """
    validate_qkv(query, key, value)
    before, carried = None, _no_sums(query)
    if state:
        before, total, weighted = (grouped(x[:, :, None]) for x in state)
        carried = weighted, total
    plan = _plan(key, before)
    output, (weighted, total), _ = _causal_forward(query, key, value, plan, carried, keep=False)
    parts = (ungrouped(x, len(query)).squeeze(2).clone() for x in (plan[-1].top, total, weighted))
    return output, State(*parts)


def step(query: Tensor, key: Tensor, value: Tensor, state: State) -> tuple[Tensor, State]:
    """One token: tensors [batch, heads, head_dim] and the sums so far -> (output, new sums).

    Complexity: O(D) time and state, whatever the number of tokens.
    """
    wide = state.top.dtype
    key_row = key.to(wide)
    top = torch.maximum(state.top, key_row)
    decay, weight = torch.exp(state.top - top), torch.exp(key_row - top)
    total = decay * state.total + weight
    weighted = decay * state.weighted + weight * value.to(wide)
    return (torch.sigmoid(query.to(wide)) * weighted / total).to(query.dtype), State(top, total, weighted)


def merge(earlier: State, later: State) -> State:
    """The sums after the tokens of one state and then of another, neither empty."""
    top = torch.maximum(earlier.top, later.top)
    before, after = torch.exp(earlier.top - top), torch.exp(later.top - top)
    total = before * earlier.total + after * later.total
    return State(top, total, before * earlier.weighted + after * later.weighted)


class _Full(torch.autograd.Function):
    """The mean over all positions, then every gate times it, a block at a time."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        weighted, total = _no_sums(query)
        top = grouped(key.amax(-2, keepdim=True).to(total.dtype))
        for rows in blocks(query):
            weights = (read(key, rows) - top).exp_()
            total += weights.sum(-2, keepdim=True)
            weighted += weights.mul_(read(value, rows)).sum(-2, keepdim=True)
        mean = weighted / total
        output = torch.empty_like(query)
        for rows in blocks(query):
            write(output, rows, torch.sigmoid(read(query, rows)).mul_(mean))
        ctx.save_for_backward(query, key, value, mean, total, top)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """With s_i the gate, m the mean, p_j the normalised weight and M = sum_i g_i s_i:
        dq_i = g_i m s_i (1 - s_i), dv_j = p_j M, dk_j = p_j M (v_j - m)."""
        query, key, value, mean, total, top = ctx.saved_tensors
        grad_query, grad_key, grad_value = (torch.empty_like(x) for x in (query, key, value))
        grad_mean = torch.zeros_like(mean)
        for rows in blocks(query):
            gates = torch.sigmoid(read(query, rows))
            passed = gates * read(upstream, rows)
            grad_mean += passed.sum(-2, keepdim=True)
            write(grad_query, rows, _through_gate(gates, passed, mean))
        grad_mean /= total
        for rows in blocks(query):
            of_value = (read(key, rows) - top).exp_().mul_(grad_mean)
            write(grad_value, rows, of_value)
            write(grad_key, rows, (read(value, rows) - mean).mul_(of_value))
        return grad_query, grad_key, grad_value


class _Causal(torch.autograd.Function):
    """The same with the mean of each row's past: sums in chunks, weights relative to the block's top."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        plan, keep = _plan(key), any(ctx.needs_input_grad)
        output, _, kept = _causal_forward(query, key, value, plan, _no_sums(query), keep=keep)
        ctx.plan = plan
        ctx.save_for_backward(query, key, value, *kept)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, ...]:
        """With weights w_j, totals n_i, means m_i and h_i = g_i s_i / n_i: A_j = sum_{i >= j} h_i,
        B_j = sum_{i >= j} h_i m_i, dv_j = w_j A_j, dk_j = w_j (v_j A_j - B_j)."""
        query, key, value, *kept = ctx.saved_tensors
        grad_query, grad_key, grad_value = (torch.empty_like(x) for x in (query, key, value))
        behind = _no_sums(query)
        for piece in reversed(ctx.plan):
            rows, total = piece.rows, kept.pop()
            weights, values, (means, totals), _ = _block(key, value, piece, (kept.pop(), total))
            gates = torch.sigmoid(read_chunks(query, rows))
            passed = gates * read_chunks(upstream, rows)
            write(grad_query, rows, _through_gate(gates, passed, means))
            ahead = passed.div_(totals)
            of_weighted, behind_weighted = remaining_sums(ahead, behind[0])
            of_total, behind_total = remaining_sums(ahead.mul_(means), behind[1])
            behind = behind_weighted * piece.decay, behind_total * piece.decay
            write(grad_key, rows, (values * of_weighted).sub_(of_total).mul_(weights))
            write(grad_value, rows, of_weighted.mul_(weights))
        return grad_query, grad_key, grad_value


@torch.no_grad()
def _causal_forward(
    query: Tensor, key: Tensor, value: Tensor, plan: list[_Piece], carried: Sums, *, keep: bool
) -> tuple[Tensor, Sums, list[Tensor]]:
    """The output, the sums at the end, and with ``keep`` those before every block, from those carried in."""
    output = torch.empty_like(query)
    kept: list[Tensor] = []
    for piece in plan:
        carried = carried[0] * piece.decay, carried[1] * piece.decay
        kept += carried if keep else ()
        _, _, (means, _), carried = _block(key, value, piece, carried)
        write(output, piece.rows, means.mul_(torch.sigmoid(read_chunks(query, piece.rows))))
    return output, carried, kept


def _block(
    key: Tensor, value: Tensor, piece: _Piece, carried: Sums
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], Sums]:
    """In chunks: weights, values, and means and totals of every row; and the sums at the block's end."""
    chunk = chunk_rows(key)
    weights = split((read(key, piece.rows) - piece.top).exp_(), chunk)
    values = read_chunks(value, piece.rows)
    weighted, last_weighted = running_sums(weights * values, carried[0])
    totals, last_total = running_sums(weights, carried[1])
    return weights, values, (weighted.div_(totals), totals), (last_weighted, last_total)


def _through_gate(gates: Tensor, passed: Tensor, means: Tensor) -> Tensor:
    """The gradient of a gate's input, g m s (1 - s), from s and g s."""
    return (1 - gates).mul_(passed).mul_(means)


class _Piece(NamedTuple):
    """Positions of a causal block, and the running maximum of k at its end, [batch * heads, 1, head_dim].

    decay: what the sums carried from before are multiplied by, of the same shape.
    """

    rows: slice
    top: Tensor
    decay: Tensor


def _plan(key: Tensor, before: Tensor | None = None) -> list[_Piece]:
    """Causal blocks, cut where a channel's maximum rises steeply; ``before`` is that of earlier rows."""
    wide = accumulator_dtype(key.dtype)
    earlier = None if before is None else ungrouped(before, len(key))
    sizes, tops = plan_chunks(key, block_rows(key, causal=True), lambda block: block, earlier)
    pieces, start = [], 0
    old_top = grouped(tops[0].to(wide)) if before is None else before
    for size, narrow in zip(sizes, tops, strict=True):
        top = grouped(narrow.to(wide))
        for rows in whole_chunks(slice(start, start + size), chunk_rows(key)):
            pieces.append(_Piece(rows, top, torch.exp(old_top - top)))
            old_top = top
        start += size
    return pieces


def _no_sums(query: Tensor) -> Sums:
    """Zeros for the sums over positions, [batch * heads, 1, head_dim] each."""
    batch, heads, _, head_dim = query.shape
    zeros = query.new_zeros(batch * heads, 1, head_dim, dtype=accumulator_dtype(query.dtype))
    return zeros, zeros.clone()
