"""How far off a projection may be: the errors that its parts, work and exchange, have shown where they were known."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from elattn_bench.projection.compute import has_work, seconds_of, work_seconds
from elattn_bench.projection.exchanges import exchanges
from elattn_bench.projection.lines import Line
from elattn_bench.projection.links import Link
from elattn_bench.projection.validation import Check
from elattn_bench.results import Row
from elattn_bench.units import Seconds

STANDS_OUT = 0.1
"""Share of a call's time from which its exchange is told from noise: work is a median of few samples. Chosen."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Predicted over measured, 1 is right, of work and of exchange apart."""

    work: Sequence[float]
    exchange: Sequence[float]

    def interval(self, work: Seconds, exchange: Seconds) -> tuple[Seconds, Seconds]:
        """The least and the most that the two parts stand for together.

        A part predicted at 0.5 of what was measured stands for twice its value; the value itself is always within.
        """
        low = work / max((1.0, *self.work)) + exchange / max((1.0, *self.exchange))
        high = work / min((1.0, *self.work)) + exchange / min((1.0, *self.exchange))
        return low, high


def errors_of(line: Line, ranks: int, checks: Iterable[Check], links: Collection[Link]) -> Errors | None:
    """What was seen of the line on one rank, or on more; None where nothing of it was checked.

    Work: of the fit to its rows, and of the checks. Exchange: of the links to the collectives that they were fitted
    to, and of the checks whose exchange stands out. A check whose row does not tell the two apart counts for both.
    An assumed link is taken at its word.

    Args:
        links: that the line's exchanges go over.
    """
    alike = [check for check in checks if check.line is line and _is_alike(check, ranks)]
    if not alike:
        return None
    assumed = any(link.is_assumed for link in links)
    told_apart = [check for check in alike if _is_told_apart(check.row)]
    both = [check.error for check in alike if not _is_told_apart(check.row)]
    work = [*line.work(ranks).residuals, *map(_work_error, told_apart)]
    exchange = [error for link in links for error in link.residuals]
    exchange += [error for check in told_apart if (error := _exchange_error(check))]
    return Errors([*work, *both], [] if assumed else [*exchange, *both])


def links_of(line: Line, ranks: int, links: Mapping[str, Link]) -> list[Link]:
    """Those of the collectives that the line makes over so many ranks."""
    return [links[each.kind] for each in exchanges(line.at(max(1024, ranks), ranks))]


def _is_alike(check: Check, ranks: int) -> bool:
    """Several ranks say nothing of one alone; one says something of several where their work is taken from it."""
    measured, work = check.row.ranks or 1, check.line.work
    return measured == 1 if ranks == 1 else work(measured) is work(ranks)


def _is_told_apart(row: Row) -> bool:
    return (row.ranks or 1) == 1 or has_work(row)


def _work_error(check: Check) -> float:
    return check.work / work_seconds(check.row)


def _exchange_error(check: Check) -> float | None:
    """Of what the call took beyond its work; None where neither that nor the prediction is more than noise."""
    row = check.row
    if (row.ranks or 1) == 1:
        return None
    spread = ((row.latency_ms_p75 or 0) - (row.latency_ms_p25 or 0)) / 1e3
    noise = max(spread, STANDS_OUT * seconds_of(row))
    beyond = seconds_of(row) - work_seconds(row)
    if max(beyond, check.exchange) < noise:
        return None
    return max(check.exchange, noise) / max(beyond, noise)
