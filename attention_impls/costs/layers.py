"""What the projections around an attention cost at least, and the parameters that they hold. No torch."""

from __future__ import annotations

from attention_impls.costs.counting import with_matmul_gradients
from attention_impls.nouns import Cost, Problem
from attention_impls.spec import AttentionSpec


def projection_cost(spec: AttentionSpec, problem: Problem) -> Cost:
    """Counts what an ``AttentionLayer`` adds to its core.

    ``matrix``: one product of [batch * seq_len, dim] by a weight per projection; the gradients cost twice
    as much. Forward traffic: the weights and the tokens read, every projection written, and with an output
    projection the core's output read and the result written. Backward traffic: the weights read and their
    gradients written, the gradient of the result and of every projection read, the tokens read and their
    gradient written, and with an output projection the core's output read and its gradient written.

    ``array``: element-wise products (one operation per element and projection; backward one product each,
    the sums into the gradient of the tokens, a multiply-add each into those of the weights). Traffic: the
    tokens read, every projection written; backward their gradients and the tokens read and one tensor
    written, and the arrays.

    Biases, gates' squashing and the residual are left out.
    """
    if spec.projections.kind == "array":
        return _array_cost(problem, len(spec.projections.names))
    tokens, dim = problem.batch * problem.seq_len, problem.dim
    widths = spec.projected_widths(problem)
    inputs = [width for name, width in widths.items() if name != "output"]
    weights = dim * sum(widths.values())
    elements = weights + tokens * (dim + sum(inputs))
    if "output" in widths:
        elements += 2 * tokens * dim
    if problem.backward:
        elements += 2 * weights + tokens * (3 * dim + sum(inputs) + 2 * dim * ("output" in widths))
    flops = with_matmul_gradients(problem, 2 * tokens * weights)
    return Cost(flops, problem.element_size * elements)


def _array_cost(problem: Problem, projections: int) -> Cost:
    flops = projections * problem.elements
    elements = (projections + 1) * problem.elements + projections * problem.dim
    if problem.backward:
        flops += (4 * projections - 1) * problem.elements
        elements += (projections + 2) * problem.elements + 2 * projections * problem.dim
    return Cost(flops, problem.element_size * elements)
