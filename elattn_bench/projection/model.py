"""The projection: time, memory and traffic of every line at lengths and ranks that nobody measured."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from elattn_bench.cases import Case
from elattn_bench.errors import UsageError
from elattn_bench.prediction import input_bytes
from elattn_bench.projection.exchanges import exchange_seconds, exchanges
from elattn_bench.projection.interval import errors_of, links_of
from elattn_bench.projection.lines import Line, lines_of, name_of
from elattn_bench.projection.links import Link, assumed_links, collectives_of, fit_links
from elattn_bench.projection.validation import Check, can_be_linked, checks, summed_up
from elattn_bench.projection.validation import Found as Found
from elattn_bench.rundir import Run
from elattn_bench.units import Bytes, Seconds

WHERE = "the rows that --where keeps are not enough: leave rows of one rank in, at two lengths or more"

HOW_TO_SWEEP = (
    "what it needs is measured by: "
    "elattn-bench sweep -i ea-series,linear,softmax --ranks 1,2 --seq-len 4k:256k:x4"
)


HALF = 0.5  # of the time: what is more is most


@dataclass(frozen=True, slots=True)
class Projection:
    """What a call of a line would take, never measured.

    Args:
        seconds: of the model; low, high: within the errors that work and exchange of its line have shown; no
            interval where nothing was checked.
        exchange: of ``seconds``, what the exchanges take.
        is_timed: whether its collectives were timed over as many ranks, or are assumed.
        memory: of the rank that holds most, inputs and workspace by formula; None where there is none.
        received: by the rank that receives most, by formula.
        fits: whether that memory is there; None where it is unknown.
    """

    line: Line
    tokens: int
    ranks: int
    seconds: Seconds
    low: Seconds | None
    high: Seconds | None
    exchange: Seconds
    is_timed: bool
    memory: Bytes | None
    received: Bytes
    fits: bool | None

    @property
    def exchange_share(self) -> float:
        """Of the time, what the exchanges take."""
        return self.exchange / self.seconds if self.seconds else 0.0

    @property
    def is_extrapolated(self) -> bool:
        """Whether its shard is longer or shorter, or its ranks are more, than anything measured of the line."""
        shortest, longest = self.line.shards
        return not shortest <= -(-self.tokens // self.ranks) <= longest or self.ranks > self.line.most_ranks

    @property
    def is_mostly_untimed(self) -> bool:
        """Whether most of it is exchange over more ranks than any collective was timed over."""
        return not self.is_timed and self.exchange_share > HALF


@dataclass(frozen=True, slots=True)
class Projected:
    """Everything that was found of a run.

    Args:
        links: by kind of collective, measured or assumed.
        memory: of one rank's device, in bytes; None where nobody knows.
        refused: lines that cannot be projected, and why.
    """

    projections: tuple[Projection, ...]
    checks: tuple[Check, ...]
    links: Mapping[str, Link]
    memory: Bytes | None
    refused: Mapping[str, str]

    @property
    def found(self) -> list[Found]:
        """The checks, summed up."""
        return summed_up(self.checks)

    @property
    def is_assumed(self) -> bool:
        """Whether the links are."""
        return any(link.is_assumed for link in self.links.values())

    @property
    def lines(self) -> list[Line]:
        """Every line that was projected."""
        return list({id(each.line): each.line for each in self.projections}.values())


def project(
    run: Run,
    tokens: Sequence[int],
    ranks: Sequence[int],
    link: str | None = None,
    memory: Bytes | None = None,
    *,
    is_filtered: bool = False,
) -> Projected:
    """What every attention of the run that can be spread would take at each length over each number of ranks.

    Args:
        link: assumed rather than measured: ``5us,50GB/s``.
        memory: of one rank's device; None: that of the machine, or the GPU, of the run.
        is_filtered: whether conditions left some of its rows out, for messages.

    Raises:
        UsageError: the run lacks what the model is fitted to; the message says what to sweep.
    """
    measured = fit_links(collectives_of(run))
    links = assumed_links(link) if link else measured
    lines, refused = _projectable(run, links, WHERE if is_filtered else "")
    found = checks(lines, measured)
    room = memory or memory_of(run)
    projections = [
        _project(line.at(each, count), line, found, links, room)
        for line in lines
        for each, count in itertools.product(tokens, ranks)
        if count <= each
    ]
    if not projections:
        raise UsageError(f"--tokens {tokens[-1]} --ranks {ranks[0]}: every rank needs one token at least")
    return Projected(tuple(projections), tuple(found), links, room, refused)


def _projectable(run: Run, links: Mapping[str, Link], where: str) -> tuple[list[Line], dict[str, str]]:
    lines, refused = lines_of(run.rows)
    if not lines:
        reasons = "; ".join(f"{label} {reason}" for label, reason in list(refused.items())[:3])
        raise UsageError(
            f"run {run.name} has no attention to project{f': {reasons}' if reasons else ''}; {where or HOW_TO_SWEEP}"
        )
    linked = [line for line in lines if can_be_linked(line, links)]
    if not linked:
        raise UsageError(
            f"run {run.name} timed no collectives, so nothing says what an exchange takes; {HOW_TO_SWEEP}, "
            "or assume a link: --link 5us,50GB/s"
        )
    labels = {line.label for line in linked}
    unlinked = {
        name_of(line.facet, line.label, line.label in labels): _missing(line, links)
        for line in lines
        if line not in linked
    }
    return linked, {**refused, **unlinked}


def _missing(line: Line, links: Mapping[str, Link]) -> str:
    """Which collectives the line needs that nobody timed."""
    kinds = [each.kind for each in exchanges(line.at(1024, 2)) if each.kind not in links]
    return f"needs a collective that the run did not time ({', '.join(kinds)}); sweep again with --ranks 1,2"


def memory_of(run: Run) -> Bytes | None:
    """What one rank's device holds: the run's GPU, or its machine; None where run.json does not say."""
    environment = run.info.get("environment", {})
    on_gpu = any(row.device != "cpu" for row in run.rows)
    found = environment.get("gpu_memory_bytes" if on_gpu else "memory_bytes")
    return int(found) if found else None


def _project(
    case: Case, line: Line, checks: Sequence[Check], links: Mapping[str, Link], room: Bytes | None
) -> Projection:
    ranks = case.ranks or 1
    exchange, work = exchange_seconds(case, links), line.work(ranks).seconds(case.seq_len, ranks)
    over = links_of(line, ranks, links)
    errors = errors_of(line, ranks, checks, over)
    low, high = errors.interval(work, exchange) if errors else (None, None)
    is_timed = all(link.is_assumed or ranks <= link.most_ranks for link in over)
    memory = _memory(case)
    fits = None if memory is None or room is None else memory <= room
    received = case.received_bytes_formula or 0
    return Projection(
        line, case.seq_len, ranks, work + exchange, low, high, exchange, is_timed, memory, received, fits
    )


def _memory(case: Case) -> Bytes | None:
    workspace = case.analytic_memory_bytes
    return None if workspace is None else input_bytes(case) + workspace
