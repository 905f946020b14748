"""What attentions through latents, resolutions and groups cost at least, and what they learn. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attention_impls.costs.counting import core_bytes, operand_bytes, with_matmul_gradients
from attention_impls.hyperparameters import GROUP, LATENTS, RESOLUTIONS
from attention_impls.nouns import Cost, Operand, Problem


def perceiver_operands(problem: Problem) -> Mapping[str, Operand]:
    """The latents, [heads, latents, head_dim]; none when causal, where the last tokens take their place."""
    if problem.causal:
        return {}
    return {"latent_query": Operand((problem.heads, problem.knob(LATENTS), problem.head_dim))}


def perceiver_cost(problem: Problem) -> Cost:
    """Counts matrix products; their gradients cost twice as much. The softmaxes are left out.

    Full: the scores of the latents (2 latents per element), the pooled keys and values (4), the scores of
    the queries (2) and their outputs (2). Causal: 4 per channel and pair of the rows that have an output.
    """
    latents, length = problem.knob(LATENTS), problem.seq_len
    if problem.causal:
        rows = min(latents, length)
        pairs = rows * length - rows * (rows - 1) // 2
        # Rows without an output need no query; backward no upstream gradient either.
        unread = (3 if problem.backward else 1) * (length - rows) * problem.batch * problem.dim
        flops = with_matmul_gradients(problem, 4 * pairs * problem.batch * problem.dim)
        return Cost(flops, core_bytes(problem) - unread * problem.element_size)
    learned = operand_bytes(problem, latents * problem.dim)
    forward = 10 * latents * problem.elements
    return Cost(with_matmul_gradients(problem, forward), core_bytes(problem) + learned)


def multi_resolution_operands(problem: Problem) -> Mapping[str, Operand]:
    """The router, [heads, head_dim, resolutions], of a spread that gives logits of about unit size."""
    shape = (problem.heads, problem.head_dim, problem.knob(RESOLUTIONS))
    return {"router": Operand(shape, spread=problem.head_dim**-0.5)}


def multi_resolution_cost(problem: Problem) -> Cost:
    """Counts matrix products; their gradients cost twice as much.

    Keys times values of every resolution (2 head_dim per pooled channel), the answer of every resolution
    (2 head_dim per element), and the router (2 per element and resolution). Pooling, feature map, normalisers
    and the softmax over resolutions are left out. Causal costs the same.
    """
    levels = problem.knob(RESOLUTIONS)
    pooled = sum(-(-problem.seq_len // 2**level) for level in range(levels))
    products = 2 * problem.head_dim * problem.batch * problem.dim * (pooled + levels * problem.seq_len)
    forward = products + 2 * levels * problem.elements
    learned = operand_bytes(problem, levels * problem.dim)
    return Cost(with_matmul_gradients(problem, forward), core_bytes(problem) + learned)


def s2_cost(problem: Problem) -> Cost:
    """Counts the two matrix products of every group (4 per pair and channel); their gradients cost twice as
    much. Causal halves them, but for the diagonals. The softmax is left out."""
    group, heads = problem.knob(GROUP), problem.heads
    pairs = (heads - heads // 2) * _pairs(problem, group) + heads // 2 * _pairs(problem, group // 2)
    forward = 4 * problem.batch * pairs * problem.head_dim
    return Cost(with_matmul_gradients(problem, forward), core_bytes(problem))


def _pairs(problem: Problem, first: int) -> int:
    """Pairs of positions that see each other in one head, whose first group has so many positions."""
    return sum(
        count * (size * (size + 1) // 2 if problem.causal else size * size)
        for size, count in _groups(problem.seq_len, first, problem.knob(GROUP))
    )


def _groups(length: int, first: int, group: int) -> Iterable[tuple[int, int]]:
    """Sizes of the groups, and how many there are of each."""
    start = min(first, length)
    return (start, 1), (group, (length - start) // group), ((length - start) % group, 1)
