"""Rows of the attentions that sum keys times values first. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from attention_impls import hyperparameters, workspaces
from attention_impls.costs import kernelised, mixers, sharded_matmul
from attention_impls.nouns import Paper, Projections
from attention_impls.peers import reasons
from attention_impls.rows.parts import knobs, recurrence
from attention_impls.sharding import Sharding
from attention_impls.spec import AttentionSpec, Backend

ROWS: Mapping[str, AttentionSpec] = {
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
                recurrence=recurrence("attention_impls.efficient"),
                sharding=Sharding(
                    "attention_impls.sharded.efficient:efficient",
                    sharded_matmul.efficient_received,
                    "all-reduces of the keys' maxima and of the sums, causal a scan of both",
                    sharded_matmul.efficient_workspace,
                ),
            )
        },
        oracle_target="attention_impls.efficient:oracle",
        cost=kernelised.efficient_cost,
        hyperparameters=knobs(hyperparameters.NORMALISATION),
        decode_cost=kernelised.efficient_decode_cost,
        state_bytes=kernelised.efficient_state_bytes,
        notes="The causal form is our extension: every key channel is normalised over the positions seen.",
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
                recurrence=recurrence("attention_impls.linear"),
                sharding=Sharding(
                    "attention_impls.sharded.linear:linear",
                    sharded_matmul.linear_received,
                    "an all-reduce of the sums, causal a scan",
                    sharded_matmul.linear_workspace,
                ),
            ),
            "fla": Backend(
                "attention_impls.peers.fla:linear",
                "flash-linear-attention's chunk kernel",
                reasons.fla_linear,
                package="flash-linear-attention",
            ),
        },
        oracle_target="attention_impls.linear:oracle",
        cost=kernelised.linear_cost,
        decode_cost=kernelised.linear_decode_cost,
        state_bytes=kernelised.linear_state_bytes,
    ),
    "mean": AttentionSpec(
        name="mean",
        summary="the mean of all values, with no attention at all: the floor of all others",
        paper=Paper(
            "Zhang et al.",
            2018,
            "Accelerating Neural Transformer via an Average Attention Network",
            "1805.00631",
        ),
        formula="(1 / L) sum_j v_j, causal (1 / i) sum_{j <= i} v_j",
        time="O(L D)",
        memory="O(L D)",
        growth="linear",
        causal_form="defined",
        full_form="extension",
        backends={
            "eager": Backend(
                "attention_impls.mean:eager",
                "plain PyTorch",
                workspace=workspaces.mean,
                recurrence=recurrence("attention_impls.mean"),
            )
        },
        oracle_target="attention_impls.mean:oracle",
        cost=kernelised.mean_cost,
        decode_cost=kernelised.mean_decode_cost,
        state_bytes=kernelised.mean_state_bytes,
        projections=Projections(("value", "output")),
        per_channel=True,
        notes="Linear attention with a constant feature map. Queries and keys are neither projected nor read; the "
        "causal form is the paper's average without its feed-forward layer and gate, the full one mean pooling.",
    ),
    "multi-resolution": AttentionSpec(
        name="multi-resolution",
        summary="linear attention at several resolutions, weighed by a router: a stand-in for AdaMRA",
        paper=Paper(
            "Zhang et al.",
            2021,
            "Adaptive Multi-Resolution Attention with Linear Complexity",
            "2108.04962",
        ),
        formula="sum_r pi_r phi(q)^T (phi(K_r)^T V_r) / (phi(q)^T sum phi(K_r) + 1e-6), pi = softmax(q^T router)",
        time="O(R L D^2 / H)",
        memory="O(L D)",
        growth="linear",
        causal_form="extension",
        full_form="extension",
        backends={
            "eager": Backend(
                "attention_impls.multi_resolution:eager", "plain PyTorch, blocked over positions"
            )
        },
        oracle_target="attention_impls.multi_resolution:oracle",
        cost=mixers.multi_resolution_cost,
        hyperparameters=knobs(hyperparameters.RESOLUTIONS),
        operands=mixers.multi_resolution_operands,
        positional=True,
        heads_alike=False,
        causal_is_prefix=False,
        notes="Our stand-in: the paper's pooling and router are not public. The causal form is our extension: a "
        "resolution sees only blocks that are complete. Its recurrent form is not written.",
    ),
}
