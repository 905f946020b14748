"""What stands around an attention, projections and a transformer block: least cost, parameters, memory. No torch."""

from __future__ import annotations

from attention_impls.costs.counting import with_matmul_gradients
from attention_impls.nouns import Cost, Problem, QkNorm
from attention_impls.spec import AttentionSpec, Backend

EXPANSION = 4
"""Width of a block's hidden layer over dim, as in Vaswani et al. 2017, section 3.3 (2048 over 512)."""

NORM = (6, 12)  # operations per element of a LayerNorm, forward and backward: see block_cost
GELU = (5, 11)  # of the exact GELU
RESIDUAL = (1, 1)  # of a sum with what went around


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

    Biases, gates' squashing, the residual and a qk_norm are left out.
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


def block_cost(spec: AttentionSpec, problem: Problem, expansion: int = EXPANSION) -> Cost:
    """Counts what a ``TransformerBlock`` adds to its core: the projections, and what stands around them.

    MLP: two products by weights [dim, expansion dim], 4 expansion dim^2 operations a token (16 dim^2 with
    expansion 4), the gradients twice as many. The small terms, operations per element: a LayerNorm 6 (mean
    1, difference 1, square and sum 2, scale 1, weight 1) and backward 12 (the normalised input once more 2,
    times the weight 1, two means 3, their difference 4, the weight's gradient 2); a GELU 5 (erf counts one)
    and backward 11, on expansion dim elements a token; a residual sum 1 and 1.

    Traffic, elements of [batch, seq_len, dim]: a norm reads and writes one, a residual reads one (its sum
    is the written output of what it follows), the MLP reads and writes one and its hidden layer, where
    GELU costs nothing, and reads its weights. Backward a norm reads its input, its gradient and the
    residual's and writes one; the MLP reads the gradient of its result, its hidden layer and its input,
    writes and reads the hidden gradient, writes that of its input; weights are read, their gradients written.

    Biases are left out.
    """
    n, hidden, weights = problem.elements, expansion * problem.elements, block_weights(problem, expansion)
    small = [2 * NORM[way] * n + GELU[way] * hidden + 2 * RESIDUAL[way] * n for way in (0, 1)]
    flops = with_matmul_gradients(problem, 4 * hidden * problem.dim) + small[0]
    elements = 8 * n + 2 * hidden + weights
    if problem.backward:
        flops += small[1]
        elements += 11 * n + 3 * hidden + 2 * weights
    return projection_cost(spec, problem) + Cost(flops, problem.element_size * elements)


def block_weights(problem: Problem, expansion: int = EXPANSION, bias: bool = False) -> int:
    """Parameters of a block's MLP and two norms."""
    dim = problem.dim
    return 2 * expansion * dim**2 + 2 * dim + bias * (expansion + 3) * dim


def block_params(
    spec: AttentionSpec,
    problem: Problem,
    expansion: int = EXPANSION,
    bias: bool = False,
    qk_norm: QkNorm = "none",
) -> int:
    """Parameters of a ``TransformerBlock``: of its ``AttentionLayer``, its MLP and its norms."""
    return spec.layer_params(problem, bias, qk_norm) + block_weights(problem, expansion, bias)


def block_workspace(backend: Backend, problem: Problem, expansion: int = EXPANSION) -> int | None:
    """Bytes that a ``TransformerBlock``'s call without gradients holds at its peak above its inputs.

    Either the layer's, with its normalised input, or those of the MLP: its input, the same normalised, and
    the hidden layer before and after GELU. None where the backend has no formula, and with gradients: the
    peak is then in the MLP's backward pass, beside all that the attention keeps for its own, and that share
    of its workspace no formula tells.
    """
    if backend.workspace is None or problem.backward:
        return None
    n = problem.elements * problem.element_size
    return max(backend.workspace(problem, True) + n, (2 + 2 * expansion) * n)
