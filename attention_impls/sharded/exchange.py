"""The ranks that a sequence is spread over, and what one of them exchanges with the others, counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

Merge = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Traffic:
    """What a rank got from the others, and in how many collectives or messages.

    A sum or maximum over all ranks counts as one tensor received, a gathered tensor as the other ranks' shards.
    """

    received_bytes: int = 0
    exchanges: int = 0


class Exchange:
    """The collectives that sharded attentions are made of; nothing is exchanged in a world of one.

    Every rank must call the same methods in the same order. Tensors that are passed in are not changed.

    Args:
        group: of ``torch.distributed``; its default group if not given, and a world of one where there is none.

    traffic: what this rank has received so far.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group or (dist.group.WORLD if dist.is_initialized() else None)
        self.rank = dist.get_rank(self._group) if self._group is not None else 0
        self.size = dist.get_world_size(self._group) if self._group is not None else 1
        self.traffic = Traffic()

    @property
    def group(self) -> dist.ProcessGroup | None:
        """The ranks, for what counts its own traffic; None in a world of one without a group."""
        return self._group

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of all ranks' tensors, on every rank."""
        return self._reduced(tensor, dist.ReduceOp.SUM)

    def highest(self, tensor: Tensor) -> Tensor:
        """The element-wise maximum of all ranks' tensors, on every rank."""
        return self._reduced(tensor, dist.ReduceOp.MAX)

    def before(self, state: Tensor, merge: Merge) -> Tensor | None:
        """The states of all earlier ranks merged: an exclusive prefix scan. None on the first rank.

        By recursive doubling (Hillis & Steele 1986): ceil(log2(size)) rounds, in each of which a rank gets one state.

        Args:
            state: of this rank, of one shape on all.
            merge: of two states; associative and commutative.
        """
        return self._scan(state, merge, step=1)

    def after(self, state: Tensor, merge: Merge) -> Tensor | None:
        """The states of all later ranks merged: an exclusive suffix scan. None on the last rank."""
        return self._scan(state, merge, step=-1)

    def gather(self, shard: Tensor, dim: int = 2) -> list[Tensor]:
        """The shards of all ranks, on every rank; they may differ in length along one dimension."""
        if self.size == 1:
            return [shard]
        lengths = self._lengths(shard.shape[dim], shard.device)
        shards = [self._empty_shard(shard, dim, length) for length in lengths]
        shards[self.rank] = shard.contiguous()
        # Not all_gather: it wants shards of one length, and holds another copy of all that gloo frees on a thread
        # of its own, where a profile of memory does not see it.
        others = [rank for rank in range(self.size) if rank != self.rank]
        sent = [self._message(dist.isend, shards[self.rank], rank) for rank in others]
        self._exchange(sent + [self._message(dist.irecv, shards[rank], rank) for rank in others])
        self._count(sum(part.nbytes for rank, part in enumerate(shards) if rank != self.rank))
        return shards

    def scatter_total(self, parts: Sequence[Tensor]) -> Tensor:
        """The sum over all ranks of their parts for this one: the transpose of ``gather``.

        In size - 1 rounds of messages, at further distances: no other rank's part is kept.

        Args:
            parts: one for every rank, of the shape of that rank's shard.
        """
        if self.size == 1:
            return parts[0]
        own = parts[self.rank].clone(memory_format=torch.contiguous_format)
        received = torch.empty_like(own)
        for distance in range(1, self.size):
            ahead, behind = (self.rank + distance) % self.size, (self.rank - distance) % self.size
            self._pass(parts[ahead].contiguous(), ahead, received, behind)
            own += received
        return own

    def _reduced(self, tensor: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
        if self.size == 1:
            return tensor
        reduced = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(reduced, how, group=self._group)
        self._count(reduced.nbytes)
        return reduced

    def _scan(self, state: Tensor, merge: Merge, step: int) -> Tensor | None:
        """What lies on one side of this rank; ``own`` covers ever more of it and this rank itself."""
        own, beyond = state.contiguous(), None
        distance = 1
        while distance < self.size:
            received = self._shift(own, step * distance)
            if received is not None:
                beyond = received if beyond is None else merge(received, beyond)
                own = merge(received, own)
            distance *= 2
        return beyond

    def _shift(self, tensor: Tensor, distance: int) -> Tensor | None:
        """Send to the rank so far ahead, and return what the one so far behind sent, where there are such ranks."""
        ahead, behind = self.rank + distance, self.rank - distance
        received = torch.empty_like(tensor) if 0 <= behind < self.size else None
        self._pass(tensor if 0 <= ahead < self.size else None, ahead, received, behind)
        return received

    def _pass(self, sent: Tensor | None, ahead: int, received: Tensor | None, behind: int) -> None:
        """One message to one rank and one from another, which is written into ``received``; or only one of both."""
        messages = []
        if sent is not None:
            messages.append(self._message(dist.isend, sent, ahead))
        if received is not None:
            messages.append(self._message(dist.irecv, received, behind))
            self._count(received.nbytes)
        self._exchange(messages)

    def _message(self, how: Callable[..., Any], tensor: Tensor, rank: int) -> dist.P2POp:
        return dist.P2POp(how, tensor, self._global(rank), self._group)

    def _exchange(self, messages: list[dist.P2POp]) -> None:
        for work in dist.batch_isend_irecv(messages) if messages else ():
            work.wait()

    def _lengths(self, length: int, device: torch.device) -> list[int]:
        own = torch.tensor([length], dtype=torch.int64, device=device)
        lengths = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(lengths, own, group=self._group)
        return [int(each) for each in lengths]

    def _empty_shard(self, like: Tensor, dim: int, length: int) -> Tensor:
        shape = list(like.shape)
        shape[dim] = length
        return like.new_empty(shape)

    def _global(self, rank: int) -> int:
        """The rank's number in the world, which messages are addressed by."""
        assert self._group is not None
        return dist.get_global_rank(self._group, rank)

    def _count(self, received: int) -> None:
        self.traffic.received_bytes += received
        self.traffic.exchanges += 1


class NotSilent(RuntimeError):
    """The caller exchanges by itself, so nobody can see to it that nothing is exchanged."""


class Silent(Exchange):
    """In the place of an exchange, without the others: one rank's work, as large as with them, and no messages.

    Makes the copies, merges and sums that the exchange makes, and returns tensors of its shapes; in place of another
    rank's state or shard there is this one's own, of this one's length. Values mean nothing.

    Args:
        rank, size: of the exchange whose place it takes.
    """

    def __init__(self, rank: int, size: int) -> None:
        self._group = None
        self.rank, self.size = rank, size
        self.traffic = Traffic()

    @property
    def group(self) -> dist.ProcessGroup | None:
        """None in a world of one.

        Raises:
            NotSilent: there are others, whom the caller would reach by the group.
        """
        if self.size > 1:
            raise NotSilent(f"rank {self.rank} of {self.size} would exchange by itself, over the group")
        return None

    def gather(self, shard: Tensor, dim: int = 2) -> list[Tensor]:
        """The own shard in every rank's place."""
        return [shard if self.size == 1 else shard.contiguous()] * self.size

    def _reduced(self, tensor: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
        return tensor if self.size == 1 else tensor.clone(memory_format=torch.contiguous_format)

    def _shift(self, tensor: Tensor, distance: int) -> Tensor | None:
        return tensor.clone() if 0 <= self.rank - distance < self.size else None

    def _pass(self, sent: Tensor | None, ahead: int, received: Tensor | None, behind: int) -> None:
        if received is not None:
            received.zero_()
