"""EA-series: element-wise attention with exp replaced by its Taylor polynomial, linear in seq_len."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from attention_impls.chunks import accumulator_dtype, chunk_rows, empty_sums, plan_chunks, unstabilised_chunks
from attention_impls.hyperparameters import DISTANCE_SCALE, ORDER, STABILISER, check
from attention_impls.nouns import Problem
from attention_impls.validate import validate_qkv

Sums = list[Tensor]  # one tensor per power 0..order

BAND = 0.01  # relative error of the polynomial that still counts as close


class State(NamedTuple):
    """Moments of the tokens so far, in float32 (float64 for float64).

    value_moments, key_moments: S_n and Z_n relative to exp(top), [order + 1, batch, heads, head_dim].
    top: running maximum of -scale k^2, [batch, heads, head_dim].
    """

    value_moments: Tensor
    key_moments: Tensor
    top: Tensor


class Carry(NamedTuple):
    """A state as the causal sweep carries it from chunk to chunk: tensors [batch, heads, 1, head_dim]."""

    value_moments: Sums
    key_moments: Sums
    top: Tensor


class Pieces(NamedTuple):
    """The three inner computations, plain or compiled; the loops over chunks around them are the same."""

    moments: Callable[..., tuple[Sums, Sums]]
    ratio: Callable[..., Tensor]
    causal_chunk: Callable[..., tuple[Tensor, Sums, Sums]]


def eager(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    order: int = 6,
    scale: float = 1.0,
    stabiliser: bool = True,
) -> Tensor:
    """EA-series: element-wise attention through order + 1 moments per channel, in time linear in seq_len.

    Formula: exp(-s (q - k)^2) ~ exp(-s q^2) exp(-s k^2) T_t(2 s q k) with T_t(x) = sum_{n<=t} x^n / n!;
    exp(-s q^2) cancels. With u_j = exp(-s k_j^2):
    S_n = sum_j u_j k_j^n v_j, Z_n = sum_j u_j k_j^n (prefix sums when causal),
    y = sum_n a_n q^n S_n / sum_n a_n q^n Z_n, a_n = (2 s)^n / n!. All products are element-wise.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim]; every channel is its own head.
        causal: position i sees positions j <= i only.
        order: t, the highest power, even: then T_t > 0 everywhere, the weights are positive and y stays
            between the least and the greatest value. An odd T_t has a zero, and y a pole.
        scale: s > 0; the same as scaling query and key by sqrt(s).
        stabiliser: compute u relative to its maximum per channel, which cancels, so that it cannot
            underflow. Without it a channel whose keys are all beyond |k| = 9 / sqrt(s) in float32 has no
            weight left, and its output is not a number.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query. Sums are kept in float32 for half
        precision. Close to exact element-wise attention only where |2 s q k| is small: for t = 6 within
        1 % where -1.46 < 2 s q k < 2.33. Where all keys seen are so great that |k|^t leaves the range
        of the sums (10^38 in float32), the output is not a number.

    Complexity: O(t L D) time; O(L D) memory forward, O(t L D) with gradients by autograd.

    Raises:
        InvalidArgument: the tensors, the order or the scale break their rules.

    Paper: Feng 2025, arXiv 2501.05730 (from its abstract; the construction in moments, the stabiliser
    and the restriction to even orders are ours).
    """
    validate(query, key, value, order, scale, stabiliser)
    if causal:
        return sweep(query, key, value, order, scale, stabiliser, PLAIN)[0]
    return full(query, key, value, order, scale, stabiliser, PLAIN, chunk_rows(query))


def oracle(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    order: int = 6,
    scale: float = 1.0,
    stabiliser: bool = True,
) -> Tensor:
    """The float64 truth: all [seq_len, seq_len, head_dim] weights exp(-s k^2) T_t(2 s q k), no moments."""
    validate(query, key, value, order, scale, stabiliser)
    query, key, value = query.double(), key.double(), value.double()
    product = 2 * scale * query[:, :, :, None] * key[:, :, None]
    term = polynomial = product.pow(0)
    for n in range(1, order + 1):
        term = term * product / n
        polynomial = polynomial + term
    log_gauss = (-scale * key**2)[:, :, None].expand_as(product)
    if causal:
        length = query.shape[-2]
        future = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
        log_gauss = log_gauss.masked_fill(future[..., None], -torch.inf)
    weights = torch.exp(log_gauss - log_gauss.amax(3, keepdim=True)) * polynomial
    return torch.einsum("bhijd,bhjd->bhid", weights, value) / weights.sum(3)


def outside_band(
    query: Tensor,
    key: Tensor,
    *,
    causal: bool = False,
    order: int = 6,
    scale: float = 1.0,
    stabiliser: bool = True,
) -> float:
    """Share of the arguments x = 2 s q k, of pairs that see each other, where T_t(x) is off e^x by over 1 %."""
    argument = 2 * scale * query.double()[:, :, :, None] * key.double()[:, :, None]
    term = polynomial = torch.ones_like(argument)
    for n in range(1, order + 1):
        term = term * argument / n
        polynomial = polynomial + term
    outside = (polynomial * torch.exp(-argument) - 1).abs() > BAND
    if causal:
        length = query.shape[-2]
        seen = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        outside = outside[:, :, seen]
    return float(outside.double().mean())


def init_state(problem: Problem) -> State:
    """The empty moments before the first token."""
    order = problem.knob(ORDER)
    shape = (problem.batch, problem.heads, problem.head_dim)
    zeros = empty_sums(problem, order + 1, *shape)
    return State(zeros, zeros.clone(), torch.full_like(zeros[0], -torch.inf))


def prefill(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: State | None = None,
    *,
    order: int = 6,
    scale: float = 1.0,
    stabiliser: bool = True,
) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, moments after the last).

    With a state, the tokens follow those that it stands for. Arguments and errors as ``eager``.
    """
    validate(query, key, value, order, scale, stabiliser)
    output, carry = sweep(query, key, value, order, scale, stabiliser, PLAIN, _carried(state))
    value_moments, key_moments = (torch.stack(side).squeeze(-2) for side in carry[:2])
    return output, State(value_moments, key_moments, carry.top.squeeze(-2).clone())


def step(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: State,
    *,
    order: int = 6,
    scale: float = 1.0,
    stabiliser: bool = True,
) -> tuple[Tensor, State]:
    """One token: tensors [batch, heads, head_dim] and the moments so far -> (output, new moments).

    Complexity: O(t D) time and state, whatever the number of tokens.
    """
    wide = state.top.dtype
    key_row = key.to(wide)
    log_weight = -scale * key_row * key_row
    top = torch.maximum(state.top, log_weight) if stabiliser else torch.zeros_like(log_weight)
    decay = torch.exp(state.top - top)
    powers = torch.stack(_weighted_powers(torch.exp(log_weight - top), key_row, order))
    value_moments = decay * state.value_moments + powers * value.to(wide)
    key_moments = decay * state.key_moments + powers
    output = _ratio(query, list(value_moments), list(key_moments), order, scale)
    return output, State(value_moments, key_moments, top)


def merge(earlier: State, later: State) -> State:
    """The moments after the tokens of one state and then of another, neither empty."""
    top = torch.maximum(earlier.top, later.top)
    before, after = torch.exp(earlier.top - top), torch.exp(later.top - top)
    return State(
        before * earlier.value_moments + after * later.value_moments,
        before * earlier.key_moments + after * later.key_moments,
        top,
    )


def full(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    order: int,
    scale: float,
    stabiliser: bool,
    pieces: Pieces,
    rows: int,
) -> Tensor:
    """Moments of all keys, then the ratio at every query, a chunk at a time."""
    sums = totals_of(key, value, order, scale, stabiliser, pieces, rows)
    return read(query, sums, order, scale, pieces, rows)


def totals_of(
    key: Tensor, value: Tensor, order: int, scale: float, stabiliser: bool, pieces: Pieces, rows: int
) -> Carry:
    """The moments of all keys, relative to the highest log-weight."""
    keys, values = torch.split(key, rows, -2), torch.split(value, rows, -2)
    with torch.no_grad():
        tops = [_log_weight(chunk, scale).amax(-2, keepdim=True) for chunk in keys]
        top = torch.stack(tops).amax(0) if stabiliser else torch.zeros_like(tops[0])
        top = top.clamp_min(torch.finfo(top.dtype).min)  # finite, so that a reference to another is a number
    parts = [pieces.moments(k, v, top, order, scale) for k, v in zip(keys, values, strict=True)]
    value_moments, key_moments = (_total(list(side)) for side in zip(*parts, strict=True))
    return Carry(value_moments, key_moments, top)


def read(query: Tensor, sums: Carry, order: int, scale: float, pieces: Pieces, rows: int) -> Tensor:
    """The ratio at every query of the moments of all keys."""
    outputs = [
        pieces.ratio(chunk, sums.value_moments, sums.key_moments, order, scale)
        for chunk in torch.split(query, rows, -2)
    ]
    return torch.cat(outputs, -2)


def _carried(state: State | None) -> Carry | None:
    if state is None:
        return None
    value_moments, key_moments, top = (part.unsqueeze(-2) for part in state)
    return Carry(list(value_moments), list(key_moments), top)


def sweep(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    order: int,
    scale: float,
    stabiliser: bool,
    pieces: Pieces,
    carry: Carry | None = None,
) -> tuple[Tensor, Carry]:
    """Prefix sums chunk by chunk, carrying the moments relative to the running top; and what is carried out."""
    rows = min(chunk_rows(query), query.shape[-2])
    if stabiliser:
        before = carry.top if carry else None
        sizes, tops = plan_chunks(key, rows, lambda chunk: _log_weight(chunk, scale), before)
    else:
        sizes, tops = unstabilised_chunks(key, rows)
    zeros = [torch.zeros_like(tops[0])] * (order + 1)
    value_moments, key_moments, old_top = carry or Carry(zeros, zeros, tops[0])
    chunks = (torch.split(x, sizes, -2) for x in (query, key, value))
    outputs = []
    for q, k, v, top in zip(*chunks, tops, strict=True):
        # A chunk cut short has a length of its own: not worth compiling for.
        form = pieces.causal_chunk if k.shape[-2] == rows else _causal_chunk
        output, value_moments, key_moments = form(
            q, k, v, value_moments, key_moments, old_top, top, order, scale
        )
        outputs.append(output)
        old_top = top
    return torch.cat(outputs, -2), Carry(value_moments, key_moments, old_top)


def _moments(key: Tensor, value: Tensor, top: Tensor, order: int, scale: float) -> tuple[Sums, Sums]:
    """S_n and Z_n of one chunk relative to exp(top), each [batch, heads, 1, head_dim]."""
    wide_key, wide_value = key.to(top.dtype), value.to(top.dtype)
    weights = torch.exp(_log_weight(key, scale) - top)
    powers = _weighted_powers(weights, wide_key, order)
    value_moments = [(power * wide_value).sum(-2, keepdim=True) for power in powers]
    return value_moments, [power.sum(-2, keepdim=True) for power in powers]


def _causal_chunk(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    value_moments: Sums,
    key_moments: Sums,
    old_top: Tensor,
    top: Tensor,
    order: int,
    scale: float,
) -> tuple[Tensor, Sums, Sums]:
    """Outputs of one chunk and the moments at its end, from the moments before it."""
    wide_key, wide_value = key.to(top.dtype), value.to(top.dtype)
    decay = torch.exp(old_top - top)
    powers = _weighted_powers(torch.exp(_log_weight(key, scale) - top), wide_key, order)
    value_prefix = [
        torch.cumsum(power * wide_value, -2) + decay * carried
        for power, carried in zip(powers, value_moments, strict=True)
    ]
    key_prefix = [
        torch.cumsum(power, -2) + decay * carried for power, carried in zip(powers, key_moments, strict=True)
    ]
    output = _ratio(query, value_prefix, key_prefix, order, scale)
    return output, _last_rows(value_prefix), _last_rows(key_prefix)


def _last_rows(prefix: Sums) -> Sums:
    """The sums at a chunk's end, as copies unless a graph keeps all of the chunk's sums anyway."""
    ends = [sums[..., -1:, :] for sums in prefix]
    return [end if end.requires_grad else end.clone() for end in ends]


def _ratio(query: Tensor, value_moments: Sums, key_moments: Sums, order: int, scale: float) -> Tensor:
    """sum a_n q^n S_n / sum a_n q^n Z_n, both by Horner's rule with a_n / a_{n-1} = 2 s / n."""
    x = 2 * scale * query.to(key_moments[0].dtype)
    numerator, denominator = value_moments[order], key_moments[order]
    for n in range(order, 0, -1):
        numerator = torch.addcmul(value_moments[n - 1], x, numerator, value=1 / n)
        denominator = torch.addcmul(key_moments[n - 1], x, denominator, value=1 / n)
    if order == 0:
        numerator = numerator * x.pow(0)  # the query has no say, but a gradient: zero rather than missing
    return (numerator / denominator).to(query.dtype)


def _weighted_powers(weights: Tensor, key: Tensor, order: int) -> Sums:
    """u k^n for n = 0..order, built up from u, so that a vanished u stays 0 where k^n alone overflows."""
    powers = [weights]
    for _ in range(order):
        powers.append(powers[-1] * key)
    return powers


def _log_weight(key: Tensor, scale: float) -> Tensor:
    wide_key = key.to(accumulator_dtype(key.dtype))
    return -scale * wide_key * wide_key


def _total(parts: list[Sums]) -> Sums:
    """The sum over chunks, power by power."""
    return [torch.stack(same_power).sum(0) for same_power in zip(*parts, strict=True)]


PLAIN = Pieces(_moments, _ratio, _causal_chunk)


def validate(query: Tensor, key: Tensor, value: Tensor, order: int, scale: float, stabiliser: bool) -> None:
    """Refuse tensors and knobs that EA-series cannot honour.

    Raises:
        InvalidArgument: with the rule and what came.
    """
    validate_qkv(query, key, value)
    check("ea-series", ORDER, order)
    check("ea-series", DISTANCE_SCALE, scale)
    check("ea-series", STABILISER, stabiliser)
