"""What attentions whose weights are polynomials of a dot product cost at least, and their states. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from attention_impls.costs.counting import (
    accumulator_size,
    core_bytes,
    operand_bytes,
    pairs,
    token_elements,
    with_matmul_gradients,
)
from attention_impls.hyperparameters import FEATURE_DIM, SERIES_ORDER
from attention_impls.nouns import Cost, Operand, Problem

MAX_FEATURES = 2**17
"""Features of a key: at head_dim 64 the sums of one head then take 34 MB, and a token 34 million operations."""


def packed_features(width: int, order: int) -> int:
    """Monomials of so many channels up to the order."""
    return math.comb(width + order, order)


def too_many_features(width: int, order: int) -> str | None:
    """Why there are too many features, or None when there are not."""
    features = packed_features(width, order)
    if features <= MAX_FEATURES:
        return None
    return (
        f"order {order} at head_dim {width} has {features:,} features per key; "
        f"at most {MAX_FEATURES:,}: take a smaller order or more heads"
    )


def sata_reasons(problem: Problem) -> list[str]:
    """Why ``sata`` cannot run a problem anywhere; empty when it can."""
    reason = too_many_features(problem.head_dim, _order(problem))
    return [reason] if reason else []


def based_key_width(problem: Problem) -> int:
    """Width of a query and a key of ``based``: of narrow heads they are as wide as the head."""
    feature_dim: int = problem.knob(FEATURE_DIM)
    return min(problem.head_dim, feature_dim)


def taylor_shift_operands(problem: Problem) -> Mapping[str, Operand]:
    """A learned temperature of every head, 1 at first."""
    return {"temperature": Operand((problem.heads,), mean=1.0, spread=0.0)}


def choose_taylor_shift(problem: Problem) -> str:
    """``direct`` below the paper's crossover of operations, N0 = head_dim^2 + head_dim + 1."""
    return "direct" if problem.seq_len < outer_features(problem.head_dim) else "efficient"


def outer_features(width: int) -> int:
    """Features [1, x, x (x) x]; as many positions are where the forms of ``taylor-shift`` cost the same."""
    return 1 + width + width**2


def taylor_linear_cost(problem: Problem) -> Cost:
    """Counts the two matrix products (4 head_dim per element); their gradients cost twice as much.

    Normalising and the sums of values and keys, about 12 operations per element, are left out. Causal costs
    the same.
    """
    return Cost(with_matmul_gradients(problem, 4 * problem.head_dim * problem.elements), core_bytes(problem))


def taylor_shift_cost(problem: Problem) -> Cost:
    """Counts 4 d^3 + 10 d^2 + 9 d + 4 operations per token and head, as the paper does, d = head_dim.

    Products of d^2 features by d + 1 columns, twice (4 d^2 (d + 1)), both tensors' features (2 d^2), products
    of d features (4 d (d + 1)), and for the constant feature, sums and division 5 d + 4. The gradients of
    products cost twice as much. Causal costs the same.
    """
    d = problem.head_dim
    forward = (4 * d**3 + 10 * d**2 + 9 * d + 4) * problem.batch * problem.heads * problem.seq_len
    return Cost(with_matmul_gradients(problem, forward), _taylor_shift_bytes(problem))


def taylor_shift_direct_cost(problem: Problem) -> Cost:
    """Counts 4 d + 6 operations per pair and head, as the paper does, d = head_dim: the two matrix products,
    the polynomial (4), its sum and the division. Causal sees half the pairs."""
    forward = (4 * problem.head_dim + 6) * pairs(problem) * problem.heads
    return Cost(with_matmul_gradients(problem, forward), _taylor_shift_bytes(problem))


def sata_cost(problem: Problem) -> Cost:
    """Counts the two products of M features by head_dim + 1 columns, and a product for each feature, of query
    and key: 4 M (head_dim + 1) + 2 M per token and head. Gradients cost twice as much; causal the same."""
    features = packed_features(problem.head_dim, _order(problem))
    return Cost(_packed_flops(problem, features), core_bytes(problem))


def based_cost(problem: Problem) -> Cost:
    """Counts as ``sata_cost``, with the features of the narrow queries and keys."""
    return Cost(_packed_flops(problem, _based_features(problem)), _narrow_bytes(problem))


def taylor_linear_decode_cost(problem: Problem) -> Cost:
    """Counts the two products of a token (4 head_dim per element); the rest is left out."""
    flops = 4 * problem.head_dim * token_elements(problem)
    return Cost(flops, _step_bytes(problem, problem.head_dim, taylor_linear_state_bytes(problem)))


def taylor_shift_decode_cost(problem: Problem) -> Cost:
    """Counts the operations of a token in ``taylor_shift_cost``."""
    d = problem.head_dim
    flops = (4 * d**3 + 10 * d**2 + 9 * d + 4) * problem.batch * problem.heads
    step = _step_bytes(problem, d, taylor_shift_state_bytes(problem))
    return Cost(flops, step)


def sata_decode_cost(problem: Problem) -> Cost:
    """Counts the operations of a token in ``sata_cost``."""
    features = packed_features(problem.head_dim, _order(problem))
    step = _step_bytes(problem, problem.head_dim, sata_state_bytes(problem))
    return Cost(_token_flops(problem, features), step)


def based_decode_cost(problem: Problem) -> Cost:
    """Counts the operations of a token in ``based_cost``."""
    step = _step_bytes(problem, based_key_width(problem), based_state_bytes(problem))
    return Cost(_token_flops(problem, _based_features(problem)), step)


def taylor_linear_state_bytes(problem: Problem) -> int:
    """Sums of 1 + head_dim features times values and 1, of every head."""
    return _state_bytes(problem, 1 + problem.head_dim)


def taylor_shift_state_bytes(problem: Problem) -> int:
    """Sums of 1 + head_dim + head_dim^2 features times values and 1, of every head."""
    return _state_bytes(problem, outer_features(problem.head_dim))


def sata_state_bytes(problem: Problem) -> int:
    """Sums of C(head_dim + order, order) features times values and 1, of every head."""
    return _state_bytes(problem, packed_features(problem.head_dim, _order(problem)))


def based_state_bytes(problem: Problem) -> int:
    """Sums of C(f + 2, 2) features times values and 1, of every head, f = min(head_dim, feature_dim)."""
    return _state_bytes(problem, _based_features(problem))


def _order(problem: Problem) -> int:
    order: int = problem.knob(SERIES_ORDER)
    return order


def _based_features(problem: Problem) -> int:
    return packed_features(based_key_width(problem), 2)


def _token_flops(problem: Problem, features: int) -> int:
    return (4 * features * (problem.head_dim + 1) + 2 * features) * problem.batch * problem.heads


def _packed_flops(problem: Problem, features: int) -> int:
    return with_matmul_gradients(problem, problem.seq_len * _token_flops(problem, features))


def _taylor_shift_bytes(problem: Problem) -> int:
    return core_bytes(problem) + operand_bytes(problem, problem.heads)


def _narrow_bytes(problem: Problem) -> int:
    """Traffic as ``core_bytes``; query and key, read twice and their gradients written, are narrow."""
    rows = problem.batch * problem.heads * problem.seq_len
    missing = rows * (problem.head_dim - based_key_width(problem)) * problem.element_size
    return core_bytes(problem) - (6 if problem.backward else 2) * missing


def _step_bytes(problem: Problem, key_width: int, state_bytes: int) -> int:
    """The token's query, key, value and output, the state read and written."""
    token = 2 * problem.batch * problem.heads * (key_width + problem.head_dim)
    return token * problem.element_size + 2 * state_bytes


def _state_bytes(problem: Problem, features: int) -> int:
    numbers = problem.batch * problem.heads * features * (problem.head_dim + 1)
    return numbers * accumulator_size(problem)
