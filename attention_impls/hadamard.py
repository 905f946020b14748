"""Hadamard attention: OUR INTERPRETATION of the element-wise attention layers of arXiv 2302.05488.

Only the abstract of the paper is public. It says that dot-product attention becomes "element-wise
through the use of arrays multiplications"; the exact layer is not given. What is here is our own
reading of that sentence, labelled as such wherever it is shown. It can reproduce the paper's claim
(far fewer parameters for somewhat less accuracy), never the paper's exact layer.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from attention_impls.chunks import accumulator_dtype, empty_sums
from attention_impls.hyperparameters import AXIS, PRODUCT_SCALE, check
from attention_impls.nouns import Problem
from attention_impls.validate import validate_qkv


class State(NamedTuple):
    """The running softmax denominator exp(top) * total per channel, [batch, heads, head_dim] each.

    Both are empty when the softmax runs over channels: that form has no memory of earlier tokens.
    """

    top: Tensor
    total: Tensor


def eager(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    axis: str = "positions",
    scale: float = 1.0,
) -> Tensor:
    """Hadamard attention: every value times the softmax of its own element-wise product q * k.

    OUR INTERPRETATION of an abstract (see the module's docstring), not the paper's exact layer.

    Formula: y = softmax_axis(scale * q * k) * v, all products element-wise. Value j contributes to
    output j alone; with axis ``positions`` tokens meet only in the softmax denominator. Causal, our
    extension too: the denominator of row i runs over positions j <= i. Computed in float32 for half
    precision.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: position i sees positions j <= i only.
        axis: ``positions`` (softmax over seq_len, per channel) or ``channels`` (over all heads *
            head_dim channels of one position; then causal changes nothing).
        scale: factor of the products q * k.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query. Over n elements the weights are
        about 1 / n, so the output shrinks with the length of the axis.

    Complexity: O(L D) time and memory.

    Raises:
        InvalidArgument: the tensors, the axis or the scale break their rules.

    Paper: Bacochina & de Souza 2023, arXiv 2302.05488 (interpreted).
    """
    _check(query, key, value, axis, scale)
    wide = accumulator_dtype(query.dtype)
    scores = scale * query.to(wide) * key.to(wide)
    if axis == "channels":
        weights = _softmax_over_channels(scores)
    elif causal:
        weights = torch.exp(scores - torch.logcumsumexp(scores, -2))
    else:
        weights = torch.softmax(scores, -2)
    return (weights * value.to(wide)).to(query.dtype)


def oracle(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    axis: str = "positions",
    scale: float = 1.0,
) -> Tensor:
    """The float64 truth: 1 / weight_i is the sum over j of exp(score_j - score_i)."""
    _check(query, key, value, axis, scale)
    scores = scale * query.double() * key.double()
    if axis == "channels":
        inverse = torch.einsum("bgle,bhld->bhld", torch.exp(scores), torch.exp(-scores))
        return value.double() / inverse
    ratios = torch.exp(scores[:, :, None, :, :] - scores[:, :, :, None, :])
    if causal:
        length = scores.shape[-2]
        ratios = ratios * torch.ones(length, length, device=scores.device).tril()[..., None]
    return value.double() / ratios.sum(-2)


def init_state(problem: Problem) -> State:
    """The empty denominator before the first token."""
    stateless = problem.knob(AXIS) == "channels"
    shape = (0,) if stateless else (problem.batch, problem.heads, problem.head_dim)
    zeros = empty_sums(problem, *shape)
    return State(torch.full_like(zeros, -torch.inf), zeros)


def prefill(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: State | None = None,
    *,
    axis: str = "positions",
    scale: float = 1.0,
) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, denominator after the last).

    With a state, the tokens follow those that it stands for. Arguments and errors as ``eager``.
    """
    if axis == "channels":
        output = eager(query, key, value, axis=axis, scale=scale)
        return output, state or State(*query.new_empty(2, 0, dtype=accumulator_dtype(query.dtype)))
    _check(query, key, value, axis, scale)
    wide = accumulator_dtype(query.dtype)
    scores = scale * query.to(wide) * key.to(wide)
    totals, top = torch.logcumsumexp(scores, -2), scores.amax(-2)
    if state:
        earlier = state.top + torch.log(state.total)
        totals, top = torch.logaddexp(totals, earlier[:, :, None]), torch.maximum(top, state.top)
    output = (torch.exp(scores - totals) * value.to(wide)).to(query.dtype)
    return output, State(top, torch.exp(totals[:, :, -1] - top))


def step(
    query: Tensor, key: Tensor, value: Tensor, state: State, *, axis: str = "positions", scale: float = 1.0
) -> tuple[Tensor, State]:
    """One token: tensors [batch, heads, head_dim] and the denominator so far -> (output, new state).

    Complexity: O(D) time and state, whatever the number of tokens.
    """
    wide = accumulator_dtype(query.dtype)
    scores = scale * query.to(wide) * key.to(wide)
    if axis == "channels":
        weights = _softmax_over_channels(scores[:, :, None]).squeeze(2)
    else:
        top = torch.maximum(state.top, scores)
        now = torch.exp(scores - top)
        state = State(top, state.total * torch.exp(state.top - top) + now)
        weights = now / state.total
    return (weights * value.to(wide)).to(query.dtype), state


def merge(earlier: State, later: State) -> State:
    """The denominator after the tokens of one state and then of another, neither empty."""
    top = torch.maximum(earlier.top, later.top)
    before, after = torch.exp(earlier.top - top), torch.exp(later.top - top)
    return State(top, before * earlier.total + after * later.total)


def _softmax_over_channels(scores: Tensor) -> Tensor:
    """Softmax over heads and head_dim together, so that heads only reshape the channels."""
    flat = scores.transpose(1, 2).flatten(2)
    return torch.unflatten(torch.softmax(flat, -1), -1, (scores.shape[1], -1)).transpose(1, 2)


def _check(query: Tensor, key: Tensor, value: Tensor, axis: str, scale: float) -> None:
    validate_qkv(query, key, value)
    check("hadamard", AXIS, axis)
    check("hadamard", PRODUCT_SCALE, scale)
