"""What the kernels of EA-series ask of the other ranks, where a sequence is spread over several."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Ranks(Protocol):
    """The other ranks' share of packed sums, [2 (order + 1) + 1, batch, heads, head_dim]: sums, and their reference.

    The reference is a logarithm to the base ``TOP_BASE`` of the kernels. Every rank makes the same calls.
    """

    def all_keys(self, moments: Tensor) -> Tensor:
        """The moments of all ranks' keys, relative to the highest of their references."""

    def all_queries(self, adjoint: Tensor) -> Tensor:
        """The adjoint sums of all ranks' queries, which come and go without a reference: all ranks have the same."""

    def before(self, moments: Tensor) -> Tensor | None:
        """The moments of all earlier ranks, relative to the highest of their references; None on the first rank."""

    def after(self, adjoint: Tensor) -> Tensor | None:
        """The adjoint sums of all later ranks, relative to the lowest of their references; None on the last rank."""
