"""Poly-NL: every value times the mean of all element-wise products of query and key."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls.blocks import (
    blocks,
    causal_blocks,
    grouped,
    no_sum,
    read,
    read_chunks,
    remaining_sums,
    running_sums,
    tokens_seen,
    ungrouped,
    write,
)
from attention_impls.chunks import empty_sums
from attention_impls.nouns import Problem
from attention_impls.validate import validate_qkv


class State(NamedTuple):
    """The tokens so far.

    total: sum of q * k, [batch, heads, head_dim], in float32 (float64 for float64).
    tokens: how many there are.
    """

    total: Tensor
    tokens: int


def eager(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """Poly-NL: a polynomial of degree three in place of pairwise similarities, linear in seq_len.

    Formula: y_i = (1 / L) sum_j (q_j * k_j) * v_i, all products element-wise. Tokens meet only in the mean,
    and value j contributes to output j alone. Causal: OUR EXTENSION, the paper defines none; row i has the
    mean over positions j <= i. Sums and products are in float32 for half precision.

    The output is homogeneous of degree three: y(a q, a k, a v) = a^3 y. So in float16 it overflows once
    the entries are about 40, and its gradients grow with their square.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim]; heads only reshape the channels.
        causal: position i sees positions j <= i only.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L D) time and memory: beside the output, and the gradients, the temporaries of a block of
    at most ``blocks.BLOCK_ELEMENTS``. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: the tensors break their rules.

    Paper: Babiloni et al. 2021, arXiv 2107.02859. In its layer the value is the input itself, and the
    residual alpha * y + beta * x is learned.
    """
    validate_qkv(query, key, value)
    form = _Causal if causal else _Full
    output: Tensor = form.apply(query, key, value)  # type: ignore[no-untyped-call]
    return output


def oracle(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """The float64 truth: the third-order polynomial with its [seq_len, seq_len] matrix of 1 / count."""
    validate_qkv(query, key, value)
    length = query.shape[-2]
    sees = torch.ones(length, length, dtype=torch.float64, device=query.device)
    sees = sees.tril() if causal else sees
    shares = sees / sees.sum(-1, keepdim=True)
    return torch.einsum("ij,bhjd,bhjd,bhid->bhid", shares, query.double(), key.double(), value.double())


def init_state(problem: Problem) -> State:
    """The empty sum before the first token."""
    shape = (problem.batch, problem.heads, problem.head_dim)
    return State(empty_sums(problem, *shape), 0)


def prefill(query: Tensor, key: Tensor, value: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, state after the last).

    With a state, the tokens follow those that it stands for. Errors as ``eager``. Computes no gradients.
    """
    validate_qkv(query, key, value)
    tokens = state.tokens if state else 0
    carried = grouped(state.total[:, :, None]) if state else no_sum(query)
    output, total, _ = _causal_forward(query, key, value, carried, tokens, keep=False)
    return output, State(ungrouped(total, len(query)).squeeze(2).clone(), tokens + query.shape[-2])


def step(query: Tensor, key: Tensor, value: Tensor, state: State) -> tuple[Tensor, State]:
    """One token: tensors [batch, heads, head_dim] and the state so far -> (output, new state).

    Complexity: O(D) time and state, whatever the number of tokens.
    """
    wide = state.total.dtype
    new = State(torch.addcmul(state.total, query.to(wide), key.to(wide)), state.tokens + 1)
    return (new.total / new.tokens * value.to(wide)).to(query.dtype), new


def merge(earlier: State, later: State) -> State:
    """The state after the tokens of one and then of another."""
    return State(earlier.total + later.total, earlier.tokens + later.tokens)


class _Full(torch.autograd.Function):
    """The mean over all positions, then every value times it, a block at a time."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mean = _mean_of_products(query, key)
        output = torch.empty_like(query)
        for rows in blocks(query):
            write(output, rows, read(value, rows) * mean)
        ctx.save_for_backward(query, key, value, mean)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dv_i = g_i * m, and with M = (1 / L) sum_i g_i * v_i: dq_j = k_j * M, dk_j = q_j * M."""
        query, key, value, mean = ctx.saved_tensors
        grad_mean = _mean_of_products(upstream, value)
        grad_query, grad_key, grad_value = (torch.empty_like(x) for x in (query, key, value))
        for rows in blocks(query):
            write(grad_query, rows, read(key, rows) * grad_mean)
            write(grad_key, rows, read(query, rows) * grad_mean)
            write(grad_value, rows, read(upstream, rows) * mean)
        return grad_query, grad_key, grad_value


class _Causal(torch.autograd.Function):
    """The same with the mean of each row's past. Nothing waits but the sums before every block."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keep = any(ctx.needs_input_grad)
        output, _, kept = _causal_forward(query, key, value, no_sum(query), 0, keep=keep)
        ctx.save_for_backward(query, key, value, *kept)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, ...]:
        """As ``_Full``: m_i is the mean over j <= i, and M_j = sum_{i >= j} g_i * v_i / i."""
        query, key, value, *kept = ctx.saved_tensors
        grad_query, grad_key, grad_value = (torch.empty_like(x) for x in (query, key, value))
        behind = no_sum(query)
        for rows in reversed(causal_blocks(query)):
            q, k, v, g = (read_chunks(x, rows) for x in (query, key, value, upstream))
            counts = tokens_seen(q, rows, 0, len(behind))
            totals, _ = running_sums(q * k, kept.pop())
            write(grad_value, rows, totals.div_(counts).mul_(g))
            shares, behind = remaining_sums((g * v).div_(counts), behind)
            write(grad_query, rows, k * shares)
            write(grad_key, rows, q * shares)
        return grad_query, grad_key, grad_value


@torch.no_grad()
def _causal_forward(
    query: Tensor, key: Tensor, value: Tensor, carried: Tensor, tokens: int, *, keep: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The output, the sum at the end, and with ``keep`` those before every block, from the one carried in."""
    output = torch.empty_like(query)
    kept: list[Tensor] = []
    for rows in causal_blocks(query):
        kept += [carried] if keep else []
        q, k, v = (read_chunks(x, rows) for x in (query, key, value))
        counts = tokens_seen(q, rows, tokens, len(carried))
        totals, carried = running_sums(q * k, carried)
        write(output, rows, totals.div_(counts).mul_(v))
    return output, carried, kept


def _mean_of_products(first: Tensor, second: Tensor) -> Tensor:
    """The mean over positions of first * second, [batch * heads, 1, head_dim]."""
    total = no_sum(first)
    for rows in blocks(first):
        total += (read(first, rows) * read(second, rows)).sum(-2, keepdim=True)
    return total / first.shape[-2]
