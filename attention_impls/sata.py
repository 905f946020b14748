"""SATA: the Taylor series of softmax attention through symmetric monomials, linear in seq_len."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attention_impls.costs.taylor import too_many_features
from attention_impls.hyperparameters import SERIES_ORDER, check
from attention_impls.nouns import InvalidArgument, Problem
from attention_impls.polynomial import Polynomial
from attention_impls.polynomial_attention import (
    State,
    attend,
    attend_once,
    attend_onwards,
    empty_state,
    merge,
)
from attention_impls.validate import validate_qkv

__all__ = ["eager", "init_state", "merge", "oracle", "outside_band", "prefill", "step"]

BAND = 0.01  # relative error of the series up to which it counts as right


def eager(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, order: int = 2) -> Tensor:
    """Softmax attention with exp replaced by its Taylor polynomial, in time linear in seq_len.

    Formula: y_i = sum_j w_ij v_j / sum_j w_ij, w_ij = sum_(p <= order) (q_i^T k_j)^p / (p! head_dim^(p/2)), over
    j <= i when causal. (q^T k)^p = sum_m C_m phi_m(q) phi_m(k) over the C(head_dim + p - 1, p) multisets of p
    channels. Half precision is computed in float32.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: position i sees positions j <= i only.
        order: highest power, even: weights are then above 0. The authors count terms, order + 1, and take any.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: with M = C(D / H + order, order) features, O(L M D) time; O(L D) memory and the sums, M D.
    Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: tensors or order break their rules, or there are too many features.

    Paper: Heinsen & Kozachkov 2026, arXiv 2602.00294.
    """
    validate_qkv(query, key, value)
    return attend(query, key, value, _polynomial(query.shape[-1], order), causal=causal)


def oracle(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, order: int = 2) -> Tensor:
    """The float64 truth: the [seq_len, seq_len] weights, term by term, divided by their sums."""
    validate_qkv(query, key, value)
    check("sata", SERIES_ORDER, order)
    scores = query.double() @ key.double().mT / math.sqrt(query.shape[-1])
    weights = _series(scores, order)
    if causal:
        weights = weights.tril()
    return weights / weights.sum(-1, keepdim=True) @ value.double()


def outside_band(query: Tensor, key: Tensor, *, causal: bool = False, order: int = 2) -> float:
    """Share of the pairs that see each other where the polynomial is off exp by over 1 %."""
    scores = query.double() @ key.double().mT / math.sqrt(query.shape[-1])
    outside = (_series(scores, order) * torch.exp(-scores) - 1).abs() > BAND
    if causal:
        outside = outside[:, :, torch.ones_like(outside[0, 0]).tril()]  # of pairs that see each other
    return float(outside.double().mean())


def init_state(problem: Problem) -> State:
    """The empty sums before the first token."""
    order = problem.knob(SERIES_ORDER)
    return empty_state(problem, _polynomial(problem.head_dim, order))


def prefill(
    query: Tensor, key: Tensor, value: Tensor, state: State | None = None, *, order: int = 2
) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, sums after the last).

    With a state, the tokens follow those that it stands for. Errors as ``eager``. Computes no gradients.
    """
    validate_qkv(query, key, value)
    return attend_onwards(query, key, value, state, _polynomial(query.shape[-1], order))


def step(query: Tensor, key: Tensor, value: Tensor, state: State, *, order: int = 2) -> tuple[Tensor, State]:
    """One token: tensors [batch, heads, head_dim] and the sums so far -> (output, new sums).

    Complexity: O(M D) time and state, whatever the number of tokens.
    """
    return attend_once(query, key, value, state, _polynomial(query.shape[-1], order))


def _series(scores: Tensor, order: int) -> Tensor:
    return torch.stack([scores.pow(p) / math.factorial(p) for p in range(order + 1)]).sum(0)


def _polynomial(width: int, order: int) -> Polynomial:
    check("sata", SERIES_ORDER, order)
    if reason := too_many_features(width, order):
        raise InvalidArgument(f"sata: {reason}")
    return Polynomial(width, tuple(width ** (-p / 2) / math.factorial(p) for p in range(order + 1)))
