"""The mean of all values: what is left of attention when nothing is attended to, the floor of all others."""

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
    read_chunks,
    remaining_sums,
    running_sums,
    tokens_seen,
    ungrouped,
    write,
)
from attention_impls.chunks import accumulator_dtype, empty_sums
from attention_impls.nouns import Problem
from attention_impls.validate import validate_qkv


class State(NamedTuple):
    """The tokens so far.

    total: sum of their values, [batch, heads, head_dim], in float32 (float64 for float64).
    tokens: how many there are.
    """

    total: Tensor
    tokens: int


def eager(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """Mean attention: every position gets the mean of all values, whatever its query and the keys are.

    Formula: y_i = (1 / L) sum_j v_j; causal y_i = (1 / i) sum_{j <= i} v_j. It is any attention whose scores
    are all alike. What a network with it learns, it learns without attending: a floor for all others. Sums are
    in float32 for half precision.

    Args:
        query, key: [batch, heads, seq_len, head_dim]; checked, and not read. Their gradients are zero.
        value: of the same shape; heads only reshape the channels.
        causal: position i sees positions j <= i only.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L D) time and memory: beside the output, and the value's gradient, if causal the temporaries of a
    block of at most ``blocks.BLOCK_ELEMENTS``. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: the tensors break their rules.

    Paper: Zhang et al. 2018, *Accelerating Neural Transformer via an Average Attention Network*, arXiv
    1805.00631, equation 1, for the causal form; its feed-forward layer and gate are left out. The full form is
    mean pooling.
    """
    validate_qkv(query, key, value)
    form = _Causal if causal else _Full
    output: Tensor = form.apply(query, key, value)  # type: ignore[no-untyped-call]
    return output


def oracle(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """The float64 truth: softmax attention whose scores are all multiplied by zero."""
    validate_qkv(query, key, value)
    scores = 0.0 * (query.double() @ key.double().mT)
    if causal:
        future = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
    return torch.softmax(scores, -1) @ value.double()


def init_state(problem: Problem) -> State:
    """The empty sum before the first token."""
    return State(empty_sums(problem, problem.batch, problem.heads, problem.head_dim), 0)


def prefill(query: Tensor, key: Tensor, value: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, state after the last).

    With a state, the tokens follow those that it stands for. Errors as ``eager``. Computes no gradients.
    """
    validate_qkv(query, key, value)
    tokens = state.tokens if state else 0
    carried = grouped(state.total[:, :, None]) if state else no_sum(value)
    output, total = _causal_forward(value, carried, tokens)
    return output, State(ungrouped(total, len(value)).squeeze(2).clone(), tokens + value.shape[-2])


def step(query: Tensor, key: Tensor, value: Tensor, state: State) -> tuple[Tensor, State]:
    """One token: tensors [batch, heads, head_dim] and the state so far -> (output, new state).

    Complexity: O(D) time and state, whatever the number of tokens.
    """
    new = State(state.total + value, state.tokens + 1)
    return (new.total / new.tokens).to(value.dtype), new


def merge(earlier: State, later: State) -> State:
    """The state after the tokens of one and then of another."""
    return State(earlier.total + later.total, earlier.tokens + later.tokens)


class _Full(torch.autograd.Function):
    """The mean over all positions, at every position. Nothing waits for the backward pass."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return _mean_everywhere(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dv_j = (1 / L) sum_i g_i: the matrix of the means is symmetric."""
        nothing = _zeros_like(upstream)
        return nothing, nothing, _mean_everywhere(upstream)


class _Causal(torch.autograd.Function):
    """The mean of each row's past. Nothing waits for the backward pass."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return _causal_forward(value, no_sum(value), 0)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dv_j = sum_{i >= j} g_i / i."""
        grad_value, behind = torch.empty_like(upstream), no_sum(upstream)
        for rows in reversed(causal_blocks(upstream)):
            gradients = read_chunks(upstream, rows)
            shares = gradients / tokens_seen(gradients, rows, 0, len(behind))
            shares, behind = remaining_sums(shares, behind)
            write(grad_value, rows, shares)
        nothing = _zeros_like(upstream)
        return nothing, nothing, grad_value


def _mean_everywhere(x: Tensor) -> Tensor:
    """The mean over positions of [batch, heads, seq_len, head_dim] at every position."""
    wide = accumulator_dtype(x.dtype)
    # Block by block, for a sum of half precision first makes a wide copy of all that it sums.
    total = torch.stack([x[:, :, rows].sum(-2, dtype=wide) for rows in blocks(x)]).sum(0)
    return torch.empty_like(x).copy_((total / x.shape[-2])[:, :, None])


def _zeros_like(x: Tensor) -> Tensor:
    """Zeros of that shape that hold one number."""
    return x.new_zeros(()).expand(x.shape)


@torch.no_grad()
def _causal_forward(value: Tensor, carried: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """The output and the sum at the end, from the one carried in, of so many tokens."""
    output = torch.empty_like(value)
    for rows in causal_blocks(value):
        values = read_chunks(value, rows)
        totals, carried = running_sums(values, carried)
        write(output, rows, totals.div_(tokens_seen(values, rows, tokens, len(carried))))
    return output, carried
