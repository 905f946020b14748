"""Tables of a projection: first what the model is worth, then what it says. Nothing in them is a measurement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from elattn_bench.analysis import Facet
from elattn_bench.projection.compute import Compute
from elattn_bench.projection.lines import Line
from elattn_bench.projection.links import Link
from elattn_bench.projection.model import Found, Projected, Projection
from elattn_bench.projection.validation import SHORTER, factor
from elattn_bench.tables.listings import NO_NUMBER
from elattn_bench.tables.render import Column, Report, Table
from elattn_bench.units import format_bytes, format_length, format_ms, format_span, significant

SMALLEST_SHARE = 0.001  # of the time; below it is less than anybody would look for
MARK = "*"  # beyond what was checked
UNTIMED = "?"  # mostly exchange, over more ranks than any that was timed
OVER = "!"  # of memory: more than there is

_CHECKED = (
    Column("attention"), Column("mode"), Column("mask"), Column("of"), Column("rows", "right"),
    Column("up to", "right"), Column("median", "right"), Column("worst", "right"),
)  # fmt: skip
_LINKS = (
    Column("collective"), Column("algorithm"), Column("latency", "right"), Column("bandwidth", "right"),
    Column("ranks"), Column("up to", "right"), Column("worst", "right"),
)  # fmt: skip
_PROJECTED = (
    Column("attention"), Column("ranks", "right"), Column("time", "right"), Column("within", "right"),
    Column("exchange", "right"), Column("memory", "right"), Column("received", "right"),
)  # fmt: skip

COLLECTIVES = {
    "total": "sum over all", "before": "prefix scan", "gather": "gathering", "scatter": "scattered sum",
}  # fmt: skip
"""Kind of collective -> its name for people."""

CHECKED_NOTE = (
    "Checked: predicted over measured time, 1 is right. Ranks: each row of 2 ranks or more, its work predicted from "
    "other lengths alone, its exchange from the timed collectives. Length: the longest rows, of one rank and of more, "
    f"their work predicted from lengths up to 1/{SHORTER} of theirs alone."
)
PROJECTED_NOTE = (
    "Projected, never measured: time = one rank's work + its exchanges by the links, none of it overlapping; within: "
    "work as far off as fits and checks of the line's work were, exchange as far as its links and checks were; "
    "exchange: its share of the time; memory and received bytes by formula, of the rank with most. "
    f"{MARK}: a longer or shorter shard, or more ranks, than any measured, so extrapolated: nothing checked it. "
    f"{UNTIMED}: mostly exchange, over more ranks than any collective was timed with: how it grows is the algorithm's "
    f"theory. {OVER}: more memory than a rank has."
)
MEASURED_LINK_NOTE = (
    "Links as this run timed them, larger tensors extrapolated; worst: model over time, 1 is right. "
    "Within one machine a link is its memory, not a network; "
    "--link assumes another. A sum over all takes {steps}."
)
ASSUMED_LINK_NOTE = (
    "The links are assumed (--link), not measured: times of exchanges follow from that assumption, and the interval "
    "is that of the work alone. A sum over all takes {steps}."
)
STEPS = {
    "gloo": "gloo's ring: 2 (P - 1) latencies",
    "nccl": "NCCL's double binary tree: 2 log2(P) latencies",
}
"""Of the one collective that is the library's own."""

OF_ONE_NOTE = "Work over ranks was not measured (no work_ms), so it is taken from one rank's"
SECOND_PASS_NOTE = (
    " The second pass over keys and values that causal linear attentions make over ranks is left out, so their times "
    "over 2 ranks or more are too low."
)


def projection_report(found: Projected) -> Report:
    """The checks, the links, and per setting and length the projections."""
    tables = [
        *([_checked_table(found.found)] if found.checks else []), _links_table(found), *_projected_tables(found),
    ]  # fmt: skip
    records = [_record(each, found) for each in found.projections]
    return Report(tables, records, notes(found), about(found))


def _projected_tables(found: Projected) -> list[Table]:
    groups: defaultdict[tuple[Facet, int], list[Projection]] = defaultdict(list)
    for each in found.projections:
        groups[each.line.facet, each.tokens].append(each)
    word = ", links assumed" if found.is_assumed else ""
    return [
        Table(
            f"Projected to {format_length(tokens)} tokens{word}: {facet.text}", _PROJECTED, list(map(_cells, each)), 2
        )
        for (facet, tokens), each in groups.items()
    ]  # fmt: skip


def notes(found: Projected) -> list[str]:
    """How to read it, and what stands on which ground."""
    unchecked = dict.fromkeys(each.line.label for each in found.projections if each.low is None)
    whole = dict.fromkeys(line.label for line in found.lines if not line.of_one_rank)
    return [
        *([CHECKED_NOTE, checked_range(found)] if found.checks else []),
        link_note(found),
        PROJECTED_NOTE,
        *of_one_notes(found.lines),
        "How much memory a rank has is unknown; say --memory 80GiB."
        if found.memory is None
        else f"A rank is taken to have {format_bytes(found.memory)}.",
        *([f"No interval where nothing like it was checked: {', '.join(unchecked)}."] if unchecked else []),
        *(
            [f"Without rows of --ranks 1, fitted to sequences in one piece: {', '.join(whole)}."]
            if whole
            else []
        ),
        *(f"Not projected: {label} {reason}." for label, reason in found.refused.items()),
    ]


def link_note(found: Projected) -> str:
    """On which ground the links stand, and by whose algorithms they are used."""
    note = ASSUMED_LINK_NOTE if found.is_assumed else MEASURED_LINK_NOTE
    libraries = dict.fromkeys(link.library for link in found.links.values())
    return note.format(steps=", ".join(map(STEPS.__getitem__, libraries)))


def of_one_notes(lines: Sequence[Line]) -> list[str]:
    """Whose work over ranks nobody measured, and what that leaves out; empty where all was."""
    found = [line for line in lines if line.among is None]
    if not found:
        return []
    labels = ", ".join(dict.fromkeys(line.label for line in found))
    passes = any(line.facet.causal and line.alone.growth == "linear" for line in found)
    return [f"{OF_ONE_NOTE}: {labels}.{SECOND_PASS_NOTE if passes else ''}"]


def checked_range(found: Projected) -> str:
    """For which sizes the model was checked."""
    spread = [each for each in found.found if each.what == "ranks"]
    if not spread:
        return (
            "No row of 2 ranks or more could be checked, which takes rows of other lengths: all that concerns "
            "ranks is unchecked."
        )
    shortest, longest = (pick(each.lengths[i] for each in spread) for i, pick in enumerate((min, max)))
    ends = " to ".join(dict.fromkeys(map(format_length, (shortest, longest))))
    rows = sum(each.rows for each in spread)
    return (
        f"Over ranks it was checked on {rows} rows, up to {max(each.ranks for each in spread)} ranks and "
        f"L = {ends}; all beyond is extrapolated."
    )


def _checked_table(found: Sequence[Found]) -> Table:
    return Table(
        "Checked: the model's time over the measured one", _CHECKED, list(map(_checked_cells, found)), 3
    )


def _checked_cells(found: Found) -> list[str]:
    longest = format_length(found.lengths[1])
    reach = f"{found.ranks} x {longest}" if found.what == "ranks" else longest
    mask = "causal" if found.causal else "full"
    errors = [significant(value, 3) for value in (found.median, found.worst)]
    return [found.label, found.mode, mask, found.what, str(found.rows), reach, *errors]


def _links_table(found: Projected) -> Table:
    word = "assumed" if found.is_assumed else "measured"
    rows = [[COLLECTIVES[kind], link.algorithm, *_link_cells(link)] for kind, link in found.links.items()]
    return Table(f"Links: {word}", _LINKS, rows)


def _link_cells(link: Link) -> list[str]:
    rate = significant(1e-9 / link.seconds_per_byte, 3) + " GB/s" if link.seconds_per_byte else NO_NUMBER
    numbers = [format_ms(1e3 * link.latency), rate]
    if link.is_assumed:
        return [*numbers, "assumed", NO_NUMBER, NO_NUMBER]
    ranks = ",".join(map(str, sorted({each.ranks for each in link.fitted})))
    largest = format_bytes(max(each.bytes for each in link.fitted))
    return [*numbers, ranks, largest, _ratio(max(link.residuals, key=factor))]


def _cells(each: Projection) -> list[str]:
    mark = MARK if each.is_extrapolated else ""
    return [
        each.line.label, str(each.ranks), f"{format_span(each.seconds)}{mark}", interval_of(each),
        share_text(each), memory_text(each), format_bytes(each.received),
    ]  # fmt: skip


def share_text(each: Projection) -> str:
    """``95 %?`` where nobody timed that exchange over so many ranks, and it is most of the time."""
    return percent(each.exchange_share) + (UNTIMED if each.is_mostly_untimed else "")


def memory_text(each: Projection) -> str:
    """``128 GiB !`` where that is more than there is; ``unknown`` without a formula."""
    if each.memory is None:
        return "unknown"
    return format_bytes(each.memory) + (f" {OVER}" if each.fits is False else "")


def interval_of(each: Projection) -> str:
    """``x0.91-1.2``: the ends of the interval over the time."""
    if each.low is None or each.high is None:
        return "unchecked"
    low, high = (significant(end / each.seconds, 2) for end in (each.low, each.high))
    return f"x{low}-{high}"


def percent(share: float) -> str:
    """``62 %``; below 10 % with a decimal, and never rounded to nothing."""
    if 0 < share < SMALLEST_SHARE:
        return "<0.1 %"
    return f"{100 * share:.{0 if share >= 0.0995 or not share else 1}f} %"


def _ratio(value: float) -> str:
    return significant(value, 3)


def _record(each: Projection, found: Projected) -> dict[str, Any]:
    """One projection for programs."""
    facet = each.line.facet._asdict()
    del facet["ranks"], facet["cache"]
    own = [check.error for check in found.checks if check.line is each.line and check.what == "ranks"]
    return {
        "kind": "projected", "attention": each.line.label, **facet, "tokens": each.tokens, "ranks": each.ranks,
        "time_s": each.seconds, "time_s_low": each.low, "time_s_high": each.high, "exchange_s": each.exchange,
        "memory_bytes": each.memory, "received_bytes": each.received, "fits": each.fits,
        "extrapolated": each.is_extrapolated, "exchange_timed": None if found.is_assumed else each.is_timed,
        "link": "assumed" if found.is_assumed else "measured",
        "checked_rows": len(own), "worst_error": max(own, key=factor, default=None),
    }  # fmt: skip


def about(found: Projected) -> dict[str, Any]:
    """The grounds of a projection for programs: links, fits, checks row by row."""
    return {
        "kind": "projection",
        "memory_bytes": found.memory,
        "links": [
            {
                "collective": kind, "algorithm": link.algorithm, "library": link.library,
                "latency_s": link.latency, "seconds_per_byte": link.seconds_per_byte,
                "largest_bytes": max((each.bytes for each in link.fitted), default=None),
                "from": "assumed" if link.is_assumed else "measured",
                "worst_error": max(link.residuals, key=factor, default=None),
            }
            for kind, link in found.links.items()
        ],
        "fits": [
            _fit_record(line, compute)
            for line in found.lines for compute in (line.alone, line.among) if compute
        ],
        "checks": [
            {
                "attention": check.line.label, **check.line.facet._asdict(), "of": check.what,
                "seq_len": check.row.seq_len, "ranks": check.row.ranks, "predicted_s": check.predicted,
                "predicted_work_s": check.work, "predicted_exchange_s": check.exchange,
                "measured_s": (check.row.latency_ms_p50 or 0) / 1e3, "error": check.error,
            }
            for check in found.checks
        ],
    }  # fmt: skip


def _fit_record(line: Line, compute: Compute) -> dict[str, Any]:
    """One fit of work: of one rank, of a sequence in one piece, or of ranks among others."""
    of = "ranks" if compute is line.among else "one rank" if line.of_one_rank else "one piece"
    facet = line.facet._asdict()
    del facet["ranks"]
    return {
        "attention": line.label, **facet, "of": of, "growth": compute.growth, "start_s": compute.start,
        "seconds_per_work": compute.per_work, "shortest": compute.shortest, "longest": compute.longest,
        "worst_error": max(compute.residuals, key=factor),
    }  # fmt: skip
