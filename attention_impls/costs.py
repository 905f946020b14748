"""What every attention costs at least, side by side: operations, traffic, parameters, state. No torch.

Conventions: a multiply-add counts two operations; exp, division, comparison and sum one each. Traffic
is what a perfect fused kernel moves: every input is read once and every output written once. With
``problem.backward`` a cost holds the forward and the backward pass. A decode cost is that of one step,
whatever seq_len: the state is read once and written once.

Pairs of positions are L^2, and L (L + 1) / 2 when causal: causal halves the quadratic attentions and
leaves the linear ones as they are, for prefix sums cost what sums do (``ea-series`` backward excepted).
"""

from __future__ import annotations

from typing import Literal

from attention_impls.hyperparameters import AXIS, NORMALISATION, ORDER
from attention_impls.spec import Cost, Problem

FORWARD_TENSORS = 4  # query, key and value read, output written
BACKWARD_TENSORS = 7  # query, key, value and the output's gradient read, three gradients written


def softmax_cost(problem: Problem) -> Cost:
    """Counts the two matrix products (4 per pair and channel); their gradients cost twice as much.

    The softmax itself, about 5 operations per pair and head, is left out as is customary.
    """
    return Cost(_with_matmul_gradients(problem, 4 * _pairs(problem) * problem.dim), _core_bytes(problem))


def efficient_cost(problem: Problem) -> Cost:
    """Counts the two matrix products (4 head_dim per element); their gradients cost twice as much.

    The two softmaxes, about 5 operations per element each, are left out. Causal costs the same.
    """
    return Cost(
        _with_matmul_gradients(problem, 4 * problem.head_dim * problem.elements), _core_bytes(problem)
    )


def linear_cost(problem: Problem) -> Cost:
    """Counts the two matrix products (4 head_dim per element); their gradients cost twice as much.

    The feature map and the normaliser, about 6 operations per element, are left out. Causal costs the
    same.
    """
    return efficient_cost(problem)


def element_wise_cost(problem: Problem) -> Cost:
    """Counts 8 operations per pair and channel forward, 13 backward.

    Forward: difference, square, maximum, its subtraction, exp, sum, and the multiply-add with the value.
    Backward: the weight again (5), two multiply-adds into the gradients of value and weight (4), minus
    the row's mean, times the weight, times the difference (3), and one sum into query and key (1).
    """
    per_pair = 21 if problem.backward else 8
    return Cost(per_pair * _pairs(problem) * problem.dim, _core_bytes(problem))


def ea_series_cost(problem: Problem) -> Cost:
    """Counts 9 t + 6 operations per element forward, 21 t + 15 backward (25 t + 20 when causal).

    Forward: u (5 with exp), the two moments of every power (4 t), Horner's rule for both sums (5 t) and
    the division. Backward: Horner with derivatives at the query, adjoint moments, Horner at the key;
    causal runs the in-chunk prefix sums once more.
    """
    order: int = problem.hyperparameters.get("order", ORDER.default)
    per_element = 9 * order + 6
    if problem.backward:
        per_element += 25 * order + 20 if problem.causal else 21 * order + 15
    return Cost(per_element * problem.elements, _core_bytes(problem))


def hadamard_cost(problem: Problem) -> Cost:
    """Counts 8 operations per element forward, 16 backward. Causal costs the same.

    Forward: product, scale, maximum, its subtraction, exp, sum, division, times the value. Backward: the
    weight again (7), the gradients of value, weight (3), score (3), query and key (3).
    """
    per_element = 24 if problem.backward else 8
    return Cost(per_element * problem.elements, _core_bytes(problem))


def efficient_decode_cost(problem: Problem) -> Cost:
    """Counts the two products of a token (4 head_dim per element), and with softmax normalisation the
    rescaling of the key-value sums (head_dim). The softmaxes are left out."""
    per_element = (4 if _is_scaling(problem) else 5) * problem.head_dim
    return Cost(per_element * _token(problem), _step_bytes(problem, efficient_state_bytes(problem)))


def linear_decode_cost(problem: Problem) -> Cost:
    """Counts the two products of a token (4 head_dim per element); feature map and normaliser are left out."""
    flops = 4 * problem.head_dim * _token(problem)
    return Cost(flops, _step_bytes(problem, linear_state_bytes(problem)))


def ea_series_decode_cost(problem: Problem) -> Cost:
    """Counts 11 t + 10 operations per element: those of a position forward (9 t + 6), the difference and
    the exp of the stabiliser (2) and the rescaling of all moments by it (2 t + 2)."""
    order: int = problem.hyperparameters.get("order", ORDER.default)
    flops = (11 * order + 10) * _token(problem)
    return Cost(flops, _step_bytes(problem, ea_series_state_bytes(problem)))


def hadamard_decode_cost(problem: Problem) -> Cost:
    """Counts 11 operations per element: those of a position forward (8), and the difference, exp and
    product that rescale the sum so far; without the three where the softmax runs over channels."""
    per_element = 8 if _is_over_channels(problem) else 11
    return Cost(per_element * _token(problem), _step_bytes(problem, hadamard_state_bytes(problem)))


def projection_cost(problem: Problem, projection: Literal["matrix", "array"]) -> Cost:
    """Counts what the projections of an ``AttentionLayer`` add to its core.

    ``matrix``: four products of [batch * seq_len, dim] by [dim, dim]; their gradients cost twice as
    much. Forward traffic: four weights and the tokens read, three projections written, the core's
    output read, the result written. Backward traffic: the weights read and their gradients written, and
    eight tensors: the gradients of the result, query, key and value, the tokens and the core's output
    read, the gradients of the core's output and of the tokens written.

    ``array``: three element-wise products (3 operations per element; backward 3 products and 2 sums
    into the gradient of the tokens, 3 multiply-adds into those of the weights). Traffic: the tokens
    read, three projections written; backward four tensors read and one written, and the arrays.

    Biases are left out.
    """
    size, weight_size = problem.element_size, 4 * problem.dim**2
    if projection == "matrix":
        flops = _with_matmul_gradients(problem, 8 * problem.elements * problem.dim)
        elements = 6 * problem.elements + weight_size
        if problem.backward:
            elements += 8 * problem.elements + 2 * weight_size
        return Cost(flops, size * elements)
    flops, elements = 3 * problem.elements, 4 * problem.elements + 3 * problem.dim
    if problem.backward:
        flops += 11 * problem.elements
        elements += 5 * problem.elements + 6 * problem.dim
    return Cost(flops, size * elements)


def matrix_params(dim: int, bias: bool) -> int:
    """Parameters of a layer with four matrix projections: 4 dim^2, and 4 dim with bias."""
    return 4 * dim * dim + 4 * dim * bias


def array_params(dim: int, bias: bool) -> int:
    """Parameters of a layer with three array projections and none for the output: 3 dim (+ 3 dim)."""
    return 3 * dim + 3 * dim * bias


def efficient_state_bytes(problem: Problem) -> int:
    """Key-value sums of every head; with softmax normalisation also a sum and a maximum per channel."""
    numbers = problem.batch * problem.dim * (problem.head_dim + (0 if _is_scaling(problem) else 2))
    return numbers * _accumulator_size(problem)


def linear_state_bytes(problem: Problem) -> int:
    """Key-value sums of every head and the sum of the keys' features."""
    return problem.batch * problem.dim * (problem.head_dim + 1) * _accumulator_size(problem)


def ea_series_state_bytes(problem: Problem) -> int:
    """Two moments per power 0..t and channel, and the running stabiliser."""
    order: int = problem.hyperparameters.get("order", ORDER.default)
    return problem.batch * problem.dim * (2 * (order + 1) + 1) * _accumulator_size(problem)


def hadamard_state_bytes(problem: Problem) -> int:
    """Running maximum and sum per channel; nothing when the softmax runs over channels."""
    if _is_over_channels(problem):
        return 0
    return 2 * problem.batch * problem.dim * _accumulator_size(problem)


def _is_scaling(problem: Problem) -> bool:
    return bool(problem.hyperparameters.get("normalisation", NORMALISATION.default) == "scaling")


def _is_over_channels(problem: Problem) -> bool:
    return bool(problem.hyperparameters.get("axis", AXIS.default) == "channels")


def _pairs(problem: Problem) -> int:
    """Pairs of positions that see each other, over the batch."""
    length = problem.seq_len
    return problem.batch * (length * (length + 1) // 2 if problem.causal else length * length)


def _with_matmul_gradients(problem: Problem, forward: int) -> int:
    """A product's two gradients are two products of its size."""
    return 3 * forward if problem.backward else forward


def _core_bytes(problem: Problem) -> int:
    tensors = FORWARD_TENSORS + (BACKWARD_TENSORS if problem.backward else 0)
    return tensors * problem.elements * problem.element_size


def _token(problem: Problem) -> int:
    """Elements of one token's query, over the batch."""
    return problem.batch * problem.dim


def _step_bytes(problem: Problem, state_bytes: int) -> int:
    return FORWARD_TENSORS * _token(problem) * problem.element_size + 2 * state_bytes


def _accumulator_size(problem: Problem) -> int:
    """Sums over positions are float64 for float64, else float32."""
    return 8 if problem.dtype == "float64" else 4
