"""Some of a run's cases: what ``--where`` says, and the run that has those alone. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from elattn_bench.axis import Axis, is_whole
from elattn_bench.errors import UsageError
from elattn_bench.knobs import word_of
from elattn_bench.names import nearest
from elattn_bench.results import Row
from elattn_bench.rundir import Run

SIZES = ("batch", "heads", "seq_len", "dim", "order", "ranks")
WORDS = (
    "impl",
    "attention",
    "backend",
    "level",
    "mode",
    "dtype",
    "device",
    "causal",
    "cache",
    "device_type",
    "host",
)


@dataclass(frozen=True, slots=True)
class Condition:
    """An axis and the values that it may have, as they were written."""

    axis: str
    text: str

    def __str__(self) -> str:
        return f"--where {self.axis}={self.text}"


def filtered(run: Run, texts: Sequence[str]) -> Run:
    """The run with the cases alone that keep all the conditions.

    A case that lacks an axis keeps every condition on it, as in a sweep: ``order=6`` leaves softmax in.

    Args:
        run: the run.
        texts: ``dim=64,512``, ``level=op,dim=512``; the axes of a case, ``impl``, or a knob of the run.

    Raises:
        UsageError: a condition cannot be read, or names an axis or a value that the run does not have.
    """
    rows = list(run.rows)
    for condition in parse(texts):
        rows = _keeping(rows, condition, _allowed(run, condition))
    if not rows:
        raise UsageError(
            f"--where {' --where '.join(texts)}: no case of this run keeps all of these; ask for less"
        )
    return replace(run, rows=rows)


def parse(texts: Iterable[str]) -> list[Condition]:
    """The conditions in texts such as ``level=op,dim=64,512``: a comma goes on, a new ``axis=`` begins anew.

    Raises:
        UsageError: a text has another form, or an axis is there twice.
    """
    values: dict[str, list[str]] = {}
    for text in texts:
        axis = ""
        for part in text.split(","):
            name, equals, value = part.strip().rpartition("=")
            if equals:
                axis = name.strip().replace("-", "_")
                if axis in values:
                    raise UsageError(f"--where {text}: '{axis}' is there twice; write its values with commas")
            if not axis or not value.strip():
                raise UsageError(f"--where {text}: is not AXIS=VALUES; write level=op or dim=64,512")
            values.setdefault(axis, []).append(value.strip())
    return [Condition(axis, ",".join(of_axis)) for axis, of_axis in values.items()]


def _keeping(rows: Iterable[Row], condition: Condition, allowed: frozenset[str]) -> list[Row]:
    found = ((row, _value(row, condition.axis)) for row in rows)
    return [row for row, value in found if value is None or value in allowed]


def _value(row: Row, axis: str) -> str | None:
    """The row's value as a word; None where it does not have the axis."""
    if axis in SIZES + WORDS:
        value = getattr(row, axis)
        return None if value is None else word_of(value)
    knobs = dict(row.hyperparameters)
    return word_of(knobs[axis]) if axis in knobs else None


def _allowed(run: Run, condition: Condition) -> frozenset[str]:
    """The values that the condition names and the run has; of a range those within, of a value itself."""
    known = _known(run, condition)
    chosen: set[str] = set()
    for part in condition.text.split(","):
        named = _named(condition.axis, part)
        if not known.keys() & named:
            near = nearest(part, known)
            hint = f"; did you mean '{near}'?" if near else ""
            raise UsageError(f"{condition}: no case has {part}; this run has {', '.join(known)}{hint}")
        chosen |= named
    return frozenset(chosen)


def _known(run: Run, condition: Condition) -> dict[str, None]:
    """The values of the axis in the run, in the order measured."""
    values = dict.fromkeys(_value(row, condition.axis) for row in run.rows)
    known = dict.fromkeys(value for value in values if value is not None)
    if not known:
        names = _axes(run)
        near = nearest(condition.axis, names)
        hint = f"; did you mean '{near}'?" if near else ""
        raise UsageError(f"{condition}: no case has '{condition.axis}'; name one of {', '.join(names)}{hint}")
    return known


def _named(axis: str, part: str) -> set[str]:
    """``64``, ``1k`` and ``1k:8k:x2`` as numbers, anything else as it is."""
    if is_whole(part.split(":")[0]):
        return {str(value) for value in Axis.parse(f"where {axis}", part, minimum=0).values}
    return {part}


def _axes(run: Run) -> list[str]:
    knobs = sorted({name for row in run.rows for name, _ in row.hyperparameters})
    return [*WORDS, *SIZES, *knobs]
