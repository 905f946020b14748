"""Rows of the attentions made of element-wise products. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from attention_impls import hyperparameters, requirements, workspaces
from attention_impls.costs import counting, element_wise, sharded
from attention_impls.nouns import Paper, Projections
from attention_impls.rows.parts import cached, knobs, recurrence
from attention_impls.sharding import Sharding
from attention_impls.spec import Approximation, AttentionSpec, Backend

EXCHANGED = "2 (t + 1) sums and their reference for each channel"

ROWS: Mapping[str, AttentionSpec] = {
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
                recurrence=cached(
                    "attention_impls.element_wise:prefill", "attention_impls.element_wise:step"
                ),
            ),
            "sdpa": Backend(
                "attention_impls.element_wise:sdpa",
                "dot products in two dimensions, fused kernel",
                requirements.no_float64_on_gpu,
                workspace=workspaces.element_wise_sdpa,
                recurrence=cached(
                    "attention_impls.element_wise:sdpa_prefill", "attention_impls.element_wise:sdpa_step"
                ),
            ),
        },
        oracle_target="attention_impls.element_wise:oracle",
        cost=element_wise.element_wise_cost,
        hyperparameters=knobs(hyperparameters.DISTANCE_SCALE),
        decode_cost=element_wise.element_wise_decode_cost,
        state_bytes=counting.cache_bytes,
        state_grows=True,
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
                "our kernels: CPU vectors, Triton on a GPU",
                requirements.own_kernels,
                workspace=workspaces.ea_series_fused,
                recurrence=recurrence("attention_impls.ea_fused"),
                sharding=Sharding(
                    "attention_impls.sharded.ea_series:fused",
                    sharded.ea_series_received,
                    EXCHANGED,
                    sharded.ea_series_workspace(workspaces.ea_series_fused),
                ),
            ),
            "eager": Backend(
                "attention_impls.ea_series:eager",
                "plain PyTorch, chunked over positions",
                workspace=workspaces.ea_series_eager,
                recurrence=recurrence("attention_impls.ea_series"),
                sharding=Sharding(
                    "attention_impls.sharded.ea_series:eager",
                    sharded.ea_series_received,
                    EXCHANGED,
                    sharded.ea_series_workspace(workspaces.ea_series_eager),
                ),
            ),
            "compile": Backend(
                "attention_impls.ea_compiled:compiled",
                "torch.compile of the work on each chunk",
                requirements.compiler,
            ),
        },
        oracle_target="attention_impls.ea_series:oracle",
        cost=element_wise.ea_series_cost,
        hyperparameters=knobs(
            hyperparameters.ORDER, hyperparameters.DISTANCE_SCALE, hyperparameters.STABILISER
        ),
        decode_cost=element_wise.ea_series_decode_cost,
        state_bytes=element_wise.ea_series_state_bytes,
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
        full_form="extension",
        backends={
            "eager": Backend(
                "attention_impls.hadamard:eager",
                "plain PyTorch",
                workspace=workspaces.hadamard,
                recurrence=recurrence("attention_impls.hadamard"),
            )
        },
        oracle_target="attention_impls.hadamard:oracle",
        cost=element_wise.hadamard_cost,
        hyperparameters=knobs(hyperparameters.AXIS, hyperparameters.PRODUCT_SCALE),
        decode_cost=element_wise.hadamard_decode_cost,
        state_bytes=element_wise.hadamard_state_bytes,
        per_channel=True,
        averages=False,
        position_local=True,
        projections=Projections(("query", "key", "value"), "array"),
        notes="Our interpretation of an abstract; the paper's exact layer is not public.",
    ),
}
