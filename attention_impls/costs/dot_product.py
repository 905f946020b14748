"""What attentions with a softmax over dot products cost at least. No torch."""

from __future__ import annotations

from attention_impls.costs.counting import core_bytes, pairs, with_matmul_gradients
from attention_impls.nouns import Cost, Problem


def softmax_cost(problem: Problem) -> Cost:
    """Counts the two matrix products (4 per pair and channel); their gradients cost twice as much.

    The softmax itself, about 5 operations per pair and head, is left out as is customary.
    """
    return Cost(with_matmul_gradients(problem, 4 * pairs(problem) * problem.dim), core_bytes(problem))
