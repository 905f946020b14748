"""What AFT and Poly-NL cost at least, what they take beside query, key and value, and their states. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from attention_impls.costs.counting import (
    accumulator_size,
    core_bytes,
    operand_bytes,
    pairs,
    step_bytes,
    token_elements,
    with_matmul_gradients,
)
from attention_impls.hyperparameters import BIAS_WINDOW
from attention_impls.nouns import Cost, Operand, Problem

BIAS_SPREAD = 0.1  # of a bias before training: weights within about 10 % of one


def aft_simple_cost(problem: Problem) -> Cost:
    """Counts 11 operations per element forward, 13 backward (21 when causal).

    Forward: maximum, its subtraction, exp, sum, multiply-add with the value, division; the gate (exp, sum,
    division) and its product. Backward: weight (2) and gate (3) again, the gradient times the gate (1), the
    gradients of gate (3), mean (1: its sum), value (1) and key (2). Causal every row has a mean of its own:
    made again (two sums, product, division: 4), its division and product, a second sum over positions, and
    one more product into the key.
    """
    backward = 21 if problem.causal else 13
    return Cost((11 + problem.backward * backward) * problem.elements, core_bytes(problem))


def aft_full_cost(problem: Problem) -> Cost:
    """Counts two matrix products, exp(bias) by the weighted values and by the weights (4 per pair and channel);
    their gradients cost twice as much. What is done once per element or per pair is left out."""
    flops = with_matmul_gradients(problem, 4 * pairs(problem) * problem.dim)
    return Cost(flops, core_bytes(problem) + operand_bytes(problem, pairs(problem) // problem.batch))


def aft_local_cost(problem: Problem) -> Cost:
    """Counts the two products with the band (4 per element and position of the band: 2 s - 1, s when causal);
    their gradients cost twice as much. What is done once per element, the sums over all positions among it, is
    left out; the first and last rows count as the others."""
    width = _band_width(problem)
    flops = with_matmul_gradients(problem, 4 * width * problem.elements)
    return Cost(flops, core_bytes(problem) + operand_bytes(problem, width * problem.seq_len))


def poly_nl_cost(problem: Problem) -> Cost:
    """Counts 3 operations per element forward, 5 backward (7 when causal).

    Forward: a multiply-add into the sum, and the product with the value. Backward: a multiply-add into the
    gradient of the mean (2), and the gradients of query, key and value (3); causal makes every row's mean
    again (2). Divisions by the count of positions are left out.
    """
    backward = 7 if problem.causal else 5
    return Cost((3 + problem.backward * backward) * problem.elements, core_bytes(problem))


def aft_simple_decode_cost(problem: Problem) -> Cost:
    """Counts 15 operations per element: maximum, two differences and exps, the two sums rescaled and added to
    (3 and 2 multiply-adds: 5), the division, the gate (3) and its product."""
    flops = 15 * token_elements(problem)
    return Cost(flops, step_bytes(problem, aft_simple_state_bytes(problem)))


def poly_nl_decode_cost(problem: Problem) -> Cost:
    """Counts 4 operations per element: a multiply-add into the sum, the division, the product with the value."""
    return Cost(4 * token_elements(problem), step_bytes(problem, poly_nl_state_bytes(problem)))


def aft_simple_state_bytes(problem: Problem) -> int:
    """Maximum, sum of weights and sum of weighted values per channel."""
    return 3 * problem.batch * problem.dim * accumulator_size(problem)


def poly_nl_state_bytes(problem: Problem) -> int:
    """A sum per channel; the count of tokens is a number of the host."""
    return problem.batch * problem.dim * accumulator_size(problem)


def aft_full_operands(problem: Problem) -> Mapping[str, Operand]:
    """A bias for every pair of positions."""
    length = problem.seq_len
    return {"position_bias": Operand((length, length), spread=BIAS_SPREAD)}


def aft_local_operands(problem: Problem) -> Mapping[str, Operand]:
    """A bias for every pair of positions closer than the window: entry [i, j - i + s - 1]."""
    return {"position_bias": Operand((problem.seq_len, 2 * _window(problem) - 1), spread=BIAS_SPREAD)}


def _window(problem: Problem) -> int:
    window: int = problem.knob(BIAS_WINDOW)
    return window


def _band_width(problem: Problem) -> int:
    return _window(problem) if problem.causal else 2 * _window(problem) - 1
