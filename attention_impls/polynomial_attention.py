"""Attention with polynomial weights, linear in seq_len: all tokens at once, or one at a time.

y_i = sum_j p(q_i.k_j) v_j / (sum_j p(q_i.k_j) + epsilon) = phi(q_i)^T W S, where the last column of
S = sum_j phi(k_j) [v_j, 1]^T gives the denominator. Features are made block by block, and made again for the
backward pass, so that nothing of size seq_len * features ever exists.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from attention_impls.chunks import empty_sums
from attention_impls.nouns import Problem
from attention_impls.polynomial import Polynomial
from attention_impls.polynomial_causal import Causal, causal_forward
from attention_impls.polynomial_full import Full
from attention_impls.polynomial_tiles import with_ones


class State(NamedTuple):
    """Sums over the tokens so far, in float32 (float64 for float64).

    sums: of phi(k) [v, 1]^T, [batch, heads, features, head_dim + 1].
    """

    sums: Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, polynomial: Polynomial, *, causal: bool) -> Tensor:
    """The weighted means of values, [batch, heads, seq_len, head_dim], in the dtype of the value.

    Args:
        query, key: [batch, heads, seq_len, polynomial.width], of any dtype.
        value: [batch, heads, seq_len, head_dim].
        polynomial: of the weights.
        causal: position i sees positions j <= i only.

    Complexity: O(features * head_dim) time per token and head. Memory: beside the tensors the temporaries of
    a block, and the sums, features * (head_dim + 1) a head. Gradients can be taken once, not twice.
    """
    form = Causal if causal else Full
    output: Tensor = form.apply(query, key, value, polynomial)  # type: ignore[no-untyped-call]
    return output


def empty_state(problem: Problem, polynomial: Polynomial) -> State:
    """The empty sums before the first token."""
    shape = (problem.batch, problem.heads, polynomial.count, problem.head_dim + 1)
    return State(empty_sums(problem, *shape))


def attend_onwards(
    query: Tensor, key: Tensor, value: Tensor, state: State | None, polynomial: Polynomial
) -> tuple[Tensor, State]:
    """Many tokens after those of the state: (causal output, sums after the last). Computes no gradients."""
    output, _, sums = causal_forward(query, key, value, polynomial, state.sums if state else None)
    return output, State(sums)


@torch.no_grad()
def attend_once(
    query: Tensor, key: Tensor, value: Tensor, state: State, polynomial: Polynomial
) -> tuple[Tensor, State]:
    """One token: tensors [batch, heads, width] and the sums so far -> (output, new sums). No gradients.

    Complexity: O(features * head_dim) time and state a head, whatever the number of tokens.
    """
    wide = state.sums.dtype
    batch, heads = value.shape[:2]
    both = torch.cat((query, key)).to(wide).reshape(2 * batch * heads, -1, 1)
    q, k = polynomial.features(both).view(2, batch * heads, -1)
    values = with_ones(value.to(wide)).view(batch * heads, 1, -1)
    sums = torch.baddbmm(state.sums.flatten(0, 1), k[:, :, None], values)
    weighted = (polynomial.weigh(q[:, :, None]).mT @ sums).view(batch, heads, -1)
    output = weighted[..., :-1] / (weighted[..., -1:] + polynomial.epsilon)
    return output.to(value.dtype), State(sums.view_as(state.sums))


def merge(earlier: State, later: State) -> State:
    """The sums after the tokens of one state and then of another."""
    return State(earlier.sums + later.sums)
