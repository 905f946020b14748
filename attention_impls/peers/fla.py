"""Linear attentions by the kernels of flash-linear-attention (Yang & Zhang 2024), causal only.

Its layout is [batch, seq_len, heads, head_dim]. Ours is turned by views, which its kernels then copy to be
contiguous: those copies run inside the timed call. Scale, feature map, normaliser and the length of keys are
ours, each given or computed here; none is left to the library's defaults. Its chunks of 64 add up in float32.
"""

from __future__ import annotations

from torch import Tensor

from attention_impls import gated_delta as gated_delta_rule
from attention_impls import gla as gated_linear
from attention_impls import linear as linear_attention
from attention_impls import mamba2, retention
from attention_impls.chunks import accumulator_dtype
from attention_impls.hyperparameters import dot_scale
from attention_impls.peers.layout import heads_first, tokens_first
from attention_impls.validate import validate_causal, validate_qkv


def linear(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """Linear attention by ``chunk_linear_attn``. Arguments and errors as ``linear.eager``; causal only.

    The feature map elu + 1 and the division by phi(q)^T sum phi(k) + 1e-6 are PyTorch's, inside the timed
    call; the kernel is asked not to normalise and not to scale.
    """
    validate_qkv(query, key, value)
    validate_causal("fla", causal)
    from fla.ops.linear_attn import chunk_linear_attn

    wide = accumulator_dtype(query.dtype)
    narrow = [linear_attention.elu_plus_one(x.to(wide)).to(query.dtype) for x in (query, key)]
    seen, keys = (x.to(wide) for x in narrow)  # as rounded as what the kernel sees
    total = (seen * keys.cumsum(2)).sum(-1, keepdim=True) + linear_attention.EPSILON
    weighted, *_ = chunk_linear_attn(*tokens_first(*narrow, value), scale=1.0, normalize=False)
    return (heads_first(weighted) / total).to(query.dtype)


def retained(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Retention by ``chunk_retention``. Arguments and errors as ``retention.eager``; causal only.

    Its rates are those of the paper, 1 - 2^(-5 - head), as ours are.
    """
    factor = retention.checked(query, key, value, scale)
    validate_causal("fla", causal)
    from fla.ops.retention import chunk_retention

    output, *_ = chunk_retention(*tokens_first(query, key, value), scale=factor)
    return heads_first(output)


def mamba_2(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    scale: float = 1.0,
    gate: Tensor | None = None,
) -> Tensor:
    """The core of Mamba-2 by ``chunk_simple_gla``. Arguments and errors as ``mamba2.eager``."""
    gate = mamba2.checked(query, key, value, causal, scale, gate)
    from fla.ops.simple_gla import chunk_simple_gla

    query, key, value, gate = tokens_first(query, key, value, gate)
    output, *_ = chunk_simple_gla(query, key, value, g=gate, scale=scale)
    return heads_first(output)


def gla(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    gate: Tensor | None = None,
) -> Tensor:
    """Gated linear attention by ``chunk_gla``. Arguments and errors as ``gla.eager``."""
    gate = gated_linear.checked(query, key, value, causal, scale, gate)
    from fla.ops.gla import chunk_gla

    query, key, value, gate = tokens_first(query, key, value, gate)
    output, *_ = chunk_gla(query, key, value, g=gate, scale=dot_scale(query.shape[-1], scale))
    return heads_first(output)


def gated_delta(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    gate: Tensor | None = None,
    beta: Tensor | None = None,
) -> Tensor:
    """The gated delta rule by ``chunk_gated_delta_rule``. Arguments and errors as ``gated_delta.eager``.

    Queries and keys are divided by their length here, in float32, inside the timed call.
    """
    gate, beta = gated_delta_rule.checked(query, key, value, causal, scale, gate, beta)
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    wide, narrow = accumulator_dtype(query.dtype), query.dtype
    factor = dot_scale(query.shape[-1], scale)
    query, key = (gated_delta_rule.normalised(x.to(wide)).to(narrow) for x in (query, key))
    query, key, value, gate, beta = tokens_first(query, key, value, gate, beta)
    output, *_ = chunk_gated_delta_rule(
        query, key, value, g=gate, beta=beta, scale=factor, use_qk_l2norm_in_kernel=False
    )
    return heads_first(output)
