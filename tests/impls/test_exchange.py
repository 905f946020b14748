"""The exchange between ranks: sums, maxima, scans and gathers of any number of ranks, and what is counted of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from attention_impls.sharded import Exchange, attend
from attention_impls.sharded.exchange import NotSilent, Silent
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


def everything(exchange: Exchange) -> list[list[tuple[int, ...]]]:
    """The shapes of what each method returns, of a shard of one length on all ranks."""
    state, parts = torch.ones(2, 3), [shard(rank, even=True) for rank in range(exchange.size)]
    found: list[Any] = [
        exchange.total(state), exchange.highest(state), exchange.before(state, torch.add),
        exchange.after(state, torch.add), exchange.gather(parts[exchange.rank]), exchange.scatter_total(parts),
    ]  # fmt: skip
    listed = [each if isinstance(each, list) else [each] for each in found]
    return [[tuple(x.shape) for x in each if x is not None] for each in listed]


@each_world
def test_in_silence_a_rank_gets_the_same_shapes_and_nothing_of_the_others(world: int) -> None:
    for rank, shapes in enumerate(ranks.run(world, everything)):
        silent = Silent(rank, world)
        assert everything(silent) == shapes
        assert (silent.traffic.received_bytes, silent.traffic.exchanges) == (0, 0)


def test_in_silence_a_rank_merges_as_often_as_among_the_others() -> None:
    def merges(exchange: Exchange) -> int:
        done: list[None] = []

        def merge(one: Tensor, other: Tensor) -> Tensor:
            done.append(None)
            return one + other

        exchange.before(torch.ones(1), merge)
        return len(done)

    # Rank 5 of 8 gets a state in each of 3 rounds: three merges into its own, two into what lies before it.
    assert [merges(Silent(rank, 8)) for rank in (0, 1, 2, 5)] == [0, 1, 3, 5]


def test_silence_leaves_what_it_is_given_and_shares_no_memory_with_it() -> None:
    state, parts, silent = torch.ones(3), [torch.ones(3), torch.ones(3)], Silent(1, 2)
    for found in (silent.total(state), silent.before(state, torch.add), silent.scatter_total(parts)):
        assert found is not None
        found.zero_()
    assert all(x.tolist() == [1.0] * 3 for x in (state, *parts))


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("attention", ["ea-series", "linear", "efficient", "softmax"])
def test_every_attention_works_in_silence(attention: str, causal: bool) -> None:
    for rank in range(3):
        query, key, value = (torch.randn(1, 2, 5, 4, requires_grad=True) for _ in range(3))
        output = attend(attention, query, key, value, Silent(rank, 3), causal=causal)
        gradients = torch.autograd.grad(output.sum(), (query, key, value))
        assert [x.shape for x in (output, *gradients)] == [(1, 2, 5, 4)] * 4


def test_who_exchanges_by_the_group_itself_cannot_be_silenced() -> None:
    with pytest.raises(NotSilent, match="rank 0 of 2"):
        _ = Silent(0, 2).group
    assert Silent(0, 1).group is None
