"""How work is counted: what all cost formulas share. No torch.

Conventions: a multiply-add counts two operations; exp, division, comparison and sum one each. Traffic
is what a perfect fused kernel moves: every input is read once and every output written once. With
``problem.backward`` a cost holds the forward and the backward pass. A decode cost is that of one step: a
state of fixed size is read once and written once, whatever seq_len; a KV cache of seq_len tokens is read
once, and one row is written.

Pairs of positions are L^2, and L (L + 1) / 2 when causal: causal halves the quadratic attentions and
leaves the linear ones as they are, for prefix sums cost what sums do (``ea-series`` backward excepted).
"""

from __future__ import annotations

from attention_impls.nouns import Problem

FORWARD_TENSORS = 4  # query, key and value read, output written
BACKWARD_TENSORS = 7  # query, key, value and the output's gradient read, three gradients written


def pairs(problem: Problem) -> int:
    """Pairs of positions that see each other, over the batch."""
    length = problem.seq_len
    return problem.batch * (length * (length + 1) // 2 if problem.causal else length * length)


def with_matmul_gradients(problem: Problem, forward: int) -> int:
    """A product's two gradients are two products of its size."""
    return 3 * forward if problem.backward else forward


def core_bytes(problem: Problem) -> int:
    """Traffic of query, key, value and output, and with ``problem.backward`` of their gradients."""
    tensors = FORWARD_TENSORS + (BACKWARD_TENSORS if problem.backward else 0)
    return tensors * problem.elements * problem.element_size


def token_elements(problem: Problem) -> int:
    """Elements of one token's query, over the batch."""
    return problem.batch * problem.dim


def operand_bytes(problem: Problem, elements: int) -> int:
    """Traffic of what an op takes beside query, key and value: read, and backward read and its gradient written."""
    return (3 if problem.backward else 1) * elements * problem.element_size


def step_bytes(problem: Problem, state_bytes: int) -> int:
    """Traffic of one step: the token's query, key, value and output, the state read and written."""
    return FORWARD_TENSORS * token_elements(problem) * problem.element_size + 2 * state_bytes


def cache_bytes(problem: Problem) -> int:
    """Keys and values of seq_len tokens, in their own dtype; without spare rows."""
    return 2 * problem.elements * problem.element_size


def cached_step_bytes(problem: Problem) -> int:
    """Traffic of one step: the token's query, key, value and output, the cache read, its key and value written."""
    token = token_elements(problem) * problem.element_size
    return FORWARD_TENSORS * token + cache_bytes(problem) + 2 * token


def accumulator_size(problem: Problem) -> int:
    """Sums over positions are float64 for float64, else float32."""
    return 8 if problem.dtype == "float64" else 4
