"""Rows of the attentions whose state fades. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from attention_impls import hyperparameters
from attention_impls.costs import gated
from attention_impls.nouns import Paper
from attention_impls.peers import reasons
from attention_impls.rows.parts import knobs, recurrence
from attention_impls.spec import AttentionSpec, Backend, Recurrence

ROWS: Mapping[str, AttentionSpec] = {
    "retention": AttentionSpec(
        name="retention",
        summary="linear attention that forgets at a fixed rate, another one in every head",
        paper=Paper(
            "Sun et al.",
            2023,
            "Retentive Network: A Successor to Transformer for Large Language Models",
            "2307.08621",
        ),
        formula="scale q_i^T sum_j gamma^(i - j) k_j v_j^T, gamma = 1 - 2^(-5 - h)",
        time="O(L D^2 / H)",
        memory="O(L D)",
        growth="linear",
        causal_form="defined",
        full_form="extension",
        backends={
            "eager": Backend(
                "attention_impls.retention:eager",
                "plain PyTorch",
                recurrence=recurrence("attention_impls.retention"),
            ),
            "fla": Backend(
                "attention_impls.peers.fla:retained",
                "flash-linear-attention's chunk kernel",
                reasons.fla,
                package="flash-linear-attention",
            ),
        },
        oracle_target="attention_impls.retention:oracle",
        cost=gated.retention_cost,
        hyperparameters=knobs(hyperparameters.DOT_SCALE),
        decode_cost=gated.retention_decode_cost,
        state_bytes=gated.retention_state_bytes,
        averages=False,
        positional=True,
        heads_alike=False,
        causal_is_prefix=True,
        notes="The core alone: no xPos, group norm or output gate. The full form, weights gamma^|i - j|, is "
        "our extension.",
    ),
    "mamba-2": AttentionSpec(
        name="mamba-2",
        summary="the SSD core: linear attention that forgets as much as each token says",
        paper=Paper(
            "Dao & Gu",
            2024,
            "Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State "
            "Space Duality",
            "2405.21060",
        ),
        formula="S_t = exp(g_t) S_t-1 + k_t v_t^T, y_t = scale q_t^T S_t",
        time="O(L D^2 / H)",
        memory="O(L D)",
        growth="linear",
        causal_form="defined",
        causal_only=True,
        backends={
            "eager": Backend(
                "attention_impls.mamba2:eager",
                "plain PyTorch",
                recurrence=recurrence("attention_impls.mamba2"),
            ),
            "fla": Backend(
                "attention_impls.peers.fla:mamba_2",
                "flash-linear-attention's chunk kernel",
                reasons.fla,
                package="flash-linear-attention",
            ),
        },
        oracle_target="attention_impls.mamba2:oracle",
        cost=gated.mamba_cost,
        hyperparameters=knobs(hyperparameters.OUTPUT_SCALE),
        decode_cost=gated.mamba_decode_cost,
        state_bytes=gated.mamba_state_bytes,
        operands=gated.mamba_operands,
        averages=False,
        positional=True,
        causal_is_prefix=False,
        notes="Causal only. The core alone, with a state matrix of head_dim x head_dim: no convolution, skip, "
        "norm or output gate.",
    ),
    "gla": AttentionSpec(
        name="gla",
        summary="gated linear attention: every channel of the state forgets by itself",
        paper=Paper(
            "Yang et al.",
            2023,
            "Gated Linear Attention Transformers with Hardware-Efficient Training",
            "2312.06635",
        ),
        formula="S_t = diag(exp(g_t)) S_t-1 + k_t v_t^T, y_t = scale q_t^T S_t",
        time="O(L D^2 / H)",
        memory="O(L D)",
        growth="linear",
        causal_form="defined",
        causal_only=True,
        backends={
            "eager": Backend(
                "attention_impls.gla:eager",
                "plain PyTorch",
                recurrence=recurrence("attention_impls.gla"),
            ),
            "fla": Backend(
                "attention_impls.peers.fla:gla",
                "flash-linear-attention's chunk kernel",
                reasons.fla,
                package="flash-linear-attention",
            ),
        },
        oracle_target="attention_impls.gla:oracle",
        cost=gated.gla_cost,
        hyperparameters=knobs(hyperparameters.DOT_SCALE),
        decode_cost=gated.gla_decode_cost,
        state_bytes=gated.gla_state_bytes,
        operands=gated.gla_operands,
        averages=False,
        positional=True,
        causal_is_prefix=False,
        notes="Causal only. The core alone: no norm or output gate; a layer projects its gates at full rank.",
    ),
    "gated-delta": AttentionSpec(
        name="gated-delta",
        summary="the gated delta rule: a key's old value is overwritten, not added to",
        paper=Paper(
            "Yang et al.", 2024, "Gated Delta Networks: Improving Mamba2 with Delta Rule", "2412.06464"
        ),
        formula="S_t = exp(g_t) (I - beta_t k_t k_t^T) S_t-1 + beta_t k_t v_t^T, y_t = scale q_t^T S_t",
        time="O(L D^2 / H)",
        memory="O(L D)",
        growth="linear",
        causal_form="defined",
        causal_only=True,
        backends={
            "eager": Backend(
                "attention_impls.gated_delta:eager",
                "plain PyTorch",
                recurrence=Recurrence(
                    "attention_impls.gated_delta:init_state",
                    "attention_impls.gated_delta:prefill",
                    "attention_impls.gated_delta:step",
                ),
            ),
            "fla": Backend(
                "attention_impls.peers.fla:gated_delta",
                "flash-linear-attention's chunk kernel",
                reasons.fla_half,
                package="flash-linear-attention",
            ),
        },
        oracle_target="attention_impls.gated_delta:oracle",
        cost=gated.gated_delta_cost,
        hyperparameters=knobs(hyperparameters.DOT_SCALE),
        decode_cost=gated.gated_delta_decode_cost,
        state_bytes=gated.gated_delta_state_bytes,
        operands=gated.gated_delta_operands,
        averages=False,
        positional=True,
        causal_is_prefix=False,
        notes="Causal only. The core alone, on queries and keys of unit length: no convolutions, norm or "
        "output gate. Two states cannot be merged.",
    ),
}
