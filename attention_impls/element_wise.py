"""Exact element-wise attention: every channel smooths its values by squared Euclidean distance."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from attention_impls.chunks import accumulator_dtype
from attention_impls.hyperparameters import DISTANCE_SCALE, check
from attention_impls.validate import validate_qkv

BLOCK_ELEMENTS = 2**20
"""Weights of one block of queries (4 MiB in float32), or one row of weights per channel if that is more."""

CAUSAL_BANDS = 8
"""A causal band of queries sees the keys up to its own end: of the work, 1 / (2 * bands) is masked away."""

SDPA_WIDTH = {"cpu": 2, "cuda": 8}
"""Head size of the identity: the CPU's flash kernel takes 2; on a GPU a row must fill 16 bytes and more."""


def eager(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float = 1.0) -> Tensor:
    """Exact element-wise attention, blocked over queries so that no [L, L, D] tensor exists.

    Formula: y_ic = sum_j w_ijc v_jc / sum_j w_ijc with w_ijc = exp(-scale (q_ic - k_jc)^2), over j <= i
    when causal. Every channel c is its own head. With gradients every block of weights is computed
    again in the backward pass. Computed in float32 for half precision.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: position i sees positions j <= i only.
        scale: s > 0; the same as scaling query and key by sqrt(s). The paper's abstract names the
            squared distance and approximates exp(q k), which is s = 1/2; the default here is 1.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L^2 D) time, O(L D) memory: the temporaries hold at most ``BLOCK_ELEMENTS`` elements
    each, or one input's elements if that is more.

    Raises:
        InvalidArgument: the tensors or the scale break their rules.

    Paper: Feng 2025, arXiv 2501.05730 (from its abstract; the code is not public).
    """
    _check(query, key, value, scale)
    wide = accumulator_dtype(query.dtype)
    root = math.sqrt(scale)
    # Per channel, so that the softmax runs along contiguous memory: [batch, heads, head_dim, seq_len].
    by_channel = [x.to(wide).transpose(-1, -2) for x in (root * query.to(wide), root * key.to(wide), value)]
    query_rows, key_rows, value_rows = (x.contiguous() for x in by_channel)
    bands = CAUSAL_BANDS if causal else 1
    band_rows = math.ceil(query.shape[-2] / bands)
    outputs = []
    end = 0
    for band in torch.split(query_rows, band_rows, -1):
        start, end = end, end + band.shape[-1]
        outputs += _band(band, key_rows[..., :end], value_rows[..., :end], start if causal else None)
    return torch.cat(outputs, -1).transpose(-1, -2).to(query.dtype).contiguous()


def sdpa(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float = 1.0) -> Tensor:
    """Exact element-wise attention as dot products in two dimensions, by a fused kernel of PyTorch.

    Formula: exp(-s q_i^2) cancels in the ratio, so the weights are exp(q' . k') with q' = [2 s q, 1] and
    k' = [k, -s k^2]: softmax attention with one head of size two per channel. The kernel is pinned
    (flash on the CPU, memory-efficient on cuda), so no [L, L, D] tensor exists. Computed in float32 for
    half precision. Arguments and errors as ``eager``.

    Complexity: O(L^2 D) time, O(L D) memory.
    """
    _check(query, key, value, scale)
    wide = accumulator_dtype(query.dtype)
    width = SDPA_WIDTH.get(query.device.type, 8)
    query_wide, key_wide, value_wide = query.to(wide), key.to(wide), value.to(wide)
    queries, keys, values = (
        _as_heads([2 * scale * query_wide, torch.ones_like(query_wide)], width),
        _as_heads([key_wide, -scale * key_wide.square()], width),
        _as_heads([value_wide], width),
    )
    kernel = SDPBackend.EFFICIENT_ATTENTION if query.is_cuda else SDPBackend.FLASH_ATTENTION
    with sdpa_kernel(kernel):
        output = F.scaled_dot_product_attention(queries, keys, values, is_causal=causal, scale=1.0)
    channels = torch.unflatten(output[..., 0], 1, (query.shape[1], query.shape[3]))
    return channels.transpose(-1, -2).to(query.dtype).contiguous()


def oracle(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float = 1.0) -> Tensor:
    """The float64 truth: all [seq_len, seq_len, head_dim] weights at once."""
    _check(query, key, value, scale)
    query, key, value = query.double(), key.double(), value.double()
    distance = scale * (query[:, :, :, None] - key[:, :, None]) ** 2
    if causal:
        length = query.shape[-2]
        future = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
        distance = distance.masked_fill(future[..., None], math.inf)
    weights = torch.exp(distance.amin(3, keepdim=True) - distance)
    return torch.einsum("bhijd,bhjd->bhid", weights, value) / weights.sum(3)


def _band(queries: Tensor, keys: Tensor, values: Tensor, first: int | None) -> list[Tensor]:
    """Outputs of one band, block by block; ``first`` is its first position, or None if not causal."""
    rows = max(1, BLOCK_ELEMENTS // keys.numel())
    outputs = []
    for block in torch.split(queries, rows, -1):
        if torch.is_grad_enabled() and any(x.requires_grad for x in (queries, keys, values)):
            output = checkpoint(
                _block, block, keys, values, first, use_reentrant=False, preserve_rng_state=False
            )
        else:
            output = _block(block, keys, values, first)
        outputs.append(output)
        first = None if first is None else first + block.shape[-1]
    return outputs


def _block(queries: Tensor, keys: Tensor, values: Tensor, first: int | None) -> Tensor:
    """Softmax of minus the squared distances, [batch, heads, head_dim, rows, keys], times the values."""
    difference = queries[..., :, None] - keys[..., None, :]
    scores = (difference * difference).neg_()
    if first is not None:
        # Every row sees the keys up to the block's first position: only those after it need the mask.
        rows, unsure = queries.shape[-1], keys.shape[-1] - first
        future = torch.ones(rows, unsure, dtype=torch.bool, device=keys.device).triu_(1)
        scores[..., first:].masked_fill_(future, -math.inf)
    return torch.einsum("bhdij,bhdj->bhdi", torch.softmax(scores, -1), values)


def _as_heads(columns: list[Tensor], width: int) -> Tensor:
    """Every channel a head: [batch, heads * head_dim, seq_len, width], missing columns filled with zeros."""
    stacked = F.pad(torch.stack(columns, -1), (0, width - len(columns)))
    return stacked.transpose(2, 3).flatten(1, 2).contiguous()


def _check(query: Tensor, key: Tensor, value: Tensor, scale: float) -> None:
    validate_qkv(query, key, value)
    check("element-wise", DISTANCE_SCALE, scale)
