"""The table of all attentions. To add one: write its family file, add its row here.

No torch at import: the callables are named, and resolved when first used.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from attention_impls import costs, hyperparameters, requirements, workspaces
from attention_impls.spec import (
    Approximation,
    AttentionSpec,
    Backend,
    Hyperparameter,
    Paper,
    Recurrence,
    UnknownAttention,
    nearest,
)


def _knobs(*knobs: Hyperparameter) -> Mapping[str, Hyperparameter]:
    return {knob.name: knob for knob in knobs}


def _recurrence(module: str) -> Recurrence:
    """The recurrent form of a family file, under the names that they all use."""
    return Recurrence(f"{module}:init_state", f"{module}:prefill", f"{module}:step", f"{module}:merge")


ATTENTIONS: Mapping[str, AttentionSpec] = {
    "softmax": AttentionSpec(
        name="softmax",
        summary="dot-product attention, the quadratic baseline",
        paper=Paper("Vaswani et al.", 2017, "Attention Is All You Need", "1706.03762"),
        formula="softmax(scale Q K^T) V",
        time="O(L^2 D)",
        memory="O(L D) fused, O(L^2 H) written out",
        growth="quadratic",
        causal_form="defined",
        backends={
            "sdpa": Backend(
                "attention_impls.softmax:sdpa",
                "the kernel that PyTorch chooses",
                workspace=workspaces.softmax_fused,
            ),
            "flash": Backend(
                "attention_impls.softmax:flash",
                "PyTorch's flash kernel, pinned",
                requirements.flash,
                workspace=workspaces.softmax_fused,
            ),
            "math": Backend(
                "attention_impls.softmax:math_kernel",
                "PyTorch's unfused kernel, pinned",
                workspace=workspaces.softmax_math,
            ),
            "efficient": Backend(
                "attention_impls.softmax:memory_efficient",
                "PyTorch's memory-efficient kernel, pinned",
                requirements.memory_efficient,
                workspace=workspaces.softmax_fused,
            ),
            "cudnn": Backend(
                "attention_impls.softmax:cudnn",
                "the cuDNN kernel, pinned",
                requirements.cudnn,
                workspace=workspaces.softmax_fused,
            ),
            "eager": Backend(
                "attention_impls.softmax:eager",
                "plain PyTorch, written out",
                workspace=workspaces.softmax_eager,
            ),
        },
        oracle_target="attention_impls.softmax:oracle",
        cost=costs.softmax_cost,
        layer_params=costs.matrix_params,
        hyperparameters=_knobs(hyperparameters.DOT_SCALE),
    ),
    "efficient": AttentionSpec(
        name="efficient",
        summary="keys times values first, queries and keys normalised apart",
        paper=Paper(
            "Shen et al.", 2021, "Efficient Attention: Attention with Linear Complexities", "1812.01243"
        ),
        formula="rho_q(Q) (rho_k(K)^T V)",
        time="O(L D^2 / H)",
        memory="O(L D + D^2 / H)",
        growth="linear",
        causal_form="extension",
        backends={
            "eager": Backend(
                "attention_impls.efficient:eager",
                "plain PyTorch",
                workspace=workspaces.efficient,
                recurrence=_recurrence("attention_impls.efficient"),
            )
        },
        oracle_target="attention_impls.efficient:oracle",
        cost=costs.efficient_cost,
        layer_params=costs.matrix_params,
        hyperparameters=_knobs(hyperparameters.NORMALISATION),
        decode_cost=costs.efficient_decode_cost,
        state_bytes=costs.efficient_state_bytes,
        notes="The causal form is our extension: every key channel is normalised over the positions seen.",
    ),
    "element-wise": AttentionSpec(
        name="element-wise",
        summary="exact: per channel, weights by squared Euclidean distance",
        paper=Paper("Feng", 2025, "Element-wise Attention Is All You Need", "2501.05730"),
        formula="sum_j w_ij v_j / sum_j w_ij, w_ij = exp(-s (q_i - k_j)^2) per channel",
        time="O(L^2 D)",
        memory="O(L D)",
        growth="quadratic",
        causal_form="defined",
        # On a CPU eager is 1.4 to 2.6 times as fast as sdpa (float32, L = 256 and 1024). On a GPU, not
        # measured, sdpa should be the faster: its kernel keeps the weights in registers.
        backends={
            "eager": Backend(
                "attention_impls.element_wise:eager",
                "plain PyTorch, blocked over queries",
                workspace=workspaces.element_wise_eager,
            ),
            "sdpa": Backend(
                "attention_impls.element_wise:sdpa",
                "dot products in two dimensions, fused kernel",
                requirements.no_float64_on_gpu,
                workspace=workspaces.element_wise_sdpa,
            ),
        },
        oracle_target="attention_impls.element_wise:oracle",
        cost=costs.element_wise_cost,
        layer_params=costs.matrix_params,
        hyperparameters=_knobs(hyperparameters.DISTANCE_SCALE),
        per_channel=True,
    ),
    "ea-series": AttentionSpec(
        name="ea-series",
        summary="element-wise attention through its Taylor series, linear in length",
        paper=Paper("Feng", 2025, "Element-wise Attention Is All You Need", "2501.05730"),
        formula="sum_n a_n q^n S_n / sum_n a_n q^n Z_n, a_n = (2 s)^n / n!, n = 0..t per channel",
        time="O(t L D)",
        memory="O(L D), in eager O(t L D) with gradients",
        growth="linear",
        causal_form="defined",
        backends={
            "fused": Backend(
                "attention_impls.ea_fused:fused",
                "our kernels: vectors on a CPU, Triton on a GPU",
                requirements.own_kernels,
                workspace=workspaces.ea_series_fused,
                recurrence=_recurrence("attention_impls.ea_fused"),
            ),
            "eager": Backend(
                "attention_impls.ea_series:eager",
                "plain PyTorch, chunked over positions",
                workspace=workspaces.ea_series_eager,
                recurrence=_recurrence("attention_impls.ea_series"),
            ),
            "compile": Backend(
                "attention_impls.ea_series:compiled",
                "torch.compile of the work on each chunk",
                requirements.compiler,
            ),
        },
        oracle_target="attention_impls.ea_series:oracle",
        cost=costs.ea_series_cost,
        layer_params=costs.matrix_params,
        hyperparameters=_knobs(
            hyperparameters.ORDER, hyperparameters.DISTANCE_SCALE, hyperparameters.STABILISER
        ),
        decode_cost=costs.ea_series_decode_cost,
        state_bytes=costs.ea_series_state_bytes,
        approximates=Approximation("element-wise", "attention_impls.ea_series:outside_band"),
        per_channel=True,
        notes="Even orders only. Approximates element-wise where |2 s q k| is small, not at any width.",
    ),
    "hadamard": AttentionSpec(
        name="hadamard",
        summary="element-wise products and array projections: our interpretation",
        paper=Paper("Bacochina & de Souza", 2023, "Element-Wise Attention Layers", "2302.05488"),
        formula="softmax(scale q * k) * v, element-wise, over positions or channels",
        time="O(L D)",
        memory="O(L D)",
        growth="linear",
        causal_form="extension",
        backends={
            "eager": Backend(
                "attention_impls.hadamard:eager",
                "plain PyTorch",
                workspace=workspaces.hadamard,
                recurrence=_recurrence("attention_impls.hadamard"),
            )
        },
        oracle_target="attention_impls.hadamard:oracle",
        cost=costs.hadamard_cost,
        layer_params=costs.array_params,
        hyperparameters=_knobs(hyperparameters.AXIS, hyperparameters.PRODUCT_SCALE),
        decode_cost=costs.hadamard_decode_cost,
        state_bytes=costs.hadamard_state_bytes,
        per_channel=True,
        averages=False,
        position_local=True,
        projection="array",
        notes="Our interpretation of an abstract; the paper's exact layer is not public.",
    ),
    "linear": AttentionSpec(
        name="linear",
        summary="feature map elu + 1, the classic linear baseline",
        paper=Paper("Katharopoulos et al.", 2020, "Transformers are RNNs", "2006.16236"),
        formula="phi(q)^T sum_j phi(k_j) v_j^T / (phi(q)^T sum_j phi(k_j) + 1e-6), phi = elu + 1",
        time="O(L D^2 / H)",
        memory="O(L D)",
        growth="linear",
        causal_form="defined",
        backends={
            "eager": Backend(
                "attention_impls.linear:eager",
                "plain PyTorch",
                workspace=workspaces.linear,
                recurrence=_recurrence("attention_impls.linear"),
            )
        },
        oracle_target="attention_impls.linear:oracle",
        cost=costs.linear_cost,
        layer_params=costs.matrix_params,
        decode_cost=costs.linear_decode_cost,
        state_bytes=costs.linear_state_bytes,
    ),
}
"""Name -> everything there is to know of that attention, in the order in which lists show them."""


def names() -> list[str]:
    """The names of all attentions, in the table's order."""
    return list(ATTENTIONS)


def get(name: str) -> AttentionSpec:
    """Everything there is to know of one attention: of the table, or ``module:name`` of your own spec.

    Raises:
        UnknownAttention: no attention has the name; the message lists the known and the nearest.
    """
    if ":" in name:
        return _elsewhere(name)
    try:
        return ATTENTIONS[name]
    except KeyError:
        raise UnknownAttention(
            f"no attention is named '{name}'{nearest(name, names())}; known: {', '.join(ATTENTIONS)}"
        ) from None


@cache
def _elsewhere(target: str) -> AttentionSpec:
    try:
        spec = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownAttention(f"'{target}' cannot be imported: {error}") from None
    if not isinstance(spec, AttentionSpec):
        raise UnknownAttention(f"'{target}' is a {type(spec).__name__}, not an AttentionSpec")
    return replace(spec, name=target)
