"""Rows of the attentions with a softmax over dot products. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from attention_impls import hyperparameters, requirements, workspaces
from attention_impls.costs import counting, dot_product
from attention_impls.nouns import Paper
from attention_impls.rows.parts import cached, knobs
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
            ),
            "flash": Backend(
                "attention_impls.softmax:flash",
                "PyTorch's flash kernel, pinned",
                requirements.flash,
                workspace=workspaces.softmax_fused,
                recurrence=cached("attention_impls.softmax:prefill", "attention_impls.softmax:flash_step"),
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
        },
        oracle_target="attention_impls.softmax:oracle",
        cost=dot_product.softmax_cost,
        hyperparameters=knobs(hyperparameters.DOT_SCALE),
        decode_cost=dot_product.softmax_decode_cost,
        state_bytes=counting.cache_bytes,
        state_grows=True,
    ),
}
