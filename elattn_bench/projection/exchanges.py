"""What one call exchanges over any number of ranks, in which collectives: read off the formulas of bytes received."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from elattn_bench.cases import Case
from elattn_bench.projection.links import Link
from elattn_bench.units import Bytes, Seconds

TOTALS: Mapping[str, tuple[int, int]] = {"ea-series": (2, 1), "efficient": (2, 1)}
"""Reductions over all ranks in a call that is not causal, forward and backward: the maxima that weights are relative
to, and the sums; backward the sums' gradients. Others have one and one."""

WITHOUT_MAXIMA = {("normalisation", "scaling"), ("stabiliser", False)}
"""Knobs with which nobody needs the maxima, so that one reduction less is made."""

GATHERED = 2  # keys, and values; backward the gradients of both go back


@dataclass(frozen=True, slots=True)
class Exchanged:
    """Collectives of one kind in one call: how many, and the bytes of one rank's tensors in all of them."""

    kind: str
    count: int
    bytes: Bytes


def exchange_seconds(case: Case, links: Mapping[str, Link]) -> Seconds:
    """What the case's exchanges take over the links.

    Raises:
        KeyError: no link of a kind that it needs.
    """
    return sum(links[each.kind].seconds(case.ranks or 1, each.bytes, each.count) for each in exchanges(case))


def exchanges(case: Case) -> list[Exchanged]:
    """What a call of the case exchanges; nothing in a world of one."""
    if case.ranks in (None, 1):
        return []
    if grows(case):
        return list(_gathers(case))
    return list(_scans(case)) if case.causal else [_totals(case)]


def grows(case: Case) -> bool:
    """Whether what is received grows with the length of the sequence."""
    ranks = 2  # as good as any
    return received(replace(case, seq_len=64), ranks) != received(replace(case, seq_len=128), ranks)


def received(case: Case, ranks: int) -> Bytes:
    """By formula, on the rank that receives most.

    Raises:
        ValueError: the case's backend cannot be spread.
    """
    found = replace(case, ranks=ranks).received_bytes_formula
    if found is None:
        raise ValueError(f"{case.impl} has no form for a sequence that is spread over ranks")
    return found


def _gathers(case: Case) -> Iterator[Exchanged]:
    """Shards of all other ranks; in training the gradients of a rank's own come back from each of them."""
    others = (case.ranks or 1) - 1
    forward = received(replace(case, mode="forward"), others + 1)
    yield Exchanged("gather", GATHERED, round(forward / others))
    if case.mode == "train":
        yield Exchanged("scatter", GATHERED, round((received(case, others + 1) - forward) / others))


def _totals(case: Case) -> Exchanged:
    """Sums over all ranks, each of which counts as one tensor received."""
    forward, backward = TOTALS.get(case.attention, (1, 1))
    forward -= forward > 1 and not WITHOUT_MAXIMA.isdisjoint(case.hyperparameters)
    count = forward + (backward if case.mode == "train" else 0)
    return Exchanged("total", count, received(case, 2))


def _scans(case: Case) -> Iterator[Exchanged]:
    """A prefix scan, in training a suffix scan of the sums' gradients after it."""
    state = received(replace(case, mode="forward"), 2)
    yield Exchanged("before", 1, state)
    if case.mode == "train":
        yield Exchanged("before", 1, _adjoint_bytes(state, received(case, 4)))


def _adjoint_bytes(forward: Bytes, of_four: Bytes) -> Bytes:
    """What a round of the suffix scan brings, from what the busiest of four ranks receives.

    Of four ranks the second receives 1 forward and 2 backward, the third 2 and 1, and one of them most
    (``sharding.scans_received``).
    """
    fewer = of_four - 2 * forward
    return fewer if fewer <= forward else (of_four - forward) // 2
