"""What attentions whose state fades cost at least, what their states hold, and what they take. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from attention_impls.costs.counting import (
    accumulator_size,
    core_bytes,
    operand_bytes,
    step_bytes,
    token_elements,
    with_matmul_gradients,
)
from attention_impls.nouns import Cost, Operand, Problem


def mamba_operands(problem: Problem) -> Mapping[str, Operand]:
    """One log-decay per token and head."""
    return {"gate": Operand(_per_token(problem), learned=False, squash="logsigmoid")}


def gla_operands(problem: Problem) -> Mapping[str, Operand]:
    """One log-decay per token, head and channel."""
    shape = (*_per_token(problem), problem.head_dim)
    return {"gate": Operand(shape, learned=False, squash="logsigmoid")}


def gated_delta_operands(problem: Problem) -> Mapping[str, Operand]:
    """One log-decay, and one strength of writing, per token and head."""
    beta = Operand(_per_token(problem), learned=False, squash="sigmoid")
    return {**mamba_operands(problem), "beta": beta}


def retention_cost(problem: Problem) -> Cost:
    """Counts the two matrix products (4 head_dim per element), not causal those of both sweeps; their
    gradients cost twice as much. The decays are left out."""
    products = (4 if problem.causal else 8) * problem.head_dim
    return Cost(with_matmul_gradients(problem, products * problem.elements), core_bytes(problem))


def mamba_cost(problem: Problem) -> Cost:
    """Counts the two matrix products (4 head_dim per element); their gradients cost twice as much.

    The decays, a few operations per element, are left out. Gates are read like tensors.
    """
    return _products(problem, 4, mamba_operands(problem))


def gla_cost(problem: Problem) -> Cost:
    """As ``mamba_cost``; the gates are as many as the keys."""
    return _products(problem, 4, gla_operands(problem))


def gated_delta_cost(problem: Problem) -> Cost:
    """Counts three matrix products (6 head_dim per element): what the key held before is read as well."""
    return _products(problem, 6, gated_delta_operands(problem))


def retention_decode_cost(problem: Problem) -> Cost:
    """Counts the two products of a token (4 head_dim per element) and the fading of its state (head_dim)."""
    return _step(problem, 5, {}, retention_state_bytes(problem))


def mamba_decode_cost(problem: Problem) -> Cost:
    """As ``retention_decode_cost``; the token's gate is read."""
    return _step(problem, 5, mamba_operands(problem), mamba_state_bytes(problem))


def gla_decode_cost(problem: Problem) -> Cost:
    """As ``mamba_decode_cost``."""
    return _step(problem, 5, gla_operands(problem), gla_state_bytes(problem))


def gated_delta_decode_cost(problem: Problem) -> Cost:
    """Counts the three products of a token (6 head_dim per element) and the fading of its state (head_dim)."""
    return _step(problem, 7, gated_delta_operands(problem), gated_delta_state_bytes(problem))


def retention_state_bytes(problem: Problem) -> int:
    """Key-value sums of every head."""
    return problem.batch * problem.dim * problem.head_dim * accumulator_size(problem)


def mamba_state_bytes(problem: Problem) -> int:
    """Key-value sums of every head, and its summed gates."""
    return retention_state_bytes(problem) + problem.batch * problem.heads * accumulator_size(problem)


def gla_state_bytes(problem: Problem) -> int:
    """Key-value sums of every head, and the summed gates of its channels."""
    return retention_state_bytes(problem) + problem.batch * problem.dim * accumulator_size(problem)


def gated_delta_state_bytes(problem: Problem) -> int:
    """The associations of every head."""
    return retention_state_bytes(problem)


def _per_token(problem: Problem) -> tuple[int, ...]:
    return problem.batch, problem.heads, problem.seq_len


def _products(problem: Problem, per_channel: int, operands: Mapping[str, Operand]) -> Cost:
    flops = with_matmul_gradients(problem, per_channel * problem.head_dim * problem.elements)
    elements = sum(math.prod(operand.shape) for operand in operands.values())
    return Cost(flops, core_bytes(problem) + operand_bytes(problem, elements))


def _step(problem: Problem, per_channel: int, operands: Mapping[str, Operand], state_bytes: int) -> Cost:
    flops = per_channel * problem.head_dim * token_elements(problem)
    of_token = sum(math.prod((*each.shape[:2], *each.shape[3:])) for each in operands.values())
    return Cost(flops, step_bytes(problem, state_bytes) + of_token * problem.element_size)
