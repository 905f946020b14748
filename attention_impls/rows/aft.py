"""Rows of the attention-free transformer and of Poly-NL. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from attention_impls import hyperparameters
from attention_impls.costs import aft
from attention_impls.nouns import Paper, Projections
from attention_impls.rows.parts import knobs, recurrence
from attention_impls.spec import AttentionSpec, Backend

PAPER = Paper("Zhai et al.", 2021, "An Attention Free Transformer", "2105.14103")

ROWS: Mapping[str, AttentionSpec] = {
    "aft-full": AttentionSpec(
        name="aft-full",
        summary="attention-free: keys and a learned bias per pair of positions weigh values, per channel",
        paper=PAPER,
        formula="sigmoid(q_i) * sum_j exp(k_j + w_ij) v_j / sum_j exp(k_j + w_ij) per channel",
        time="O(L^2 D)",
        memory="O(L D), with gradients O(L D + L^2)",
        growth="quadratic",
        causal_form="defined",
        backends={"eager": Backend("attention_impls.aft_full:eager", "two matrix products, blocked")},
        oracle_target="attention_impls.aft_full:oracle",
        cost=aft.aft_full_cost,
        operands=aft.aft_full_operands,
        per_channel=True,
        averages=False,
        positional=True,
        notes="L^2 parameters, for the longest L; no recurrent form: a step would need all keys and values.",
    ),
    "aft-local": AttentionSpec(
        name="aft-local",
        summary="attention-free, with a learned bias for nearby positions only",
        paper=PAPER,
        formula="as aft-full, w_ij = 0 where |i - j| >= s",
        time="O(L s D)",
        memory="O(L (D + s))",
        growth="linear",
        causal_form="defined",
        backends={"eager": Backend("attention_impls.aft_local:eager", "banded products and running sums")},
        oracle_target="attention_impls.aft_local:oracle",
        cost=aft.aft_local_cost,
        hyperparameters=knobs(hyperparameters.BIAS_WINDOW),
        operands=aft.aft_local_operands,
        per_channel=True,
        averages=False,
        positional=True,
        notes="L (2 s - 1) parameters, for the longest L. No recurrent form here.",
    ),
    "aft-simple": AttentionSpec(
        name="aft-simple",
        summary="attention-free: keys weigh values by their own size, per channel",
        paper=PAPER,
        formula="sigmoid(q_i) * sum_j exp(k_j) v_j / sum_j exp(k_j) per channel",
        time="O(L D)",
        memory="O(L D)",
        growth="linear",
        causal_form="defined",
        backends={
            "eager": Backend(
                "attention_impls.aft:eager", "plain PyTorch", recurrence=recurrence("attention_impls.aft")
            )
        },
        oracle_target="attention_impls.aft:oracle",
        cost=aft.aft_simple_cost,
        decode_cost=aft.aft_simple_decode_cost,
        state_bytes=aft.aft_simple_state_bytes,
        per_channel=True,
        averages=False,
    ),
    "poly-nl": AttentionSpec(
        name="poly-nl",
        summary="every value times the mean of all products of query and key, per channel",
        paper=Paper(
            "Babiloni et al.",
            2021,
            "Poly-NL: Linear Complexity Non-local Layers with Polynomials",
            "2107.02859",
        ),
        formula="mean_j(q_j * k_j) * v_i, element-wise",
        time="O(L D)",
        memory="O(L D)",
        growth="linear",
        causal_form="extension",
        backends={
            "eager": Backend(
                "attention_impls.poly_nl:eager",
                "plain PyTorch",
                recurrence=recurrence("attention_impls.poly_nl"),
            )
        },
        oracle_target="attention_impls.poly_nl:oracle",
        cost=aft.poly_nl_cost,
        decode_cost=aft.poly_nl_decode_cost,
        state_bytes=aft.poly_nl_state_bytes,
        projections=Projections(("query", "key", "output"), residual=True),
        per_channel=True,
        averages=False,
        position_local=True,
        notes="Grows with the cube of its input: float16 overflows once entries are about 40.",
    ),
}
