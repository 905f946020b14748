"""Rows of the attentions with a softmax over dot products. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from attention_impls import hyperparameters, requirements, workspaces
from attention_impls.costs import counting, dot_product, mixers, sharded_matmul
from attention_impls.nouns import Paper
from attention_impls.peers import reasons
from attention_impls.rows.parts import cached, knobs
from attention_impls.sharding import Sharding
from attention_impls.spec import AttentionSpec, Backend

ROWS: Mapping[str, AttentionSpec] = {
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
                recurrence=cached("attention_impls.softmax:prefill", "attention_impls.softmax:step"),
                sharding=Sharding(
                    "attention_impls.sharded.softmax:softmax",
                    sharded_matmul.softmax_received,
                    "an all-gather of keys and values",
                    sharded_matmul.softmax_workspace,
                ),
            ),
            "flash": Backend(
                "attention_impls.softmax:flash",
                "PyTorch's flash kernel, pinned",
                requirements.flash,
                workspace=workspaces.softmax_fused,
                recurrence=cached("attention_impls.softmax:prefill", "attention_impls.softmax:flash_step"),
                sharding=Sharding(
                    "attention_impls.sharded.context_parallel:flash",
                    sharded_matmul.ring_received,
                    "PyTorch's context parallelism: ring attention, on cuda",
                    requires=requirements.ring,
                ),
            ),
            "math": Backend(
                "attention_impls.softmax:math_kernel",
                "PyTorch's unfused kernel, pinned",
                workspace=workspaces.softmax_math,
                recurrence=cached("attention_impls.softmax:prefill", "attention_impls.softmax:math_step"),
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
                recurrence=cached(
                    "attention_impls.softmax:eager_prefill", "attention_impls.softmax:eager_step"
                ),
            ),
            "flash-attn": Backend(
                "attention_impls.peers.flash_attn:softmax",
                "the flash-attn package",
                reasons.flash_attn,
                workspace=workspaces.softmax_fused,
                package="flash-attn",
            ),
            "xformers": Backend(
                "attention_impls.peers.xformers:softmax",
                "the xformers package",
                reasons.xformers,
                workspace=workspaces.softmax_fused,
                package="xformers",
            ),
            "flex": Backend(
                "attention_impls.peers.flex:softmax",
                "PyTorch's FlexAttention, compiled",
                reasons.flex,
                workspace=workspaces.softmax_fused,
            ),
        },
        oracle_target="attention_impls.softmax:oracle",
        cost=dot_product.softmax_cost,
        hyperparameters=knobs(hyperparameters.DOT_SCALE),
        decode_cost=dot_product.softmax_decode_cost,
        state_bytes=counting.cache_bytes,
        state_grows=True,
    ),
    "perceiver": AttentionSpec(
        name="perceiver",
        summary="learned latents pool the tokens, and the tokens read the pools",
        paper=Paper(
            "Jaegle et al.", 2021, "Perceiver: General Perception with Iterative Attention", "2103.03206"
        ),
        formula="softmax(c Q (A K)^T) (A V), A = softmax(c Z K^T), Z M learned latents, c = 1 / sqrt(head_dim)",
        time="O(L M D)",
        memory="O(L D + M D)",
        growth="linear",
        causal_form="defined",
        full_form="extension",
        backends={
            "eager": Backend("attention_impls.perceiver:eager", "PyTorch's fused kernels, three calls")
        },
        oracle_target="attention_impls.perceiver:oracle",
        cost=mixers.perceiver_cost,
        hyperparameters=knobs(hyperparameters.LATENTS),
        operands=mixers.perceiver_operands,
        heads_alike=False,
        causal_is_prefix=False,
        notes="One layer in and out with pooled keys and values, ours, without the tower of latent layers. "
        "Causal is Perceiver AR (2202.07765): the last M rows attend, earlier rows are zero, and there are no "
        "latents. No recurrent form: one token's step is softmax's with a cache of keys and values.",
    ),
    "s2": AttentionSpec(
        name="s2",
        summary="S2-attn (LongLoRA): softmax in groups, shifted by half a group in half of the heads",
        paper=Paper(
            "Chen et al.",
            2023,
            "LongLoRA: Efficient Fine-tuning of Long-Context Large Language Models",
            "2309.12307",
        ),
        formula="softmax(Q K^T / sqrt(head_dim)) V over the G positions of a token's group",
        time="O(L G D)",
        memory="O(L D)",
        growth="linear",
        causal_form="defined",
        backends={"eager": Backend("attention_impls.s2:eager", "PyTorch's fused kernels, groups as batches")},
        oracle_target="attention_impls.s2:oracle",
        cost=mixers.s2_cost,
        hyperparameters=knobs(hyperparameters.GROUP),
        positional=True,
        heads_alike=False,
        causal_is_prefix=False,
        notes="Shifted heads do not wrap around: the first half group and the last tokens are groups of their own. "
        "Its recurrent form, a window of the current group, is not written.",
    ),
}
