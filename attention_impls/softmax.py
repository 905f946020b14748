"""Dot-product attention with a softmax: the quadratic baseline."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from attention_impls import kv_cache
from attention_impls.chunks import accumulator_dtype
from attention_impls.hyperparameters import DOT_SCALE, check, dot_scale
from attention_impls.validate import validate_qkv


def eager(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Softmax attention written out, with its [seq_len, seq_len] matrix of weights.

    Formula: y = softmax(scale * Q K^T) V, over j <= i when causal. The softmax is computed in float32
    for half precision.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: position i sees positions j <= i only.
        scale: factor of the dot products; None is 1 / sqrt(head_dim).

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L^2 D) time, O(L^2 H) memory.

    Raises:
        InvalidArgument: the tensors or the scale break their rules.

    Paper: Vaswani et al. 2017, arXiv 1706.03762.
    """
    checked_scale(query, key, value, scale)
    return _written_out(query, key, value, scale, _future(query) if causal else None)


def sdpa(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Softmax attention by the kernel that PyTorch chooses. Arguments and errors as ``eager``."""
    checked_scale(query, key, value, scale)
    return F.scaled_dot_product_attention(query, key, value, is_causal=causal, scale=scale)


def flash(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Softmax attention by PyTorch's flash kernel: O(L D) memory. Arguments and errors as ``eager``."""
    return _pinned(SDPBackend.FLASH_ATTENTION, query, key, value, causal, scale)


def math_kernel(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Softmax attention by PyTorch's unfused kernel: O(L^2 H) memory. Arguments and errors as ``eager``."""
    return _pinned(SDPBackend.MATH, query, key, value, causal, scale)


def memory_efficient(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Softmax attention by PyTorch's memory-efficient kernel, on cuda. Arguments and errors as ``eager``."""
    return _pinned(SDPBackend.EFFICIENT_ATTENTION, query, key, value, causal, scale)


def cudnn(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Softmax attention by the cuDNN kernel, on cuda. Arguments and errors as ``eager``."""
    return _pinned(SDPBackend.CUDNN_ATTENTION, query, key, value, causal, scale)


def oracle(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """The float64 truth: exponentials of every dot product, divided by their sums."""
    checked_scale(query, key, value, scale)
    query, key, value = query.double(), key.double(), value.double()
    scores = torch.einsum("bhid,bhjd->bhij", query, key) * dot_scale(query.shape[-1], scale)
    if causal:
        scores = scores.masked_fill(_future(query), -math.inf)
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    return torch.einsum("bhij,bhjd->bhid", weights, value) / weights.sum(-1, keepdim=True)


@torch.no_grad()
def prefill(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: kv_cache.State | None = None,
    *,
    scale: float | None = None,
) -> tuple[Tensor, kv_cache.State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, cache after the last).

    By the kernel that PyTorch chooses. With a state, the tokens follow those that it stands for, and a mask
    of [seq_len, tokens] is held. Errors as ``eager``. Computes no gradients.
    """
    checked_scale(query, key, value, scale)
    cache = kv_cache.extended(state, key, value)
    count = query.shape[-2]
    mask = kv_cache.past(count, cache) if cache.tokens > count else None
    output = F.scaled_dot_product_attention(query, *cache.held, mask, is_causal=mask is None, scale=scale)
    return output, cache


@torch.no_grad()
def step(
    query: Tensor, key: Tensor, value: Tensor, state: kv_cache.State, *, scale: float | None = None
) -> tuple[Tensor, kv_cache.State]:
    """One token: tensors [batch, heads, head_dim] and the cache so far -> (output, new cache).

    One query row against all rows of the cache, by the kernel that PyTorch chooses. Computes no gradients.

    Complexity: O(L D) time and state after L tokens; nothing but the token is copied.
    """
    check("softmax", DOT_SCALE, scale)
    cache = kv_cache.appended(state, key, value)
    output = F.scaled_dot_product_attention(query[:, :, None], *cache.held, scale=scale)
    return output[:, :, 0], cache


def flash_step(
    query: Tensor, key: Tensor, value: Tensor, state: kv_cache.State, *, scale: float | None = None
) -> tuple[Tensor, kv_cache.State]:
    """As ``step``, by PyTorch's flash kernel."""
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return step(query.contiguous(), key, value, state, scale=scale)


def math_step(
    query: Tensor, key: Tensor, value: Tensor, state: kv_cache.State, *, scale: float | None = None
) -> tuple[Tensor, kv_cache.State]:
    """As ``step``, by PyTorch's unfused kernel."""
    with sdpa_kernel(SDPBackend.MATH):
        return step(query.contiguous(), key, value, state, scale=scale)


@torch.no_grad()
def eager_prefill(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: kv_cache.State | None = None,
    *,
    scale: float | None = None,
) -> tuple[Tensor, kv_cache.State]:
    """As ``prefill``, written out, with the [seq_len, tokens] matrix of weights."""
    checked_scale(query, key, value, scale)
    cache = kv_cache.extended(state, key, value)
    return _written_out(query, *cache.held, scale, ~kv_cache.past(query.shape[-2], cache)), cache


@torch.no_grad()
def eager_step(
    query: Tensor, key: Tensor, value: Tensor, state: kv_cache.State, *, scale: float | None = None
) -> tuple[Tensor, kv_cache.State]:
    """As ``step``, written out, with the row of weights."""
    check("softmax", DOT_SCALE, scale)
    cache = kv_cache.appended(state, key, value)
    return _written_out(query[:, :, None], *cache.held, scale, None)[:, :, 0], cache


def _written_out(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None, hidden: Tensor | None
) -> Tensor:
    scores = (query * dot_scale(query.shape[-1], scale)) @ key.mT
    if hidden is not None:
        scores.masked_fill_(hidden, -math.inf)
    weights = torch.softmax(scores, -1, dtype=accumulator_dtype(query.dtype))
    return weights.to(query.dtype) @ value


def _pinned(
    kernel: SDPBackend, query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float | None
) -> Tensor:
    checked_scale(query, key, value, scale)
    # The fused kernels refuse rows that are not contiguous, such as broadcast ones.
    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    with sdpa_kernel(kernel):
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal, scale=scale)


def checked_scale(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> float:
    """The factor of the dot products, after all rules have been checked.

    Raises:
        InvalidArgument: the tensors or the scale break their rules.
    """
    validate_qkv(query, key, value)
    check("softmax", DOT_SCALE, scale)
    return dot_scale(query.shape[-1], scale)


def _future(query: Tensor) -> Tensor:
    """Mask [seq_len, seq_len] of the positions j > i."""
    length = query.shape[-2]
    return torch.ones(length, length, dtype=torch.bool, device=query.device).triu_(1)
