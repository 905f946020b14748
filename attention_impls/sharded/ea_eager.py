"""The plain PyTorch form of EA-series on one rank: its pieces, and the exchange between them, both ways."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from attention_impls import ea_series
from attention_impls.chunks import chunk_rows
from attention_impls.ea_series import PLAIN, Carry
from attention_impls.sharded.ea_sums import SumsOverRanks


class Graph(NamedTuple):
    """What autograd has of one call: it ends where an exchange begins.

    own: the shard's packed sums, [2 (order + 1) + 1, batch, heads, head_dim], from keys and values.
    met: the packed sums that the exchange returned, a leaf.
    output: from query and ``met``; causal from keys and values as well.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    own: Tensor
    met: Tensor
    output: Tensor


Gradients = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Form(ABC):
    """A form of the attention with its knobs."""

    order: int
    scale: float
    stabiliser: bool
    ranks: SumsOverRanks

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Graph]:
        """The output, and what ``backward`` needs. Leaves in, where there are gradients."""
        own = self._totals(key, value)
        met = self._met(own.detach()).requires_grad_(own.requires_grad)
        output = self._output(query, key, value, met)
        return output, Graph(query, key, value, own, met, output)

    def backward(self, graph: Graph, upstream: Tensor) -> Gradients:
        """The gradients of query, key and value: first those by way of the output, then those by way of the sums."""
        query, key, value, own, met, output = graph
        leaves = (query, key, value, met)
        of_query, of_key, of_value, of_met = torch.autograd.grad(output, leaves, upstream, allow_unused=True)
        by_sums = torch.autograd.grad(own, (key, value), self._transposed(graph, of_met))
        if of_key is None:
            return of_query, *by_sums
        return of_query, of_key.add_(by_sums[0]), of_value.add_(by_sums[1])

    def _totals(self, key: Tensor, value: Tensor) -> Tensor:
        knobs = (self.order, self.scale, self.stabiliser)
        sums = ea_series.totals_of(key, value, *knobs, PLAIN, chunk_rows(key))
        return torch.stack([*sums.value_moments, *sums.key_moments, sums.top]).squeeze(-2)

    def _unpacked(self, packed: Tensor) -> Carry:
        rows = list(packed.unsqueeze(-2))
        count = self.order + 1
        return Carry(rows[:count], rows[count:-1], rows[-1].detach())

    @abstractmethod
    def _met(self, own: Tensor) -> Tensor:
        """What this rank's output needs of the others, from its own packed sums."""

    @abstractmethod
    def _output(self, query: Tensor, key: Tensor, value: Tensor, met: Tensor) -> Tensor:
        """The output, of the shard's tensors and what has been met."""

    @abstractmethod
    def _transposed(self, graph: Graph, of_met: Tensor) -> Tensor:
        """The gradient of the rank's own packed sums from that of what it has met: ``_met`` the other way."""


class Full(Form):
    """Every query reads the sums of all ranks."""

    def _met(self, own: Tensor) -> Tensor:
        return self.ranks.all_keys(own)

    def _output(self, query: Tensor, key: Tensor, value: Tensor, met: Tensor) -> Tensor:
        return ea_series.read(query, self._unpacked(met), self.order, self.scale, PLAIN, chunk_rows(query))

    def _transposed(self, graph: Graph, of_met: Tensor) -> Tensor:
        return _by_own(graph, torch.cat((self.ranks.all_queries(of_met[:-1]), graph.met.detach()[-1:])))


class Causal(Form):
    """Queries of this rank see the keys of earlier ranks through their sums."""

    def _met(self, own: Tensor) -> Tensor:
        earlier = self.ranks.before(own)
        if earlier is not None:
            return earlier
        nothing = torch.zeros_like(own)
        if self.stabiliser:
            nothing[-1] = -torch.inf
        return nothing

    def _output(self, query: Tensor, key: Tensor, value: Tensor, met: Tensor) -> Tensor:
        carry, knobs = self._unpacked(met), (self.order, self.scale, self.stabiliser)
        return ea_series.sweep(query, key, value, *knobs, PLAIN, carry)[0]

    def _transposed(self, graph: Graph, of_met: Tensor) -> Tensor:
        # On the first rank nobody before it has use for its adjoint sums, nor they a reference.
        reference = graph.met.detach()[-1:].clamp_min(torch.finfo(of_met.dtype).min)
        later = self.ranks.after(torch.cat((of_met[:-1], reference)))
        return torch.zeros_like(of_met) if later is None else _by_own(graph, later)


def _by_own(graph: Graph, adjoint: Tensor) -> Tensor:
    """The gradient of a rank's own sums from adjoint sums, which are relative to a reference no lower than theirs."""
    referred = adjoint * torch.exp(graph.own.detach()[-1] - adjoint[-1])
    referred[-1] = 0.0
    return referred
