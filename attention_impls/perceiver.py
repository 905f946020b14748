"""Perceiver attention: learned latents pool the tokens, and the tokens read the pools."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_impls.hyperparameters import LATENTS, check
from attention_impls.nouns import InvalidArgument
from attention_impls.validate import validate_qkv


def eager(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    latents: int = 64,
    latent_query: Tensor | None = None,
) -> Tensor:
    """Attention through M latents: cross-attention in, cross-attention out, in time linear in seq_len.

    Formula, full: A = softmax(c Z K^T) [M, L], y = softmax(c Q (A K)^T) (A V), c = 1 / sqrt(head_dim), Z being
    the ``latent_query``. As in Perceiver IO there is an output for every query. Ours: it is one layer
    without a tower of latent self-attention, and the latents' keys and values are the pooled ones.

    Formula, causal (Perceiver AR): the last M positions, all if there are fewer, are queries of softmax
    attention, and position i sees j <= i. The paper has no output for the rows before them: here they are
    ZERO. The causal form learns no latents.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: position i sees positions j <= i only.
        latents: M, how many latents, or causal how many rows with an output.
        latent_query: Z, [heads, latents, head_dim]; needed by the full form, refused by the causal one.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L M D) time, O(L D + M D) memory, causal also a mask of O(L M). Gradients can be taken
    once, not twice.

    Raises:
        InvalidArgument: tensors, latents or latent_query break their rules.

    Paper: Jaegle et al. 2021, arXiv 2103.03206 (outputs by queries: 2107.14795; causal: 2202.07765).
    """
    pooling = _check(query, key, value, causal, latents, latent_query)
    if pooling is None:
        return _last_rows(query, key, value, latents)
    pooling = pooling.to(query.dtype).expand(len(query), -1, -1, -1)
    # Two calls: one with cat(key, value) as value leaves the fused kernels, which want one width.
    pooled_key = F.scaled_dot_product_attention(pooling, key, key)
    pooled_value = F.scaled_dot_product_attention(pooling, key, value)
    return F.scaled_dot_product_attention(query, pooled_key, pooled_value)


def oracle(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    latents: int = 64,
    latent_query: Tensor | None = None,
) -> Tensor:
    """The float64 truth: the [seq_len, seq_len] weights, a product of two of rank ``latents``."""
    pooling = _check(query, key, value, causal, latents, latent_query)
    query, key, value = query.double(), key.double(), value.double()
    if pooling is None:
        return _masked_weights(query, key, latents) @ value
    inward = _weights(pooling.double().expand(len(query), -1, -1, -1), key)
    return (_weights(query, inward @ key) @ inward) @ value


def _last_rows(query: Tensor, key: Tensor, value: Tensor, rows: int) -> Tensor:
    """Causal softmax attention of the last rows; zeros before them."""
    length = query.shape[-2]
    if rows >= length:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    mask = torch.ones(rows, length, dtype=torch.bool, device=query.device).tril_(length - rows)
    last = F.scaled_dot_product_attention(query[:, :, length - rows :], key, value, attn_mask=mask)
    return F.pad(last, (0, 0, length - rows, 0))


def _weights(query: Tensor, key: Tensor) -> Tensor:
    scores = torch.einsum("bhid,bhjd->bhij", query, key) / math.sqrt(query.shape[-1])
    return torch.softmax(scores, -1)


def _masked_weights(query: Tensor, key: Tensor, rows: int) -> Tensor:
    """Causal weights, and rows of zeros where there is no output."""
    length = query.shape[-2]
    scores = torch.einsum("bhid,bhjd->bhij", query, key) / math.sqrt(query.shape[-1])
    future = torch.ones(length, length, dtype=torch.bool, device=query.device).triu_(1)
    weights = torch.softmax(scores.masked_fill(future, -math.inf), -1)
    positions = torch.arange(length, device=query.device)
    return weights * (positions >= length - rows)[:, None]


def _check(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, latents: int, latent_query: Tensor | None
) -> Tensor | None:
    """The latents of the full form; None when causal."""
    validate_qkv(query, key, value)
    check("perceiver", LATENTS, latents)
    if causal:
        if latent_query is not None:
            raise InvalidArgument(
                "perceiver: the causal form takes no latent_query: its queries are the last tokens; leave it out"
            )
        return None
    wanted = [query.shape[1], latents, query.shape[3]]
    if latent_query is None or list(latent_query.shape) != wanted:
        came = "None" if latent_query is None else f"of shape {list(latent_query.shape)}"
        raise InvalidArgument(
            f"perceiver: latent_query must be [heads, latents, head_dim], here {wanted}; it is {came}"
        )
    return latent_query
