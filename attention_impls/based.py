"""Based: weights by the second-order Taylor polynomial of exp, of narrow queries and keys."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attention_impls.costs.taylor import based_key_width
from attention_impls.hyperparameters import FEATURE_DIM, check
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

__all__ = ["eager", "init_state", "merge", "oracle", "prefill", "step"]

EPSILON = 1e-12  # added to the sum of the weights, as in the authors' code


def eager(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, feature_dim: int = 16
) -> Tensor:
    """Weights 1 + x + x^2 / 2 of the dot products of narrow queries and keys, in time linear in seq_len.

    Formula: y_i = sum_j w_ij v_j / (sum_j w_ij + 1e-12), w_ij = 1 + x_ij + x_ij^2 / 2, x_ij = q_i^T k_j / sqrt(f),
    over j <= i when causal. The form that is not causal is OUR EXTENSION. Half precision is computed in
    float32. Features are symmetric monomials, 153 at f = 16, where the authors keep 273.

    Args:
        query, key: [batch, heads, seq_len, f], f = min(head_dim, feature_dim).
        value: [batch, heads, seq_len, head_dim].
        causal: position i sees positions j <= i only.
        feature_dim: widest that a query and a key are.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L f^2 D) time; O(L D) memory and the sums, f^2 D / 2. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: tensors or feature_dim break their rules.

    Paper: Arora et al. 2024, arXiv 2402.18668; there beside layers of sliding windows, which are not here.
    """
    _validate(query, key, value, feature_dim)
    return attend(query, key, value, _polynomial(query.shape[-1]), causal=causal)


def oracle(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, feature_dim: int = 16
) -> Tensor:
    """The float64 truth: the [seq_len, seq_len] weights (1 + (1 + x)^2) / 2, divided by their sums."""
    _validate(query, key, value, feature_dim)
    scores = torch.einsum("bhid,bhjd->bhij", query.double(), key.double()) / math.sqrt(query.shape[-1])
    weights = (1 + (1 + scores).square()) / 2
    if causal:
        weights = weights.tril()
    return torch.einsum("bhij,bhjd->bhid", weights, value.double()) / (
        weights.sum(-1, keepdim=True) + EPSILON
    )


def init_state(problem: Problem) -> State:
    """The empty sums before the first token."""
    return empty_state(problem, _polynomial(based_key_width(problem)))


def prefill(
    query: Tensor, key: Tensor, value: Tensor, state: State | None = None, *, feature_dim: int = 16
) -> tuple[Tensor, State]:
    """Many tokens at once: tensors as of ``eager`` -> (causal output, sums after the last).

    With a state, the tokens follow those that it stands for. Errors as ``eager``. Computes no gradients.
    """
    _validate(query, key, value, feature_dim)
    return attend_onwards(query, key, value, state, _polynomial(query.shape[-1]))


def step(
    query: Tensor, key: Tensor, value: Tensor, state: State, *, feature_dim: int = 16
) -> tuple[Tensor, State]:
    """One token: query and key [batch, heads, f], value [batch, heads, head_dim] and the sums so far ->
    (output, new sums).

    Complexity: O(f^2 D) time and state, whatever the number of tokens.
    """
    check("based", FEATURE_DIM, feature_dim)
    if query.shape[-1] != (wanted := min(value.shape[-1], feature_dim)):
        raise InvalidArgument(f"based: query and key must be {wanted} wide; they are {query.shape[-1]}")
    return attend_once(query, key, value, state, _polynomial(query.shape[-1]))


def _validate(query: Tensor, key: Tensor, value: Tensor, feature_dim: int) -> None:
    check("based", FEATURE_DIM, feature_dim)
    validate_qkv(query, key, value, key_width=min(value.shape[-1], feature_dim))


def _polynomial(width: int) -> Polynomial:
    return Polynomial(width, (1.0, width**-0.5, 0.5 / width), epsilon=EPSILON)
