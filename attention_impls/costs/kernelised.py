"""What attentions that sum keys times values first cost at least, and what their states hold. No torch."""

from __future__ import annotations

from attention_impls.costs.counting import (
    accumulator_size,
    core_bytes,
    step_bytes,
    token_elements,
    with_matmul_gradients,
)
from attention_impls.hyperparameters import NORMALISATION
from attention_impls.nouns import Cost, Problem


def efficient_cost(problem: Problem) -> Cost:
    """Counts the two matrix products (4 head_dim per element); their gradients cost twice as much.

    The two softmaxes, about 5 operations per element each, are left out. Causal costs the same.
    """
    return Cost(with_matmul_gradients(problem, 4 * problem.head_dim * problem.elements), core_bytes(problem))


def linear_cost(problem: Problem) -> Cost:
    """Counts the two matrix products (4 head_dim per element); their gradients cost twice as much.

    The feature map and the normaliser, about 6 operations per element, are left out. Causal costs the
    same.
    """
    return efficient_cost(problem)


def efficient_decode_cost(problem: Problem) -> Cost:
    """Counts the two products of a token (4 head_dim per element), and with softmax normalisation the
    rescaling of the key-value sums (head_dim). The softmaxes are left out."""
    per_element = (4 if _is_scaling(problem) else 5) * problem.head_dim
    return Cost(per_element * token_elements(problem), step_bytes(problem, efficient_state_bytes(problem)))


def linear_decode_cost(problem: Problem) -> Cost:
    """Counts the two products of a token (4 head_dim per element); feature map and normaliser are left out."""
    flops = 4 * problem.head_dim * token_elements(problem)
    return Cost(flops, step_bytes(problem, linear_state_bytes(problem)))


def efficient_state_bytes(problem: Problem) -> int:
    """Key-value sums of every head; with softmax normalisation also a sum and a maximum per channel."""
    numbers = problem.batch * problem.dim * (problem.head_dim + (0 if _is_scaling(problem) else 2))
    return numbers * accumulator_size(problem)


def linear_state_bytes(problem: Problem) -> int:
    """Key-value sums of every head and the sum of the keys' features."""
    return problem.batch * problem.dim * (problem.head_dim + 1) * accumulator_size(problem)


def mean_cost(problem: Problem) -> Cost:
    """Counts one operation per element, its sum, forward and backward; divisions by the count are left out.

    Traffic: the value read and the output written; backward the output's gradient read and the value's written.
    Nobody needs query and key, and their gradients are known. Causal costs the same.
    """
    passes = 1 + problem.backward
    return Cost(passes * problem.elements, 2 * passes * problem.elements * problem.element_size)


def mean_decode_cost(problem: Problem) -> Cost:
    """Counts 2 operations per element: the value added to the sum, and the division. Traffic: the value read, the
    output written, the state read and written."""
    token = token_elements(problem)
    return Cost(2 * token, 2 * token * problem.element_size + 2 * mean_state_bytes(problem))


def mean_state_bytes(problem: Problem) -> int:
    """A sum per channel; the count of tokens is a number of the host."""
    return token_elements(problem) * accumulator_size(problem)


def _is_scaling(problem: Problem) -> bool:
    return bool(problem.knob(NORMALISATION) == "scaling")
