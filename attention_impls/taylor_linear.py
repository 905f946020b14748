"""Linear attention by the first-order Taylor expansion of exp, on normalised queries and keys."""

from __future__ import annotations

import torch
from torch import Tensor

from attention_impls.chunks import accumulator_dtype
from attention_impls.nouns import Problem
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

__all__ = ["eager", "init_state", "merge", "oracle", "prefill", "step", "unit"]

EPSILON = 1e-4
"""Is added to every weight: where all keys point away from a query its weights are 0 and no mean is defined.
So large that it outweighs what float32 rounds off 1 + cos. The authors add 1e-6 to the sum of the keys instead,
which may be negative."""


def eager(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """Weights 1 + cos(q, k), the first two terms of exp, in time linear in seq_len.

    Formula: y_i = sum_j w_ij v_j / sum_j w_ij, w_ij = 1 + 1e-4 + (q_i / |q_i|)^T (k_j / |k_j|), through the sums
    of v_j, k_j v_j^T / |k_j|, 1 and k_j / |k_j|. A vector of zeros stays one. The causal form, over j <= i, is
    OUR EXTENSION. Half precision is computed in float32.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: position i sees positions j <= i only.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L D^2 / H) time, O(L D) memory. Gradients can be taken once, not twice.

    Raises:
        InvalidArgument: the tensors break their rules.

    Paper: Li et al. 2020, arXiv 2007.14902; there of images, with one head and keys of an eighth of the width.
    """
    validate_qkv(query, key, value)
    return attend(unit(query), unit(key), value, _polynomial(query.shape[-1]), causal=causal)


def oracle(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """The float64 truth: the [seq_len, seq_len] cosines, from products and lengths."""
    validate_qkv(query, key, value)
    query, key, value = query.double(), key.double(), value.double()
    products = torch.einsum("bhid,bhjd->bhij", query, key)
    lengths = query.square().sum(-1).sqrt()[..., :, None] * key.square().sum(-1).sqrt()[..., None, :]
    weights = 1 + EPSILON + products / lengths.clamp_min(torch.finfo(torch.float64).tiny)
    if causal:
        weights = weights.tril()
    return torch.einsum("bhij,bhjd->bhid", weights, value) / weights.sum(-1, keepdim=True)


def init_state(problem: Problem) -> State:
    """The empty sums before the first token."""
    return empty_state(problem, _polynomial(problem.head_dim))


def prefill(query: Tensor, key: Tensor, value: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, sums after the last).

    With a state, the tokens follow those that it stands for. Errors as ``eager``. Computes no gradients.
    """
    validate_qkv(query, key, value)
    return attend_onwards(unit(query), unit(key), value, state, _polynomial(query.shape[-1]))


def step(query: Tensor, key: Tensor, value: Tensor, state: State) -> tuple[Tensor, State]:
    """One token: tensors [batch, heads, head_dim] and the sums so far -> (output, new sums).

    Complexity: O(D^2 / H) time and state, whatever the number of tokens.
    """
    return attend_once(unit(query), unit(key), value, state, _polynomial(query.shape[-1]))


def unit(x: Tensor) -> Tensor:
    """Rows of length 1, in float32 or float64; a row of zeros stays one, and its gradient finite."""
    wide = x.to(accumulator_dtype(x.dtype))
    length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return wide / torch.where(length > 0, length, 1)


def _polynomial(width: int) -> Polynomial:
    return Polynomial(width, (1 + EPSILON, 1.0))
