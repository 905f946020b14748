"""The exchange between ranks: sums, maxima, scans and gathers of any number of ranks, and what is counted of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from attention_impls.sharded import Exchange
from attention_impls.sharding import scan_rounds, scans_received

from . import ranks

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")

each_world = pytest.mark.parametrize("world", [1, 2, 3, 4, 5])


@pytest.fixture(scope="module", autouse=True)
def ended() -> Iterator[None]:
    yield
    ranks.end()


def counted(exchange: Exchange, method: str, *arguments: Any) -> tuple[Any, int]:
    found = getattr(exchange, method)(*arguments)
    return found, exchange.traffic.received_bytes


def total(exchange: Exchange) -> tuple[Tensor, int]:
    return counted(exchange, "total", torch.full((3,), 2.0**exchange.rank))


def highest(exchange: Exchange) -> tuple[Tensor, int]:
    return counted(exchange, "highest", torch.tensor([float(exchange.rank), -float(exchange.rank)]))


def before(exchange: Exchange) -> tuple[Tensor | None, int]:
    return counted(exchange, "before", torch.full((3,), 2.0**exchange.rank), torch.add)


def after(exchange: Exchange) -> tuple[Tensor | None, int]:
    return counted(exchange, "after", torch.full((3,), 2.0**exchange.rank), torch.add)


def both_scans(exchange: Exchange, state: Tensor) -> int:
    exchange.before(state, torch.add)
    exchange.after(state.double(), torch.add)
    return exchange.traffic.received_bytes


def shard(rank: int, even: bool) -> Tensor:
    """Positions 0.. of a shard, of a length that may depend on the rank; not contiguous."""
    length = 2 if even else rank + 1
    return (torch.arange(2 * length).reshape(1, 1, 2, length) + 100.0 * rank).transpose(2, 3)


def gather(exchange: Exchange, even: bool) -> tuple[list[Tensor], int]:
    return counted(exchange, "gather", shard(exchange.rank, even))


def scatter_total(exchange: Exchange, even: bool) -> tuple[Tensor, int]:
    parts = [(1.0 + exchange.rank) * shard(rank, even) for rank in range(exchange.size)]
    return counted(exchange, "scatter_total", parts)


@each_world
def test_a_total_and_the_highest_are_those_of_all_ranks(world: int) -> None:
    for found, received in ranks.run(world, total):
        assert found.tolist() == [2.0**world - 1] * 3
        assert received == (12 if world > 1 else 0)
    for found, received in ranks.run(world, highest):
        assert found.tolist() == [world - 1.0, 0.0]
        assert received == (8 if world > 1 else 0)


@each_world
def test_scans_merge_each_rank_before_or_after_once(world: int) -> None:
    """Powers of two: the sum tells which ranks are in it."""
    for rank, (found, _) in enumerate(ranks.run(world, before)):
        assert (found is None) == (rank == 0)
        assert found is None or found.tolist() == [2.0**rank - 1] * 3
    for rank, (found, _) in enumerate(ranks.run(world, after)):
        assert (found is None) == (rank == world - 1)
        assert found is None or found.tolist() == [2.0**world - 2.0 ** (rank + 1)] * 3


@each_world
def test_a_scan_takes_as_many_messages_as_it_is_said_to(world: int) -> None:
    received = [each for _, each in ranks.run(world, before)]
    assert received == sorted(received)
    assert received[0] == 0
    assert received[-1] == 12 * scan_rounds(world)
    assert max(ranks.run(world, both_scans, torch.zeros(3))) == scans_received(world, 12, 24)


@each_world
@pytest.mark.parametrize("even", [True, False], ids=["even", "uneven"])
def test_a_gather_brings_every_shard_to_every_rank(world: int, even: bool) -> None:
    shards = [shard(rank, even) for rank in range(world)]
    for rank, (found, received) in enumerate(ranks.run(world, gather, even)):
        assert all(torch.equal(a, b) for a, b in zip(found, shards, strict=True))
        assert received == sum(each.nbytes for other, each in enumerate(shards) if other != rank)


@each_world
@pytest.mark.parametrize("even", [True, False], ids=["even", "uneven"])
def test_scattering_totals_is_the_transpose_of_gathering(world: int, even: bool) -> None:
    weight = world * (world + 1) / 2
    for rank, (found, received) in enumerate(ranks.run(world, scatter_total, even)):
        assert torch.equal(found, weight * shard(rank, even))
        assert received == (world - 1) * found.nbytes
