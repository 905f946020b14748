"""TaylorShift: weights by the second-order Taylor polynomial of exp, in whichever of two ways is cheaper."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

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
from attention_impls.polynomial_direct import attend_directly
from attention_impls.taylor_linear import unit
from attention_impls.validate import validate_qkv

__all__ = ["direct", "efficient", "init_state", "merge", "oracle", "prefill", "step"]

COEFFICIENTS = (1.0, 1.0, 0.5)  # of exp up to order 2; the polynomial is 1/2 at least


def efficient(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, temperature: Tensor | None = None
) -> Tensor:
    """Weights 1 + x + x^2 / 2 of scaled cosines x, through sums of outer products: linear in seq_len.

    Formula: y_i = sum_j w_ij v_j / sum_j w_ij, w_ij = 1 + x_ij + x_ij^2 / 2,
    x_ij = temperature_h (q_i / |q_i|)^T (k_j / |k_j|), through the features [1, k, k (x) k]. A vector of zeros
    stays one. The causal form, over j <= i, is OUR EXTENSION. Half precision is computed in float32. The
    paper's optional factor sqrt(L / head_dim) of the output is left out.

    Args:
        query, key, value: [batch, heads, seq_len, head_dim].
        causal: position i sees positions j <= i only.
        temperature: [heads], learned; the paper starts at 1.

    Returns:
        [batch, heads, seq_len, head_dim], in the dtype of the query.

    Complexity: O(L D^3 / H^2) time; O(L D) memory and the sums, D^3 / H^2. Gradients can be taken once.

    Raises:
        InvalidArgument: the tensors break their rules, or there is no temperature.

    Paper: Nauen et al. 2024, arXiv 2403.02920.
    """
    query, key = _prepared(query, key, value, temperature)
    return attend(query, key, value, _polynomial(query.shape[-1]), causal=causal)


def direct(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, temperature: Tensor | None = None
) -> Tensor:
    """The same as ``efficient`` with the weights written out, a block of queries at a time.

    Complexity: O(L^2 D) time, O(L D) memory: cheaper while seq_len is below head_dim^2 + head_dim + 1.
    """
    query, key = _prepared(query, key, value, temperature)
    return attend_directly(query, key, value, _polynomial(query.shape[-1]), causal=causal)


def oracle(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, temperature: Tensor | None = None
) -> Tensor:
    """The float64 truth: the [seq_len, seq_len] weights (1 + (1 + x)^2) / 2, divided by their sums."""
    validate_qkv(query, key, value)
    query, key, value = query.double(), key.double(), value.double()
    factor = _checked(query, temperature).double()[:, None, None]
    cosines = torch.einsum("bhid,bhjd->bhij", F.normalize(query, dim=-1), F.normalize(key, dim=-1))
    weights = (1 + (1 + factor * cosines).square()) / 2
    if causal:
        weights = weights.tril()
    return torch.einsum("bhij,bhjd->bhid", weights / weights.sum(-1, keepdim=True), value)


def init_state(problem: Problem) -> State:
    """The empty sums before the first token."""
    return empty_state(problem, _polynomial(problem.head_dim))


def prefill(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: State | None = None,
    *,
    temperature: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, sums after the last).

    With a state, the tokens follow those that it stands for. Errors as ``efficient``. Computes no gradients.
    """
    query, key = _prepared(query, key, value, temperature)
    return attend_onwards(query, key, value, state, _polynomial(query.shape[-1]))


def step(
    query: Tensor, key: Tensor, value: Tensor, state: State, *, temperature: Tensor | None = None
) -> tuple[Tensor, State]:
    """One token: tensors [batch, heads, head_dim] and the sums so far -> (output, new sums).

    Complexity: O(D^3 / H^2) time and state, whatever the number of tokens.
    """
    factor = _checked(query, temperature)[:, None]
    return attend_once(unit(query) * factor, unit(key), value, state, _polynomial(query.shape[-1]))


def _prepared(query: Tensor, key: Tensor, value: Tensor, temperature: Tensor | None) -> tuple[Tensor, Tensor]:
    """Queries as long as the temperature of their head, keys of length 1."""
    validate_qkv(query, key, value)
    return unit(query) * _checked(query, temperature)[:, None, None], unit(key)


def _checked(query: Tensor, temperature: Tensor | None) -> Tensor:
    shape = None if temperature is None else list(temperature.shape)
    if temperature is None or shape != [query.shape[1]]:
        raise InvalidArgument(
            f"taylor-shift takes temperature, a tensor [heads] = [{query.shape[1]}]; it is {shape}"
        )
    return temperature


def _polynomial(width: int) -> Polynomial:
    return Polynomial(width, COEFFICIENTS, packed=False)
