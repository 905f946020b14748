"""What attentions with a softmax over dot products cost at least. No torch."""

from __future__ import annotations

from attention_impls.costs.counting import (
    cached_step_bytes,
    core_bytes,
    pairs,
    token_elements,
    with_matmul_gradients,
)
from attention_impls.nouns import Cost, Problem


def softmax_cost(problem: Problem) -> Cost:
    """Counts the two matrix products (4 per pair and channel); their gradients cost twice as much.

    The softmax itself, about 5 operations per pair and head, is left out as is customary.
    """
    return Cost(with_matmul_gradients(problem, 4 * pairs(problem) * problem.dim), core_bytes(problem))


def softmax_decode_cost(problem: Problem) -> Cost:
    """Counts the two products of a token with seq_len tokens and itself (4 per token and channel)."""
    return Cost(4 * (problem.seq_len + 1) * token_elements(problem), cached_step_bytes(problem))
