"""The ``.ts`` text format of time series, as the UEA archive writes it; strict, for the part that we read.

The package ``aeon`` reads it too, but brings numba, scikit-learn and pandas along for what is a page of parsing.
Only series with a class, without time stamps and without gaps are read; whatever else is refused by its line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from elattn_bench.errors import MissingData
from elattn_bench.quality.data.nouns import Array

REQUIRED = {"timestamps": "false", "missing": "false", "classlabel": "true"}
"""What a header must say, in small letters: the first word after ``@`` -> the first word of its value."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Series of unequal length and their classes.

    Args:
        series: each [steps, channels] float64.
        classes: of each, its place in ``names``.
        names: of the classes, in the order of the header.
    """

    series: tuple[Array, ...]
    classes: tuple[int, ...]
    names: tuple[str, ...]


def parse(text: str, what: str) -> Labelled:
    """The series of a file.

    Args:
        text: its content.
        what: its name, for messages.

    Raises:
        MissingData: it is not such a file, or is cut; the message says at which line.
    """
    head, marker, body = text.partition("@data\n")
    if not marker:
        raise _refused(what, "there is no line '@data'")
    names, channels = _header(head, what)
    first = head.count("\n") + 2
    rows = [
        _row(line, names, channels, f"{what}, line {number}")
        for number, line in enumerate(body.splitlines(), first)
        if line.strip()
    ]
    if not rows:
        raise _refused(what, "there is no series after '@data'")
    return Labelled(tuple(row[0] for row in rows), tuple(row[1] for row in rows), names)


def _header(head: str, what: str) -> tuple[tuple[str, ...], int]:
    """The classes' names, and how many channels each series has."""
    lines = [line[1:].split() for line in head.splitlines() if line.startswith("@")]
    fields = {words[0].lower(): words[1:] for words in lines if words}
    for field, value in REQUIRED.items():
        if fields.get(field, [""])[:1] != [value]:
            raise _refused(what, f"its header must say '@{field} {value}'")
    dimensions = fields.get("dimensions", [])
    if len(dimensions) != 1 or not dimensions[0].isdigit():
        raise _refused(what, "its header must say '@dimensions' and a number")
    return tuple(fields["classlabel"][1:]), int(dimensions[0])


def _row(line: str, names: tuple[str, ...], channels: int, where: str) -> tuple[Array, int]:
    """A line's series [steps, channels] and its class."""
    *parts, name = line.strip().split(":")
    if len(parts) != channels:
        raise _refused(where, f"{channels} channels and a class were expected, {len(parts)} channels came")
    if name not in names:
        raise _refused(where, f"{name!r} is none of the classes {', '.join(names)}")
    columns = [_numbers(part, where) for part in parts]
    if len({len(column) for column in columns}) != 1:
        raise _refused(where, "its channels are not of one length")
    return np.stack(columns, axis=1), names.index(name)


def _numbers(part: str, where: str) -> Array:
    try:
        values = np.array(part.split(","), dtype=np.float64)
    except ValueError as error:
        raise _refused(where, str(error)) from error
    if not np.isfinite(values).all():
        raise _refused(where, "a value is not a finite number")
    return values


def _refused(where: str, reason: str) -> MissingData:
    return MissingData(f"{where}: {reason}; the file is damaged or of another kind: fetch it again")
