"""Rows of the attentions whose weights are polynomials of a dot product. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from attention_impls import hyperparameters
from attention_impls.costs import taylor
from attention_impls.nouns import Paper
from attention_impls.rows.parts import knobs, recurrence
from attention_impls.spec import Approximation, AttentionSpec, Backend

ROWS: Mapping[str, AttentionSpec] = {
    "taylor-linear": AttentionSpec(
        name="taylor-linear",
        summary="weights 1 + cosine, the first-order Taylor expansion of exp",
        paper=Paper(
            "Li et al.",
            2020,
            "Linear Attention Mechanism: An Efficient Attention for Semantic Segmentation",
            "2007.14902",
        ),
        formula="sum_j w_ij v_j / sum_j w_ij, w_ij = 1 + 1e-4 + q_i^T k_j / (|q_i| |k_j|)",
        time="O(L D^2 / H)",
        memory="O(L D)",
        growth="linear",
        causal_form="extension",
        backends={
            "eager": Backend(
                "attention_impls.taylor_linear:eager",
                "plain PyTorch, blocked over positions",
                recurrence=recurrence("attention_impls.taylor_linear"),
            )
        },
        oracle_target="attention_impls.taylor_linear:oracle",
        cost=taylor.taylor_linear_cost,
        decode_cost=taylor.taylor_linear_decode_cost,
        state_bytes=taylor.taylor_linear_state_bytes,
        notes="Cosines, so weights lie between 0 and 2; causal is our extension.",
    ),
    "taylor-shift": AttentionSpec(
        name="taylor-shift",
        summary="weights 1 + x + x^2 / 2 of scaled cosines, linear or written out",
        paper=Paper(
            "Nauen et al.",
            2024,
            "TaylorShift: Shifting the Complexity of Self-Attention from Squared to Linear (and Back) "
            "using Taylor-Softmax",
            "2403.02920",
        ),
        formula="sum_j w_ij v_j / sum_j w_ij, w = 1 + x + x^2 / 2, x_ij = temperature_h cos(q_i, k_j)",
        time="O(L D^3 / H^2), direct O(L^2 D)",
        memory="O(L D + D^3 / H^2), direct O(L D)",
        growth="linear",
        causal_form="extension",
        backends={
            "efficient": Backend(
                "attention_impls.taylor_shift:efficient",
                "sums of outer products, in blocks",
                recurrence=recurrence("attention_impls.taylor_shift"),
            ),
            "direct": Backend(
                "attention_impls.taylor_shift:direct",
                "weights written out, blocked over queries",
                cost=taylor.taylor_shift_direct_cost,
                growth="quadratic",
            ),
        },
        oracle_target="attention_impls.taylor_shift:oracle",
        cost=taylor.taylor_shift_cost,
        decode_cost=taylor.taylor_shift_decode_cost,
        state_bytes=taylor.taylor_shift_state_bytes,
        operands=taylor.taylor_shift_operands,
        choose=taylor.choose_taylor_shift,
        heads_alike=False,
        notes="Two forms of the same: direct is cheaper below head_dim^2 + head_dim + 1 tokens. "
        "The causal form is our extension.",
    ),
    "sata": AttentionSpec(
        name="sata",
        summary="the Taylor series of softmax attention in symmetric monomials",
        paper=Paper(
            "Heinsen & Kozachkov",
            2026,
            "Self-Attention at Constant Cost per Token via Symmetry-Aware Taylor Approximation",
            "2602.00294",
        ),
        formula="sum_j w_ij v_j / sum_j w_ij, w_ij = sum_(p <= order) (q_i^T k_j)^p / (p! head_dim^(p/2))",
        time="O(L M D), M = C(D / H + order, order)",
        memory="O(L D + M D)",
        growth="linear",
        causal_form="defined",
        backends={
            "eager": Backend(
                "attention_impls.sata:eager",
                "plain PyTorch, blocked over positions",
                taylor.sata_reasons,
                recurrence=recurrence("attention_impls.sata"),
            )
        },
        oracle_target="attention_impls.sata:oracle",
        cost=taylor.sata_cost,
        hyperparameters=knobs(hyperparameters.SERIES_ORDER),
        decode_cost=taylor.sata_decode_cost,
        state_bytes=taylor.sata_state_bytes,
        approximates=Approximation("softmax", "attention_impls.sata:outside_band"),
        notes="Even orders only. Features grow as head_dim^order / order!: meant for many narrow heads.",
    ),
    "based": AttentionSpec(
        name="based",
        summary="weights 1 + x + x^2 / 2 of narrow queries and keys",
        paper=Paper(
            "Arora et al.",
            2024,
            "Simple linear attention language models balance the recall-throughput tradeoff",
            "2402.18668",
        ),
        formula="sum_j w_ij v_j / (sum_j w_ij + 1e-12), w = 1 + x + x^2 / 2, x_ij = q_i^T k_j / sqrt(f)",
        time="O(L f^2 D)",
        memory="O(L D + f^2 D)",
        growth="linear",
        causal_form="defined",
        full_form="extension",
        backends={
            "eager": Backend(
                "attention_impls.based:eager",
                "plain PyTorch, blocked over positions",
                recurrence=recurrence("attention_impls.based"),
            )
        },
        oracle_target="attention_impls.based:oracle",
        cost=taylor.based_cost,
        hyperparameters=knobs(hyperparameters.FEATURE_DIM),
        decode_cost=taylor.based_decode_cost,
        state_bytes=taylor.based_state_bytes,
        key_dim=taylor.based_key_width,
        notes="Queries and keys are min(head_dim, feature_dim) wide. The full form is our extension; "
        "the paper's sliding-window layers are not part of it.",
    ),
}
