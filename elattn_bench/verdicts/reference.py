"""What is faster than the reference, by how much, from which length on: one run. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from elattn_bench.analysis import (
    Facet,
    Ratio,
    by_facet,
    by_label,
    latency_ratio,
    quotient,
    short_status,
)
from elattn_bench.errors import UsageError
from elattn_bench.names import check_names, nearest
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.units import format_length

DEFAULT_REFERENCE = "softmax/sdpa"
METRICS = ("latency", "memory", "params")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One case against the reference at the same sizes.

    speed_up: reference's latency over the case's; above 1 the case is faster.
    memory_ratio, params_ratio: the case's over the reference's; below 1 the case needs less.
    missing: why there is no speed-up: ``oom``, ``timeout``, ``reference oom``, ...; else empty.
    """

    row: Row
    reference: Row | None
    speed_up: Ratio | None
    memory_ratio: float | None
    params_ratio: float | None
    missing: str = ""

    @property
    def beats_reference(self) -> bool | None:
        """Whether the case is faster beyond doubt; None where nobody can say.

        A case that ran where the reference ran out of memory or time is faster; the reverse is not.
        """
        if self.speed_up is not None:
            return self.speed_up.low > 1
        if self.reference is None:
            return None
        gave_up = ("oom", "timeout")
        lost, reference_lost = (short_status(row.status) in gave_up for row in (self.row, self.reference))
        if self.row.ok and reference_lost:
            return True
        return False if lost and self.reference.ok else None


def compare_to_reference(
    run: Run, reference: str = DEFAULT_REFERENCE, metrics: Sequence[str] = METRICS
) -> list[Comparison]:
    """Every case of the run against the reference of its facet and length; sorted by facet and line.

    Args:
        run: the run.
        reference: ``attention``, ``attention/backend`` or either with an order, ``ea-series/eager t=6``.
        metrics: which of ``latency``, ``memory`` and ``params`` to fill in.

    Raises:
        UsageError: the run holds no such impl, the reference names several, or a metric is unknown.
    """
    check_names("metric", metrics, METRICS)
    labels = reference_labels(run.rows, reference)
    comparisons = []
    for facet, rows in by_facet(run.rows).items():
        references = {row.seq_len: row for row in rows if row.label == labels.get(facet)}
        for line in by_label(rows).values():
            comparisons += [_compare(row, references.get(row.seq_len), metrics) for row in line]
    return comparisons


def _compare(row: Row, reference: Row | None, metrics: Sequence[str]) -> Comparison:
    if reference is None:
        return Comparison(row, None, None, None, None, _missing(row, None))
    speed_up = latency_ratio(reference, row) if "latency" in metrics else None
    memory = quotient(row.peak_memory_bytes, reference.peak_memory_bytes) if "memory" in metrics else None
    params = quotient(row.params, reference.params) if "params" in metrics else None
    return Comparison(row, reference, speed_up, memory, params, _missing(row, reference))


def without_reference(run: Run) -> list[Comparison]:
    """Every case of the run for itself, in the order of ``compare_to_reference``: for tables of absolute values."""
    return [
        Comparison(row, None, None, None, None, "" if row.ok else short_status(row.status))
        for rows in by_facet(run.rows).values()
        for line in by_label(rows).values()
        for row in line
    ]


def _missing(row: Row, reference: Row | None) -> str:
    if not row.ok:
        return short_status(row.status)
    if reference is None:
        return "no reference"
    return "" if reference.ok else f"reference {short_status(reference.status)}"


def reference_labels(rows: Sequence[Row], reference: str) -> dict[Facet, str]:
    """The one line that the reference's name means, in each facet that has it.

    Raises:
        UsageError: no line has that name, or several lines of one facet do.
    """
    wanted = " ".join(reference.split())
    labels = {facet: _matching_labels(group, wanted) for facet, group in by_facet(rows).items()}
    found = {label for matching in labels.values() for label in matching}
    if not found:
        raise UsageError(_no_such_reference(rows, wanted))
    for matching in labels.values():
        if len(matching) > 1:
            raise UsageError(
                f"--reference {wanted}: a reference is one impl, and this run has {len(matching)} "
                f"of that name: {', '.join(matching)}; name one of them"
            )
    return {facet: matching[0] for facet, matching in labels.items() if matching}


def _matching_labels(rows: Sequence[Row], wanted: str) -> list[str]:
    return [label for label, line in by_label(rows).items() if wanted in _spellings(line[0])]


def _spellings(row: Row) -> set[str]:
    order = label_suffix(row)
    return {row.attention, row.impl, row.attention + order, row.impl + order}


def label_suffix(row: Row) -> str:
    """What the label says beyond the impl: `` t=6``, or nothing."""
    return row.label.removeprefix(row.impl)


def _no_such_reference(rows: Sequence[Row], wanted: str) -> str:
    known = list(by_label(rows))
    near = nearest(wanted, [*known, *dict.fromkeys(row.impl for row in rows)])
    hint = f"did you mean '{near}'?" if near else "name one of them (compare --absolute needs none)"
    return f"--reference {wanted}: this run has no such impl, only {', '.join(known)}; {hint}"


@dataclass(frozen=True, slots=True)
class FasterFrom:
    """From which measured length on a line is faster than the reference.

    length: the first from which it stays faster at every longer one; None if there is none.
    always: whether that is the shortest length compared.
    compared: how many lengths could be compared.
    """

    length: int | None
    always: bool
    compared: int

    def __str__(self) -> str:
        """``2k``, ``always``, ``never`` or, where nothing could be compared, ``-``."""
        if not self.compared:
            return "-"
        if self.length is None:
            return "never"
        return "always" if self.always else format_length(self.length)

    @property
    def sentence(self) -> str:
        """The same, spelt out."""
        if not self.compared:
            return "cannot be compared"
        if self.length is None:
            return "never within the measured range"
        return "at every measured length" if self.always else f"from L = {format_length(self.length)} on"


def faster_from(comparisons: Iterable[Comparison]) -> FasterFrom:
    """From which length on one line (the comparisons of one label in one facet) is faster."""
    beats = {item.row.seq_len: item.beats_reference for item in comparisons}
    lengths = sorted(length for length, beaten in beats.items() if beaten is not None)
    first = len(lengths)
    while first and beats[lengths[first - 1]]:
        first -= 1
    if first == len(lengths):
        return FasterFrom(None, False, len(lengths))
    return FasterFrom(lengths[first], first == 0, len(lengths))
