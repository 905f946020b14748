"""Shifted sparse attention, "S2-attn (LongLoRA)": softmax attention in groups, shifted for half of the heads."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_impls.hyperparameters import GROUP, check
from attention_impls.validate import validate_qkv


def eager(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, group: int = 256) -> Tensor:
    """Softmax attention within groups of G positions, in time linear in seq_len.

    Formula: y_i = softmax(q_i K_g^T / sqrt(head_dim)) V_g, g being the group of position i: floor(i / G) in
    the first heads - heads // 2 heads, floor((i + G / 2) / G) in the others, so that information passes between
    groups. Causal: over the j <= i of the group.

    Where we differ: the paper rolls the shifted heads, so that the first G / 2 tokens and the last ones share
    a group. Here they are groups of their own and never meet, causal or not. A last group may be
    shorter; the paper pads.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: position i sees positions j <= i only.
        group: G, even.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L G D) time, O(L D) memory. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: the tensors or the group break their rules.

    Paper: Chen et al. 2023 (LongLoRA), arXiv 2309.12307, section 3.2.
    """
    validate_qkv(query, key, value)
    check("s2", GROUP, group)
    unshifted = query.shape[1] - query.shape[1] // 2
    heads = [x.tensor_split([unshifted], 1) for x in (query, key, value)]
    outputs = [
        _grouped(q, k, v, first, group, causal)
        for q, k, v, first in zip(*heads, (group, group // 2), strict=True)
        if q.shape[1]
    ]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)


def oracle(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, group: int = 256) -> Tensor:
    """The float64 truth: all pairs, those of different groups masked."""
    validate_qkv(query, key, value)
    check("s2", GROUP, group)
    query, key, value = query.double(), key.double(), value.double()
    scores = torch.einsum("bhid,bhjd->bhij", query, key) / math.sqrt(query.shape[-1])
    allowed = _same_group(query, group)
    weights = torch.exp(scores - scores.amax(-1, keepdim=True)) * (allowed.tril() if causal else allowed)
    return torch.einsum("bhij,bhjd->bhid", weights, value) / weights.sum(-1, keepdim=True)


def _same_group(query: Tensor, group: int) -> Tensor:
    """Mask [heads, seq_len, seq_len] of the pairs that share a group."""
    heads, length = query.shape[1:3]
    shifts = (torch.arange(heads) >= heads - heads // 2) * (group // 2)
    groups = (torch.arange(length) + shifts[:, None]) // group
    return (groups[:, :, None] == groups[:, None, :]).to(query.device)


def _grouped(query: Tensor, key: Tensor, value: Tensor, first: int, group: int, causal: bool) -> Tensor:
    """Attention in a first group of so many positions, then in groups of ``group``, then in what is left."""
    length = query.shape[2]
    start = 0 if first == group else min(first, length)
    stop = length - (length - start) % group
    parts = []
    for rows, size in (
        (slice(0, start), start),
        (slice(start, stop), group),
        (slice(stop, length), length - stop),
    ):
        if rows.start < rows.stop:
            q, k, v = (_folded(x[:, :, rows], size) for x in (query, key, value))
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
            parts.append(torch.unflatten(attended, 0, (len(query), -1)).flatten(2, 3))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _folded(x: Tensor, group: int) -> Tensor:
    """[batch, heads, groups * group, head_dim] -> [batch * heads, groups, group, head_dim]: no mask needed."""
    return torch.unflatten(x, 2, (-1, group)).flatten(0, 1)
