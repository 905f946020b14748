"""The tests' own ranks: they exchange, and one that fails ends the call with its reason rather than a hang."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from attention_impls.sharded import Exchange

from . import ranks


@pytest.fixture(scope="module", autouse=True)
def ended() -> Iterator[None]:
    yield
    ranks.end()


def total(exchange: Exchange, scale: int) -> tuple[int, float]:
    return exchange.rank, float(exchange.total(torch.tensor([float(scale * exchange.rank)])))


def raise_on_the_last(exchange: Exchange) -> None:
    if exchange.rank == exchange.size - 1:
        raise ValueError("out of sorts")
    exchange.total(torch.zeros(1))


def die_on_the_last(exchange: Exchange) -> None:
    if exchange.rank == exchange.size - 1:
        os._exit(3)
    exchange.total(torch.zeros(1))


def test_results_come_by_rank() -> None:
    assert ranks.run(3, total, 2) == [(0, 6.0), (1, 6.0), (2, 6.0)]


def test_what_a_rank_raises_is_told_and_the_next_call_has_new_ranks() -> None:
    with pytest.raises(ranks.RankFailed, match=r"rank 1 of 2:(.|\n)*out of sorts"):
        ranks.run(2, raise_on_the_last)
    assert ranks.run(2, total, 1) == [(0, 1.0), (1, 1.0)]


def test_a_rank_that_dies_is_not_waited_for() -> None:
    with pytest.raises(ranks.RankFailed, match=r"rank [01] of 2"):
        ranks.run(2, die_on_the_last)
