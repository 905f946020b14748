"""Linear attention at several resolutions, weighed by a router: a labelled stand-in for AdaMRA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls.blocks import block_rows, chunk_rows, read, split, sums_before, whole_chunks, write
from attention_impls.chunks import accumulator_dtype
from attention_impls.hyperparameters import RESOLUTIONS, check
from attention_impls.linear import elu_plus_one
from attention_impls.nouns import InvalidArgument
from attention_impls.validate import validate_qkv

EPSILON = 1e-6  # added to every denominator, as in ``linear``


class Sums(NamedTuple):
    """Over the pooled keys of every resolution, in float32 (float64 for float64). G is batch * heads.

    context: of phi(k) v^T, [G, resolutions * head_dim, head_dim].
    normaliser: of phi(k), [G, resolutions, head_dim].
    """

    context: Tensor
    normaliser: Tensor


def eager(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    resolutions: int = 3,
    router: Tensor | None = None,
) -> Tensor:
    """Linear attention over tokens, pairs, fours and so on; every query chooses how much of each.

    Formula: y = sum_r pi_r phi(q)^T (phi(K_r)^T V_r) / (phi(q)^T sum phi(K_r) + 1e-6), phi = elu + 1,
    pi = softmax(q^T router), K_r and V_r being means of blocks of r = 1, 2, 4 .. 2^(resolutions - 1) positions.
    A last block may be shorter: the mean of what it has.

    OUR STAND-IN: the paper's pooling and router are not public. Causal is OUR EXTENSION: resolution r sees
    the blocks that are complete, block b from position (b + 1) r - 1 on; one that sees none gets no share.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: position i sees positions j <= i only.
        resolutions: how many, from 1 to ``hyperparameters.MAX_RESOLUTIONS``.
        router: learned, [heads, head_dim, resolutions]; needed.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(R L D^2 / H) time, O(L D) memory: beside the output, and the gradients, the temporaries of
    a block of positions, which the backward pass computes again. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: tensors, resolutions or router break their rules.

    Paper: after Zhang et al. 2021 (AdaMRA), arXiv 2108.04962.
    """
    checked = _check(query, key, value, resolutions, router)
    form = _Causal if causal else _Full
    wide = checked.to(accumulator_dtype(query.dtype))  # so that its gradient is summed wide
    output: Tensor = form.apply(query, key, value, wide)  # type: ignore[no-untyped-call]
    return output


def oracle(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    resolutions: int = 3,
    router: Tensor | None = None,
) -> Tensor:
    """The float64 truth: the [seq_len, seq_len] weights of every resolution, by matrices that pool."""
    router = _check(query, key, value, resolutions, router).double()
    query, key, value = query.double(), key.double(), value.double()
    positions = torch.arange(query.shape[2], device=query.device)
    logits = torch.einsum("bhid,hdr->bhir", query, router)
    sizes = 2 ** torch.arange(resolutions, device=query.device)
    if causal:
        logits = logits.masked_fill(positions[:, None] + 1 < sizes, -torch.inf)
    shares = torch.softmax(logits, -1)
    weights = sum(
        shares[..., level, None] * _weights_of_level(query, key, size, causal)
        for level, size in enumerate(sizes.tolist())
    )
    return torch.einsum("bhij,bhjd->bhid", weights, value)


def _weights_of_level(query: Tensor, key: Tensor, size: int, causal: bool) -> Tensor:
    """What every query gives to every position through the means of blocks, [.., seq_len, seq_len]."""
    positions = torch.arange(key.shape[2], device=key.device)
    blocks = torch.arange(-(-key.shape[2] // size), device=key.device)
    members = (positions // size == blocks[:, None]).to(key.dtype)
    means = members / members.sum(-1, keepdim=True)
    query, key = (torch.where(x > 0, x + 1, torch.exp(x.clamp(max=0))) for x in (query, means @ key))
    weights = torch.einsum("bhid,bhjd->bhij", query, key)
    if causal:
        weights = weights * ((blocks + 1) * size <= positions[:, None] + 1)
    return weights / (weights.sum(-1, keepdim=True) + EPSILON) @ means


class _Full(torch.autograd.Function):
    """Sums over the pooled keys, then the answer to every query, a block at a time."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, router: Tensor) -> Tensor:
        sums = _no_sums(query, router)
        for rows in _blocks(query, router, causal=False):
            added = _summed(read(key, rows), read(value, rows), levels=router.shape[-1])
            sums = Sums(*(total.add_(more) for total, more in zip(sums, added, strict=True)))
        output = torch.empty_like(query)
        for rows in _blocks(query, router, causal=False):
            write(output, rows, _answered(read(query, rows), router, *sums))
        ctx.save_for_backward(query, key, value, router, *sums)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, ...]:
        """First through the answers to the sums, then through the sums to the keys and values."""
        query, key, value, router, *sums = ctx.saved_tensors
        gradients = [torch.empty_like(x) for x in (query, key, value)]
        of_all = [torch.zeros_like(x) for x in (router, *sums)]
        for rows in _blocks(query, router, causal=False):
            inputs = read(query, rows), router, *sums
            of_query, *others = _pulled_back(_answered, inputs, [read(upstream, rows)])
            write(gradients[0], rows, of_query)
            of_all = [total.add_(more) for total, more in zip(of_all, others, strict=True)]
        pool = partial(_summed, levels=router.shape[-1])
        for rows in _blocks(query, router, causal=False):
            parts = _pulled_back(pool, (read(key, rows), read(value, rows)), of_all[1:])
            for gradient, part in zip(gradients[1:], parts, strict=True):
                write(gradient, rows, part)
        return *gradients, of_all[0]


class _Causal(torch.autograd.Function):
    """The same with the sums of each query's past: chunks of a block at once, and the sums before them."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, router: Tensor) -> Tensor:
        keep = any(ctx.needs_input_grad)
        carried = _no_sums(query, router)
        kept: list[Tensor] = []
        output = torch.empty_like(query)
        for rows in _blocks(query, router, causal=True):
            kept += carried if keep else ()
            q, k, v = (read(x, rows) for x in (query, key, value))
            block, *sums = _causal_block(q, k, v, router, *carried, start=rows.start)
            carried = Sums(*sums)
            write(output, rows, block)
        ctx.save_for_backward(query, key, value, router, *kept)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, ...]:
        """Block by block from the end, with the gradients of the sums at each block's end."""
        query, key, value, router, *kept = ctx.saved_tensors
        gradients = [torch.empty_like(x) for x in (query, key, value)]
        behind: Sequence[Tensor] = _no_sums(query, router)
        of_router = torch.zeros_like(router)
        for rows in reversed(_blocks(query, router, causal=True)):
            normaliser, context = kept.pop(), kept.pop()
            inputs = *(read(x, rows) for x in (query, key, value)), router, context, normaliser
            block = partial(_causal_block, start=rows.start)
            *parts, more, of_context, of_normaliser = _pulled_back(
                block, inputs, [read(upstream, rows), *behind]
            )
            behind = of_context, of_normaliser
            of_router += more
            for gradient, part in zip(gradients, parts, strict=True):
                write(gradient, rows, part)
        return *gradients, of_router


def _pulled_back(
    function: Callable[..., Tensor | tuple[Tensor, ...]], inputs: Sequence[Tensor], upstream: Sequence[Tensor]
) -> Sequence[Tensor]:
    """Gradients of a block's inputs: the block is computed again, this time with autograd."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    with torch.enable_grad():
        outputs = function(*leaves)
    return torch.autograd.grad(outputs, leaves, upstream, materialize_grads=True)


def _summed(key: Tensor, value: Tensor, *, levels: int) -> Sums:
    """The sums of a block, every resolution with its own means; key and value [G, rows, head_dim]."""
    contexts, normalisers = [], []
    for level in range(levels):
        features = elu_plus_one(_means(key, 2**level))
        contexts.append(features.mT @ _means(value, 2**level))
        normalisers.append(features.sum(-2, keepdim=True))
    return Sums(torch.cat(contexts, -2), torch.cat(normalisers, -2))


def _answered(query: Tensor, router: Tensor, context: Tensor, normaliser: Tensor) -> Tensor:
    """Outputs [G, rows, head_dim] of queries that see all of the sums."""
    features = elu_plus_one(query)
    shares = torch.softmax(_logits(query, router), -1)
    return _from_sums(features, shares / _totals(features, normaliser), context)


def _causal_block(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    router: Tensor,
    context: Tensor,
    normaliser: Tensor,
    *,
    start: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs of a block of whole chunks or of one short one, and the sums at its end from those before it.

    Inside a chunk the complete blocks of all resolutions are one list of keys, masked. A chunk begins where
    a block of every resolution does.
    """
    rows, levels = query.shape[-2], router.shape[-1]
    chunk = min(rows, _chunk(query, levels))
    keys = [split(elu_plus_one(x), chunk // 2**n) for n, x in enumerate(_complete(key, levels)) if x.numel()]
    values = [split(x, chunk // 2**n) for n, x in enumerate(_complete(value, levels)) if x.numel()]
    contexts, context = _before([k.mT @ v for k, v in zip(keys, values, strict=True)], context, levels)
    normalisers, normaliser = _before([k.sum(-2, keepdim=True) for k in keys], normaliser, levels)
    visible, members = _inside(query, chunk, levels)
    features, pooled = split(elu_plus_one(query), chunk), torch.cat(values, -2)
    inside = (features @ torch.cat(keys, -2).mT).masked_fill(~visible, 0)
    shares = split(_causal_shares(_logits(query, router), start), chunk)
    factors = shares / (_totals(features, normalisers) + inside @ members)
    output = torch.baddbmm(_from_sums(features, factors, contexts), inside * (factors @ members.mT), pooled)
    return output.view_as(query), context, normaliser


def _before(sums: list[Tensor], carried: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """For every chunk the sums before it, of all resolutions; those too coarse for a short chunk add none."""
    missing = [torch.zeros_like(sums[0])] * (levels - len(sums))
    return sums_before(torch.cat([*sums, *missing], -2), carried)


def _inside(query: Tensor, chunk: int, levels: int) -> tuple[Tensor, Tensor]:
    """Of a chunk's complete blocks, all resolutions in a row: who sees them, [chunk, blocks], and which
    resolution they are of, [blocks, levels] of zeros and ones."""
    sizes = [2**level for level in range(levels)]
    ends = torch.tensor([end for size in sizes for end in range(size - 1, chunk, size)])
    owners = torch.tensor([level for level, size in enumerate(sizes) for _ in range(chunk // size)])
    visible = ends <= torch.arange(chunk)[:, None]
    members = owners[:, None] == torch.arange(levels)
    return visible.to(query.device), members.to(query.device, query.dtype)


def _causal_shares(logits: Tensor, start: int) -> Tensor:
    """Softmax over the resolutions that have a complete block at that position."""
    rows, levels = logits.shape[-2:]
    coarsest = 2 ** (levels - 1)
    if start + 1 < coarsest:
        seen = torch.arange(start + 1, start + rows + 1, device=logits.device)
        sizes = 2 ** torch.arange(levels, device=logits.device)
        logits = logits.masked_fill(seen[:, None] < sizes, -torch.inf)
    return torch.softmax(logits, -1)


def _from_sums(features: Tensor, factors: Tensor, context: Tensor) -> Tensor:
    """Sum over resolutions of factor * phi(q)^T context, one product."""
    return (factors[..., None] * features[..., None, :]).flatten(-2) @ context


def _totals(features: Tensor, normaliser: Tensor) -> Tensor:
    """The denominators [.., rows, resolutions]."""
    return features @ normaliser.mT + EPSILON


def _logits(query: Tensor, router: Tensor) -> Tensor:
    """[G, rows, resolutions], from the router of every head."""
    heads, head_dim, levels = router.shape
    batch = len(query) // heads
    return query @ router.expand(batch, heads, head_dim, levels).flatten(0, 1)


def _means(x: Tensor, size: int) -> Tensor:
    """Means of blocks of so many rows, the last of what it has; [G, rows, columns]."""
    if size == 1:
        return x
    whole = x.shape[-2] // size * size
    parts = [torch.unflatten(x[:, :whole], 1, (-1, size)).mean(2)] if whole else []
    if whole < x.shape[-2]:
        parts.append(x[:, whole:].mean(1, keepdim=True))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _complete(x: Tensor, levels: int) -> list[Tensor]:
    """Means of the complete blocks of every resolution; a finer one's, two by two, are a coarser one's."""
    found = [x]
    while len(found) < levels:
        finer = found[-1]
        pairs = finer.shape[1] // 2
        found.append(torch.unflatten(finer[:, : 2 * pairs], 1, (pairs, 2)).mean(2))
    return found


def _chunk(query: Tensor, levels: int) -> int:
    """Rows of a causal chunk: those of ``blocks``, rounded up to whole blocks of the coarsest resolution."""
    coarsest: int = 2 ** (levels - 1)
    return -(-chunk_rows(query) // coarsest) * coarsest


def _blocks(query: Tensor, router: Tensor, *, causal: bool) -> list[slice]:
    """The positions of every block of a sweep: whole chunks, or when causal one short chunk at the end."""
    chunk, length = _chunk(query, router.shape[-1]), query.shape[-2]
    rows = -(-block_rows(query, causal) // chunk) * chunk
    found = [slice(start, min(start + rows, length)) for start in range(0, length, rows)]
    return [part for each in found for part in whole_chunks(each, chunk)] if causal else found


def _no_sums(query: Tensor, router: Tensor) -> Sums:
    batch, heads, _, head_dim = query.shape
    levels, wide = router.shape[-1], accumulator_dtype(query.dtype)
    context = query.new_zeros(batch * heads, levels * head_dim, head_dim, dtype=wide)
    return Sums(context, query.new_zeros(batch * heads, levels, head_dim, dtype=wide))


def _check(query: Tensor, key: Tensor, value: Tensor, resolutions: int, router: Tensor | None) -> Tensor:
    validate_qkv(query, key, value)
    check("multi-resolution", RESOLUTIONS, resolutions)
    wanted = [query.shape[1], query.shape[3], resolutions]
    if router is None or list(router.shape) != wanted:
        came = "None" if router is None else f"of shape {list(router.shape)}"
        raise InvalidArgument(
            f"multi-resolution: router must be [heads, head_dim, resolutions], here {wanted}; it is {came}"
        )
    return router
