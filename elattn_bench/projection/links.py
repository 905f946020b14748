"""What a collective takes: Hockney's model of a link, fitted to the times that a run measured, or assumed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attention_impls.sharding import scan_rounds
from elattn_bench.errors import RunDirError, UsageError
from elattn_bench.rundir import RUN_INFO, Run
from elattn_bench.units import Bytes, Seconds

KINDS = ("total", "before", "gather")
"""Sum over all ranks, exclusive prefix scan, gathering of all shards; named as ``sharded.exchange.Exchange`` does."""

LINK_RULE = "write a latency and a bandwidth in bytes per second: 5us,50GB/s"
_LATENCY_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_BYTE_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_LINK = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ns|us|ms|s)\s*,\s*(\d+(?:\.\d+)?)\s*(T|G|M|k|Gi|Mi|Ki|)B/s\s*")


@dataclass(frozen=True, slots=True)
class Collective:
    """One collective as a run timed it.

    bytes: of one rank's tensor; seconds: the median until the last rank was done.
    """

    kind: str
    ranks: int
    bytes: Bytes
    seconds: Seconds


@dataclass(frozen=True, slots=True)
class Link:
    """What goes between two ranks: Hockney (1994), latency + bytes / bandwidth.

    Args:
        kind: of collective that it was fitted to, out of ``KINDS``.
        latency: of a message, in seconds.
        seconds_per_byte: the inverse of the bandwidth; 0 where the sizes measured do not show one.
        fitted: the collectives that it was fitted to; none where it is assumed.
    """

    kind: str
    latency: Seconds
    seconds_per_byte: float
    fitted: tuple[Collective, ...] = ()

    @property
    def is_assumed(self) -> bool:
        """Whether somebody said so, rather than a run measured it."""
        return not self.fitted

    @property
    def residuals(self) -> list[float]:
        """Model over measurement, of every collective that it was fitted to."""
        return [self.seconds(each.ranks, each.bytes) / each.seconds for each in self.fitted]

    def seconds(self, ranks: int, size: Bytes, count: int = 1) -> Seconds:
        """The time of so many collectives over the ranks, whose tensors of one rank hold that many bytes together."""
        messages, share = factors(self.kind, ranks)
        return count * messages * self.latency + share * size * self.seconds_per_byte


def factors(kind: str, ranks: int) -> tuple[float, float]:
    """How many latencies one collective takes, and how many times the bytes of one rank's tensor cross a link.

    total: recursive halving and doubling, Thakur, Rabenseifner & Gropp (2005), "Optimization of collective
    communication operations in MPICH", section 4.5: 2 ceil(log2 P) and 2 (P - 1) / P. before: recursive doubling
    with the whole tensor in each round, Hillis & Steele (1986): ceil(log2 P) of both. gather: a ring, P - 1 shards
    of other ranks one after another (section 4.1): P - 1 of both.
    """
    rounds = scan_rounds(ranks)
    if kind == "total":
        return 2 * rounds, 2 * (ranks - 1) / ranks
    return (rounds, rounds) if kind == "before" else (ranks - 1, ranks - 1)


def collectives_of(run: Run) -> list[Collective]:
    """What the run timed, of more than one rank; none in a run without ranks.

    Raises:
        RunDirError: run.json holds something else in their place.
    """
    found = run.info.get("collectives") or []
    try:
        return [_collective(each) for each in found if each["ranks"] > 1 and each["kind"] in KINDS]
    except (KeyError, TypeError, ValueError) as error:
        raise RunDirError(
            f"{run.path / RUN_INFO}: 'collectives' is not a list of kind, ranks, bytes and seconds ({error!r}); "
            "sweep again with --ranks 1,2"
        ) from None


def _collective(record: Mapping[str, Any]) -> Collective:
    timed = Collective(record["kind"], int(record["ranks"]), int(record["bytes"]), float(record["seconds"]))
    if not timed.seconds > 0:
        raise ValueError(f"{timed.seconds} seconds")
    return timed


def fit_links(collectives: Sequence[Collective]) -> dict[str, Link]:
    """The link of each kind that was measured, latency and bandwidth fitted to all ranks and sizes together."""
    kinds = {kind: [each for each in collectives if each.kind == kind] for kind in KINDS}
    return {kind: _fit(kind, found) for kind, found in kinds.items() if found}


def _fit(kind: str, found: Sequence[Collective]) -> Link:
    """Latency and bandwidth of all ranks and sizes together; see ``fitting``."""
    from elattn_bench.projection.fitting import fit_relative

    scales = [factors(kind, each.ranks) for each in found]
    designs = [(messages, share * each.bytes) for (messages, share), each in zip(scales, found, strict=True)]
    latency, seconds_per_byte = fit_relative(designs, [each.seconds for each in found])
    return Link(kind, latency, seconds_per_byte, tuple(found))


def assumed_links(text: str) -> dict[str, Link]:
    """The link that ``5us,50GB/s`` describes, for every kind of collective.

    Raises:
        UsageError: the text is something else.
    """
    match = _LINK.fullmatch(text)
    if not match:
        raise UsageError(f"--link {text}: is not a link; {LINK_RULE}")
    latency, bandwidth = (
        float(match[1]) * _LATENCY_UNITS[match[2]], float(match[3]) * _BYTE_UNITS[match[4]],
    )  # fmt: skip
    if not bandwidth:
        raise UsageError(f"--link {text}: nothing passes at 0 B/s; {LINK_RULE}")
    return {kind: Link(kind, latency, 1 / bandwidth) for kind in KINDS}
