"""Exact element-wise attention: every channel smooths its values by squared Euclidean distance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

from attention_impls import kv_cache
from attention_impls.chunks import accumulator_dtype, chunk_rows
from attention_impls.hyperparameters import DISTANCE_SCALE, check
from attention_impls.validate import validate_qkv

BLOCK_ELEMENTS = {"cpu": 2**20, "cuda": 2**24}
"""Weights of one block, in a buffer, or two with gradients: 4 MiB in float32 on a CPU, the fastest of 2^16 to
2^20, above all when causal."""

BLOCK_ROWS = 32
"""Queries of one block at most: enough to reuse the keys, few enough that causal blocks waste little."""

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

    Complexity: O(L^2 D) time, O(L D) memory: beside tensors of the inputs' size there is a buffer
    of at most ``BLOCK_ELEMENTS`` weights, with gradients two. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: the tensors or the scale break their rules.

    Paper: Feng 2025, arXiv 2501.05730 (from its abstract; the code is not public).
    """
    _check(query, key, value, scale)
    return _by_distances(query, key, value, scale, causal)


def sdpa(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, scale: float = 1.0) -> Tensor:
    """Exact element-wise attention as dot products in two dimensions, by a fused kernel of PyTorch.

    Formula: exp(-s q_i^2) cancels in the ratio, so the weights are exp(q' . k') with q' = [2 s q, 1] and
    k' = [k, -s k^2]: softmax attention with one head of size two per channel. The kernel is pinned
    (flash on the CPU, memory-efficient on cuda), so no [L, L, D] tensor exists. Computed in float32 for
    half precision. Arguments and errors as ``eager``.

    Complexity: O(L^2 D) time, O(L D) memory.
    """
    _check(query, key, value, scale)
    return _by_products(query, key, value, scale, causal=causal)


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


@torch.no_grad()
def prefill(
    query: Tensor, key: Tensor, value: Tensor, state: kv_cache.State | None = None, *, scale: float = 1.0
) -> tuple[Tensor, kv_cache.State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, cache after the last).

    Blocked as ``eager``. With a state, the tokens follow those that it stands for. Errors as ``eager``.
    Computes no gradients.
    """
    _check(query, key, value, scale)
    cache = kv_cache.extended(state, key, value)
    return _by_distances(query, *cache.held, scale, causal=True), cache


@torch.no_grad()
def step(
    query: Tensor, key: Tensor, value: Tensor, state: kv_cache.State, *, scale: float = 1.0
) -> tuple[Tensor, kv_cache.State]:
    """One token: tensors [batch, heads, head_dim] and the cache so far -> (output, new cache).

    In blocks of tokens, each relative to the greatest weight so far. Computes no gradients.

    Complexity: O(L D) time and state after L tokens; beside the cache a block's temporaries.
    """
    check("element-wise", DISTANCE_SCALE, scale)
    cache = kv_cache.appended(state, key, value)
    wide, root = accumulator_dtype(query.dtype), math.sqrt(scale / math.log(2))
    token = root * query.to(wide)[:, :, None]
    top, total, weighted = torch.full_like(token, -math.inf), torch.zeros_like(token), torch.zeros_like(token)
    for keys, values in kv_cache.blocks(cache, chunk_rows(cache.keys)):
        weights = torch.sub(token, keys.to(wide), alpha=root).square_().neg_()
        higher = torch.maximum(top, weights.amax(2, keepdim=True))
        weights.sub_(higher).exp2_()
        decay, top = top.sub_(higher).exp2_(), higher
        total.mul_(decay).add_(weights.sum(2, keepdim=True))
        weighted.mul_(decay).add_(weights.mul_(values).sum(2, keepdim=True))
    return weighted.div_(total)[:, :, 0].to(query.dtype), cache


@torch.no_grad()
def sdpa_prefill(
    query: Tensor, key: Tensor, value: Tensor, state: kv_cache.State | None = None, *, scale: float = 1.0
) -> tuple[Tensor, kv_cache.State]:
    """As ``prefill``, by the fused kernel; with a state, a mask of [seq_len, tokens] is held."""
    _check(query, key, value, scale)
    cache = kv_cache.extended(state, key, value)
    count = query.shape[-2]
    mask = kv_cache.past(count, cache) if cache.tokens > count else None
    return _by_products(query, *cache.held, scale, causal=mask is None, mask=mask), cache


@torch.no_grad()
def sdpa_step(
    query: Tensor, key: Tensor, value: Tensor, state: kv_cache.State, *, scale: float = 1.0
) -> tuple[Tensor, kv_cache.State]:
    """As ``step``, by the fused kernel. Its two-dimensional heads are made of the whole cache in every step:
    O(L D) temporaries, several times the cache."""
    check("element-wise", DISTANCE_SCALE, scale)
    cache = kv_cache.appended(state, key, value)
    return _by_products(query[:, :, None], *cache.held, scale, causal=False)[:, :, 0], cache


def _by_distances(query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool) -> Tensor:
    """The blocked form. The queries are the last of the keys' positions."""
    wide = accumulator_dtype(query.dtype)
    root = math.sqrt(scale / math.log(2))  # exp(-scale x^2) = 2^-(root x)^2, and exp2 is the faster one
    # Per channel, so that the softmax runs along contiguous memory: [batch * heads * head_dim, seq_len].
    rows = (_as_rows(x) for x in (root * query.to(wide), root * key.to(wide), value.to(wide)))
    output: Tensor = _Blocked.apply(*rows, causal)  # type: ignore[no-untyped-call]
    batch, heads, length, head_dim = query.shape
    channels = output.view(batch, heads, head_dim, length)
    return channels.transpose(-1, -2).to(query.dtype).contiguous()


def _by_products(
    query: Tensor, key: Tensor, value: Tensor, scale: float, *, causal: bool, mask: Tensor | None = None
) -> Tensor:
    """The fused form, two-dimensional heads and all."""
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
        output = F.scaled_dot_product_attention(queries, keys, values, mask, is_causal=causal, scale=1.0)
    channels = torch.unflatten(output[..., 0], 1, (query.shape[1], query.shape[3]))
    return channels.transpose(-1, -2).to(query.dtype).contiguous()


class _Blocked(torch.autograd.Function):
    """Smoothing of every row of values [rows, seq_len] by 2^-(query - key)^2, block by block.

    Queries may be fewer than keys: they are then the last ones' positions.

    Blocks live in buffers that are allocated once: neither forward nor backward holds more, and the
    allocator's heap does not fragment under thousands of short-lived blocks.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
        output = torch.empty_like(query)
        logs = torch.empty_like(query) if any(ctx.needs_input_grad) else None
        for part, rows, keys, (buffer,) in _blocks(query, key, causal, buffers=1):
            scores = _scores(query[part, rows], key[part, keys], query.new_zeros(()), buffer, causal)
            top = scores.amax(-1, keepdim=True)
            weights = scores.sub_(top).exp2_()
            total = weights.sum(-1)
            weighted = torch.bmm(value[part, None, keys], weights.mT)
            torch.div(weighted[:, 0], total, out=output[part, rows])
            if logs is not None:
                logs[part, rows] = total.log2_().add_(top[..., 0])
        ctx.save_for_backward(query, key, value, output, logs)
        ctx.causal = causal
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """With P_ij = g_i w_ij (v_j - y_i): sum_j P_ij = 0, so dq_i = 2 ln 2 sum_j P_ij k_j,
        dk_j = 2 ln 2 sum_i P_ij (q_i - k_j) and dv_j = sum_i g_i w_ij. The logarithm of each row's sum
        makes its weights in one pass."""
        query, key, value, output, logs = ctx.saved_tensors
        upstream = upstream.contiguous()
        grad_query, grad_key, grad_value = (
            torch.empty_like(query),
            torch.zeros_like(key),
            torch.zeros_like(value),
        )
        for part, rows, keys, (buffer, other) in _blocks(query, key, ctx.causal, buffers=2):
            offsets = -logs[part, rows, None]
            weights = _scores(query[part, rows], key[part, keys], offsets, buffer, ctx.causal).exp2_()
            gradient = upstream[part, rows]
            grad_value[part, None, keys].baddbmm_(gradient[:, None], weights)
            scores = _view(other, weights.shape)
            torch.sub(value[part, None, keys], output[part, rows, None], out=scores)
            scores.mul_(weights).mul_(gradient[..., None])
            torch.bmm(key[part, None, keys], scores.mT, out=grad_query[part, None, rows])
            sums = torch.bmm(torch.stack((query[part, rows], torch.ones_like(gradient)), 1), scores)
            grad_key[part, keys] += sums[:, 0] - key[part, keys] * sums[:, 1]
        slope = 2 * math.log(2)
        return grad_query.mul_(slope), grad_key.mul_(slope), grad_value, None


def _blocks(
    query: Tensor, key: Tensor, causal: bool, buffers: int
) -> Iterator[tuple[slice, slice, slice, list[Tensor]]]:
    """Channels, queries and keys of every block, and the buffers that all blocks share."""
    (channels, length), width = query.shape, key.shape[1]
    limit = BLOCK_ELEMENTS.get(query.device.type, BLOCK_ELEMENTS["cpu"])
    rows = min(length, max(1, min(BLOCK_ROWS, limit // width)))
    parts = min(channels, max(1, limit // (rows * width)))
    shared = [query.new_empty(parts * rows * width) for _ in range(buffers)]
    for first in range(0, channels, parts):
        for start in range(0, length, rows):
            stop = min(start + rows, length)
            keys = slice(0, width - length + stop if causal else width)
            yield slice(first, min(first + parts, channels)), slice(start, stop), keys, shared


def _scores(query: Tensor, key: Tensor, offsets: Tensor, buffer: Tensor, causal: bool) -> Tensor:
    """The offsets less the squared distances, [channels, queries, keys], in the buffer."""
    scores = _view(buffer, (*query.shape, key.shape[-1]))
    torch.sub(query[..., None], key[:, None], out=scores)
    torch.addcmul(offsets, scores, scores, value=-1, out=scores)
    if causal:
        # The block's queries are the last of its keys: only those columns can lie in the future.
        count = query.shape[-1]
        future = torch.ones(count, count, dtype=torch.bool, device=key.device).triu_(1)
        scores[..., -count:].masked_fill_(future, -math.inf)
    return scores


def _view(buffer: Tensor, shape: Sequence[int]) -> Tensor:
    return buffer[: math.prod(shape)].view(*shape)


def _as_rows(x: Tensor) -> Tensor:
    """[batch, heads, seq_len, head_dim] -> one contiguous row per channel."""
    return x.transpose(-1, -2).flatten(0, 2).contiguous()


def _as_heads(columns: list[Tensor], width: int) -> Tensor:
    """Every channel a head: [batch, heads * head_dim, seq_len, width], missing columns filled with zeros."""
    stacked = F.pad(torch.stack(columns, -1), (0, width - len(columns)))
    return stacked.transpose(2, 3).flatten(1, 2).contiguous()


def _check(query: Tensor, key: Tensor, value: Tensor, scale: float) -> None:
    validate_qkv(query, key, value)
    check("element-wise", DISTANCE_SCALE, scale)
