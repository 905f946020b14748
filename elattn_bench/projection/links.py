"""What a collective takes: Hockney's model of a link, fitted to the times that a run measured, or assumed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from attention_impls.sharding import scan_rounds
from elattn_bench.errors import RunDirError, UsageError
from elattn_bench.rundir import RUN_INFO, Run
from elattn_bench.units import Bytes, Seconds

KINDS = ("total", "before", "gather", "scatter")
"""Sum over all ranks, exclusive prefix scan, gathering of all shards, and its transpose: the sum over all ranks of
their parts for each; named as ``sharded.exchange.Exchange`` does."""

Library = Literal["gloo", "nccl"]
LIBRARIES: tuple[str, ...] = get_args(Library)
ASSUMED_LIBRARY: Library = "nccl"
"""Whose algorithms an assumed link is used by: who assumes one thinks of a cluster of GPUs."""

ALGORITHMS: Mapping[Library, Mapping[str, str]] = {
    "gloo": {"total": "ring", "before": "doubling", "gather": "direct", "scatter": "direct"},
    "nccl": {"total": "two trees", "before": "doubling", "gather": "direct", "scatter": "direct"},
}
"""What ``factors`` takes each collective to be; sums alone are the library's own, all else is sent by ``Exchange``."""

LINK_RULE = "write a latency and a bandwidth in bytes per second: 5us,50GB/s"
_LATENCY_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_BYTE_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_LINK = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ns|us|ms|s)\s*,\s*(\d+(?:\.\d+)?)\s*(T|G|M|k|Gi|Mi|Ki|)B/s\s*")


@dataclass(frozen=True, slots=True)
class Collective:
    """One collective as a run timed it.

    bytes: of one rank's tensor; of a scatter, of its part for one rank.
    seconds: the median until the last rank was done.
    """

    kind: str
    ranks: int
    bytes: Bytes
    seconds: Seconds
    library: Library = "gloo"


@dataclass(frozen=True, slots=True)
class Link:
    """What goes between two ranks: Hockney (1994), latency + bytes / bandwidth.

    Args:
        kind: of collective that it was fitted to, out of ``KINDS``.
        latency: of a message, in seconds.
        seconds_per_byte: the inverse of the bandwidth; 0 where the sizes measured do not show one.
        fitted: the collectives that it was fitted to; none where it is assumed.
        library: whose algorithms it is used by.
    """

    kind: str
    latency: Seconds
    seconds_per_byte: float
    fitted: tuple[Collective, ...] = ()
    library: Library = "gloo"

    @property
    def is_assumed(self) -> bool:
        """Whether somebody said so, rather than a run measured it."""
        return not self.fitted

    @property
    def algorithm(self) -> str:
        """Of the collective, in a word or two."""
        return ALGORITHMS[self.library][self.kind]

    @property
    def most_ranks(self) -> int:
        """That it was timed over; 0 where it is assumed."""
        return max((each.ranks for each in self.fitted), default=0)

    @property
    def residuals(self) -> list[float]:
        """Model over measurement, of every collective that it was fitted to."""
        return [self.seconds(each.ranks, each.bytes) / each.seconds for each in self.fitted]

    def seconds(self, ranks: int, size: Bytes, count: int = 1) -> Seconds:
        """The time of so many collectives over the ranks, whose tensors of one rank hold that many bytes together."""
        messages, share = factors(self.kind, ranks, self.library)
        return count * messages * self.latency + share * size * self.seconds_per_byte


def factors(kind: str, ranks: int, library: Library = "gloo") -> tuple[float, float]:
    """How many latencies one collective takes, and how many times the bytes of one rank's tensor cross a link.

    total: 2 (P - 1) / P of the bytes. gloo takes a ring, 2 (P - 1) latencies (pytorch/gloo, gloo/allreduce.cc;
    bandwidth-optimal: Patarasuk & Yuan 2009). nccl, of the small tensors that linear attentions sum, a double
    binary tree: 2 ceil(log2 P) latencies (Sanders, Speck & Traeff 2009, "Two-tree algorithms for full bandwidth
    broadcast, reduction and scan"; Jeaugey 2019, in NCCL since 2.4). before: recursive doubling with the whole
    tensor in each round, Hillis & Steele (1986): ceil(log2 P) of both. gather and scatter: P - 1 messages of a
    shard, straight to the rank that each is for.
    """
    rounds = scan_rounds(ranks)
    if kind == "total":
        return 2 * (rounds if library == "nccl" else ranks - 1), 2 * (ranks - 1) / ranks
    return (rounds, rounds) if kind == "before" else (ranks - 1, ranks - 1)


def collectives_of(run: Run) -> list[Collective]:
    """What the run timed, of more than one rank; none in a run without ranks.

    Raises:
        RunDirError: run.json holds something else in their place.
    """
    found = run.info.get("collectives") or []
    usual: Library = (
        "nccl" if any(row.device != "cpu" for row in run.rows) else "gloo"
    )  # older entries do not say
    try:
        return [_collective(each, usual) for each in found if each["ranks"] > 1 and each["kind"] in KINDS]
    except (KeyError, TypeError, ValueError) as error:
        raise RunDirError(
            f"{run.path / RUN_INFO}: 'collectives' is not a list of kind, ranks, bytes and seconds ({error!r}); "
            "sweep again with --ranks 1,2"
        ) from None


def _collective(record: Mapping[str, Any], usual: Library) -> Collective:
    seconds, library = float(record["seconds"]), record.get("backend", usual)
    if not seconds > 0:
        raise ValueError(f"{seconds} seconds")
    if library not in LIBRARIES:
        raise ValueError(f"backend {library!r} is none of {', '.join(LIBRARIES)}")
    return Collective(record["kind"], int(record["ranks"]), int(record["bytes"]), seconds, library)


def fit_links(collectives: Sequence[Collective]) -> dict[str, Link]:
    """The link of each kind that was measured, latency and bandwidth fitted to all ranks and sizes together."""
    kinds = {kind: [each for each in collectives if each.kind == kind] for kind in KINDS}
    return {kind: _fit(kind, found) for kind, found in kinds.items() if found}


def _fit(kind: str, found: Sequence[Collective]) -> Link:
    """Latency and bandwidth of all ranks and sizes together; see ``fitting``."""
    from elattn_bench.projection.fitting import fit_relative

    library = found[0].library  # one device, one library: all the same
    scales = [factors(kind, each.ranks, library) for each in found]
    designs = [(messages, share * each.bytes) for (messages, share), each in zip(scales, found, strict=True)]
    latency, seconds_per_byte = fit_relative(designs, [each.seconds for each in found])
    return Link(kind, latency, seconds_per_byte, tuple(found), library)


def assumed_links(text: str) -> dict[str, Link]:
    """The link that ``5us,50GB/s`` describes, for every kind of collective, by the algorithms of nccl.

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
    return {kind: Link(kind, latency, 1 / bandwidth, library=ASSUMED_LIBRARY) for kind in KINDS}
