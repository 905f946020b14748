"""What stands on the page besides chart and table: verdicts, what failed, how to repeat it, the machine. Pure."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elattn_bench.analysis import Facet, label_key, leading_facet, short_status
from elattn_bench.errors import UsageError
from elattn_bench.hosts import device_names, hosts_text
from elattn_bench.results import Row
from elattn_bench.roofline import Ceilings
from elattn_bench.rundir import Run
from elattn_bench.tables.listings import key_value_table
from elattn_bench.units import counted, format_length
from elattn_bench.verdicts import sentences
from elattn_bench.verdicts.nouns import VERDICT_METRICS
from elattn_bench.verdicts.reference import reference_labels

MOST_FAILURES = 40  # lines of what failed; all of them are in the page's table


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence, and what it is about."""

    facet: Facet
    metric: str
    line: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the run shows. ``missing`` says why there are no crossovers; empty where there are."""

    found: Sequence[Verdict]
    missing: str = ""

    @property
    def leading(self) -> Facet | None:
        """The facet that most people ask about."""
        facets = {verdict.facet for verdict in self.found}
        return leading_facet(facets) if facets else None

    def lead(self) -> dict[str, list[Verdict]]:
        """By metric, the verdicts of the leading facet."""
        leading = self.leading
        of_facet = [verdict for verdict in self.found if verdict.facet == leading]
        grouped = {metric: [each for each in of_facet if each.metric == metric] for metric in VERDICT_METRICS}
        return {metric: found for metric, found in grouped.items() if found}

    def rest(self) -> list[Verdict]:
        """The verdicts of all other facets."""
        leading = self.leading
        return [verdict for verdict in self.found if verdict.facet != leading]


def judge(run: Run, reference: str, *, required: bool) -> Verdicts:
    """The verdicts of the run.

    Args:
        required: whether a run without the reference is an error.

    Raises:
        UsageError: it is, and the run does not have it.
    """
    try:
        reference_labels(run.rows, reference)
    except UsageError as error:
        if required:
            raise
        return Verdicts(_sentences(run, None), str(error).partition(";")[0])
    return Verdicts(_sentences(run, reference))


def _sentences(run: Run, reference: str | None) -> list[Verdict]:
    return [
        Verdict(each.facet, metric, each.label, f"{each.label}: {each.clause(metric)}.")
        for each in sentences.verdicts(run, reference)
        for metric in each.scaling
    ]


@dataclass(frozen=True, slots=True)
class Failure:
    """Cases of one line that ended alike: how many, at which lengths, and the first one's reason."""

    line: str
    status: str
    count: int
    lengths: str
    reason: str


def failures(rows: Iterable[Row]) -> list[Failure]:
    """What was not measured, a line and a kind of end at a time; the worst kind first."""
    groups: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in sorted(
        (row for row in rows if not row.ok), key=lambda row: (_rank(row.status), label_key(row))
    ):
        groups[row.label, short_status(row.status)].append(row)
    return [
        Failure(line, status, len(group), _lengths(group), group[0].reason)
        for (line, status), group in groups.items()
    ]


def _rank(status: str) -> int:
    order = ("error", "timeout", "oom", "predicted_oom", "unsupported")
    return order.index(status) if status in order else len(order)


def _lengths(rows: Sequence[Row]) -> str:
    lengths = [row.seq_len for row in rows]
    shortest, longest = format_length(min(lengths)), format_length(max(lengths))
    return shortest if shortest == longest else f"{shortest} to {longest}"


def counts(rows: Sequence[Row]) -> str:
    """``326 of 331 cases were measured, 1 ran out of memory, 4 out of time``."""
    ended: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        ended[short_status(row.status)] += 1
    others = [f"{ended[status]} {words}" for status, words in _ENDED.items() if ended[status]]
    return ", ".join([f"{ended['ok']:,} of {len(rows):,} cases were measured", *others])


_ENDED: Mapping[str, str] = {
    "oom": "ran out of memory",
    "timeout": "ran out of time",
    "error": "ended with an error",
    "unsupported": "cannot run here",
}


def command(run: Run) -> str:
    """What to type to measure the same again; empty where the run does not say."""
    argv = run.info.get("argv")
    if not isinstance(argv, list) or not argv:
        return ""
    return shlex.join(["elattn-bench", *map(str, argv)])


def machine(run: Run) -> dict[str, list[Sequence[str]]]:
    """Tables of two columns by their captions: the environment, and what the device was measured to reach."""
    environment = run.info.get("environment")
    known = {key: value for key, value in (environment or {}).items() if value is not None}
    ceilings = Ceilings.from_json(run.info.get("ceilings") or {}).facts()
    tables = {"Environment": known, "Ceilings, measured at the start of the sweep": ceilings}
    return {title: list(key_value_table(title, facts).rows) for title, facts in tables.items() if facts}


def about(run: Run) -> dict[str, str]:
    """When, on what and with which version it was measured; what is unknown is left out."""
    environment: Mapping[str, Any] = run.info.get("environment") or {}
    started = str(run.info.get("started") or "")[:10]
    version, commit = (str(environment.get(key) or "") for key in ("elattn_bench", "git_commit"))
    torch = environment.get("torch")
    facts = {
        "device": " and ".join(device_names(run.rows)) or run.device_name,
        "hosts": f"measured {hosts}" if (hosts := hosts_text(run.rows)) else "",
        "threads": counted(environment["threads"], "thread") if environment.get("threads") else "",
        "torch": f"PyTorch {torch}" if torch else "",
        "date": started,
        "version": f"elattn-bench {version}" + (f" ({commit})" if commit else "") if version else "",
    }
    return {name: fact for name, fact in facts.items() if fact}
