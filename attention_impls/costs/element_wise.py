"""What attentions made of element-wise products cost at least, and what their states hold. No torch."""

from __future__ import annotations

from attention_impls.costs.counting import (
    accumulator_size,
    cached_step_bytes,
    core_bytes,
    pairs,
    step_bytes,
    token_elements,
)
from attention_impls.hyperparameters import AXIS, ORDER
from attention_impls.nouns import Cost, Problem


def element_wise_cost(problem: Problem) -> Cost:
    """Counts 8 operations per pair and channel forward, 13 backward.

    Forward: difference, square, maximum, its subtraction, exp, sum, and the multiply-add with the value.
    Backward: the weight again (5), two multiply-adds into the gradients of value and weight (4), minus
    the row's mean, times the weight, times the difference (3), and one sum into query and key (1).
    """
    per_pair = 21 if problem.backward else 8
    return Cost(per_pair * pairs(problem) * problem.dim, core_bytes(problem))


def element_wise_decode_cost(problem: Problem) -> Cost:
    """Counts 8 operations per channel for each of seq_len tokens and the token itself."""
    return Cost(8 * (problem.seq_len + 1) * token_elements(problem), cached_step_bytes(problem))


def ea_series_cost(problem: Problem) -> Cost:
    """Counts 9 t + 6 operations per element forward, 21 t + 15 backward (25 t + 20 when causal).

    Forward: u (5 with exp), the two moments of every power (4 t), Horner's rule for both sums (5 t) and
    the division. Backward: Horner with derivatives at the query, adjoint moments, Horner at the key;
    causal runs the in-chunk prefix sums once more.
    """
    order: int = problem.knob(ORDER)
    per_element = 9 * order + 6
    if problem.backward:
        per_element += 25 * order + 20 if problem.causal else 21 * order + 15
    return Cost(per_element * problem.elements, core_bytes(problem))


def hadamard_cost(problem: Problem) -> Cost:
    """Counts 8 operations per element forward, 16 backward. Causal costs the same.

    Forward: product, scale, maximum, its subtraction, exp, sum, division, times the value. Backward: the
    weight again (7), the gradients of value, weight (3), score (3), query and key (3).
    """
    per_element = 24 if problem.backward else 8
    return Cost(per_element * problem.elements, core_bytes(problem))


def ea_series_decode_cost(problem: Problem) -> Cost:
    """Counts 11 t + 10 operations per element: those of a position forward (9 t + 6), the difference and
    the exp of the stabiliser (2) and the rescaling of all moments by it (2 t + 2)."""
    order: int = problem.knob(ORDER)
    flops = (11 * order + 10) * token_elements(problem)
    return Cost(flops, step_bytes(problem, ea_series_state_bytes(problem)))


def hadamard_decode_cost(problem: Problem) -> Cost:
    """Counts 11 operations per element: those of a position forward (8), and the difference, exp and
    product that rescale the sum so far; without the three where the softmax runs over channels."""
    per_element = 8 if _is_over_channels(problem) else 11
    return Cost(per_element * token_elements(problem), step_bytes(problem, hadamard_state_bytes(problem)))


def ea_series_state_bytes(problem: Problem) -> int:
    """Two moments per power 0..t and channel, and the running stabiliser."""
    order: int = problem.knob(ORDER)
    return problem.batch * problem.dim * (2 * (order + 1) + 1) * accumulator_size(problem)


def hadamard_state_bytes(problem: Problem) -> int:
    """Running maximum and sum per channel; nothing when the softmax runs over channels."""
    if _is_over_channels(problem):
        return 0
    return 2 * problem.batch * problem.dim * accumulator_size(problem)


def _is_over_channels(problem: Problem) -> bool:
    return bool(problem.knob(AXIS) == "channels")
