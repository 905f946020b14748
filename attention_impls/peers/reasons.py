"""What the peers need of the machine: every function returns all reasons why a problem cannot run.

On a CPU none of them runs: nothing is looked up then, and no torch imported. No peer is ever imported here:
whether one is installed is looked up, not tried.
"""

from __future__ import annotations

from importlib.util import find_spec

from attention_impls.nouns import Problem, causal_only_reason
from attention_impls.requirements import ampere, half_only

FLA_WIDEST = 256  # head_dim that its chunk kernels take
FLASH_WIDEST = 256  # head_dim that the kernels of flash-attn take
FLEX_NARROWEST = 16  # head_dim that its Triton kernel takes


def fla(problem: Problem) -> list[str]:
    """Flash-linear-attention: a GPU, causal, no float64, head_dim <= 256, seq_len >= heads."""
    if problem.device != "cuda":
        return ["fla runs on cuda only"]
    reasons = _installed("fla", "fla", "flash-linear-attention") + _no_float64("fla", problem)
    if not problem.causal and not problem.decode:
        reasons.append(causal_only_reason("fla"))
    if problem.seq_len < problem.heads:  # it takes such tensors for ones of another layout
        reasons.append(
            f"fla takes as many tokens as heads or more; it is {problem.seq_len} by {problem.heads}"
        )
    if problem.head_dim > FLA_WIDEST:
        reasons.append(f"fla takes head_dim up to {FLA_WIDEST}; it is {problem.head_dim}")
    return reasons


def fla_linear(problem: Problem) -> list[str]:
    """The kernel of linear attention returns its sums before they are divided."""
    reasons = fla(problem)
    if problem.device == "cuda" and problem.dtype == "float16":
        reasons.append("linear/fla divides behind the kernel, and its sums may leave float16; use bfloat16")
    return reasons


def fla_half(problem: Problem) -> list[str]:
    """The gated delta rule of flash-linear-attention refuses float32 as well."""
    reasons = fla(problem)
    if problem.device == "cuda" and problem.dtype == "float32":
        reasons.append("fla's gated delta rule takes float16 or bfloat16; it is float32")
    return reasons


def flash_attn(problem: Problem) -> list[str]:
    """The flash-attn package: a GPU of compute capability 8.0, half precision, head_dim <= 256."""
    if problem.device != "cuda":
        return ["flash-attn runs on cuda only"]
    reasons = _installed("flash-attn", "flash_attn", "flash-attn")
    reasons += half_only("flash-attn", problem) + ampere("flash-attn")
    if problem.head_dim > FLASH_WIDEST:
        reasons.append(f"flash-attn takes head_dim up to {FLASH_WIDEST}; it is {problem.head_dim}")
    return reasons


def xformers(problem: Problem) -> list[str]:
    """The xformers package: a GPU, no float64."""
    if problem.device != "cuda":
        return ["xformers runs on cuda only"]
    return _installed("xformers", "xformers", "xformers") + _no_float64("xformers", problem)


def flex(problem: Problem) -> list[str]:
    """PyTorch's FlexAttention: a GPU with triton, no float64.

    On a CPU it has no backward pass and takes a minute to compile (torch 2.13): no rival there.
    """
    if problem.device != "cuda":
        return ["flex runs on cuda only"]
    reasons = _installed("triton", "triton", "triton") + _no_float64("flex", problem)
    if problem.head_dim < FLEX_NARROWEST:
        reasons.append(f"flex takes head_dim from {FLEX_NARROWEST} on; it is {problem.head_dim}")
    return reasons


def _installed(peer: str, module: str, package: str) -> list[str]:
    return [] if find_spec(module) else [f"{peer} is not installed: pip install {package}"]


def _no_float64(peer: str, problem: Problem) -> list[str]:
    if problem.dtype == "float64":
        return [f"{peer} takes float32, float16 or bfloat16; it is float64"]
    return []
