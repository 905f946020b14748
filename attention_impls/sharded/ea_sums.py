"""The packed sums of EA-series over ranks: what their shards' sums amount to together, before, and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from attention_impls.sharded.exchange import Exchange, Merge


@dataclass(frozen=True, slots=True)
class SumsOverRanks:
    """A ``kernels.ranks.Ranks`` that exchanges. Without the stabiliser nobody has a reference, and none is sent.

    Args:
        log_base: natural logarithm of the base that references are logarithms to.
    """

    exchange: Exchange
    stabiliser: bool
    log_base: float

    def all_keys(self, moments: Tensor) -> Tensor:
        """One maximum of the references, and one sum of what has been referred to it."""
        if self.stabiliser:
            moments = self._referred(moments, self.exchange.highest(moments[-1]))
        return torch.cat((self.exchange.total(moments[:-1]), moments[-1:]))

    def all_queries(self, adjoint: Tensor) -> Tensor:
        """One sum: the adjoint sums of all ranks are relative to the reference of all keys."""
        return self.exchange.total(adjoint)

    def before(self, moments: Tensor) -> Tensor | None:
        """An exclusive prefix scan; weights of earlier keys are relative to the highest of them."""
        return self._scanned(self.exchange.before, moments, torch.maximum)

    def after(self, adjoint: Tensor) -> Tensor | None:
        """An exclusive suffix scan.

        A rank's adjoint sums, sum of alpha x^n / n!, are relative to its first rows' running reference, which
        counts all earlier ranks' keys. Such references do not fall from rank to rank, and a key's weight is at
        most 1 relative to that of its own rank, the lowest: sums that are referred down to it get smaller.
        """
        return self._scanned(self.exchange.after, adjoint, torch.minimum)

    def _scanned(
        self, scan: Callable[[Tensor, Merge], Tensor | None], sums: Tensor, choose: Merge
    ) -> Tensor | None:
        if self.stabiliser:
            return scan(sums, partial(self._merged, choose))
        found = scan(sums[:-1], torch.add)
        return None if found is None else torch.cat((found, torch.zeros_like(found[:1])))

    def _merged(self, choose: Merge, one: Tensor, other: Tensor) -> Tensor:
        reference = choose(one[-1], other[-1])
        merged = self._referred(one, reference) + self._referred(other, reference)
        merged[-1] = reference
        return merged

    def _referred(self, sums: Tensor, reference: Tensor) -> Tensor:
        """Relative to a reference that is further: moments to a higher one, adjoint sums to a lower one."""
        referred = sums * torch.exp(-self.log_base * (sums[-1] - reference).abs())
        referred[-1] = reference
        return referred
