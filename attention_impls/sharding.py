"""An attention over a sequence that is spread over ranks: how it is cut, and what is exchanged by formula. No torch.

A rank is one process with one device. Rank r of P holds a shard: contiguous positions, shards in the order of the
ranks, lengths as they come. Counted is what a rank *gets* out of its collectives: a property of the attention, whatever
the network and the library. What crosses the network is as much in scans and gathers, and in a sum over P ranks up to
2 (P - 1) / P times as much, the way of a ring; ``docs/ranks.md`` has it measured.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from attention_impls.nouns import Problem

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sharding:
    """How a backend works where the sequence is spread over ranks.

    Args:
        target: ``module:function`` of (query, key, value, exchange, *, causal, **hyperparameters) -> the output at
            the rank's own positions, differentiable; tensors are the rank's shard, [batch, heads, its seq_len,
            head_dim], ``exchange`` a ``sharded.exchange.Exchange``. Every rank of it must make the same calls.
        received: (problem, ranks) -> bytes that the rank which receives most receives in one call, gradients
            included when ``problem.backward``; the problem's seq_len is that of all ranks, shards as
            ``shard_lengths``.
        workspace: (problem, ranks) -> bytes that one call holds at its peak on the rank that holds most, above its
            inputs; None where no formula is known.
        summary: one line for people: what is exchanged.
        requires: returns all reasons why the problem cannot be spread here; empty when it can.
    """

    target: str
    received: Callable[[Problem, int], int]
    summary: str
    workspace: Callable[[Problem, int], int] | None = None
    requires: Callable[[Problem, int], list[str]] = lambda problem, ranks: []

    @cached_property
    def op(self) -> Callable[..., Tensor]:
        """The callable itself; importing it imports torch."""
        op: Callable[..., Tensor] = pkgutil.resolve_name(self.target)
        return op


def shard_lengths(seq_len: int, ranks: int) -> list[int]:
    """How many positions each rank holds when they are spread evenly: the first ones one more if it does not divide."""
    short, longer = divmod(seq_len, ranks)
    return [short + (rank < longer) for rank in range(ranks)]


def scan_rounds(ranks: int) -> int:
    """Messages that the last rank receives in an exclusive prefix scan by recursive doubling: ceil(log2(ranks))."""
    return (ranks - 1).bit_length()


def scans_received(ranks: int, forward: int, backward: int) -> int:
    """Most bytes that a rank receives in a prefix scan of ``forward`` bytes and a suffix scan of ``backward`` bytes.

    In round d = 1, 2, 4, ... rank r receives from r - d, in the suffix scan from r + d, where there is such a rank.
    """
    steps = [1 << number for number in range(scan_rounds(ranks))]

    def received(rank: int) -> int:
        ahead, behind = (sum(step <= distance for step in steps) for distance in (rank, ranks - 1 - rank))
        return forward * ahead + backward * behind

    return max(map(received, range(ranks)))
