"""An axis and the grammar that people write one in. No torch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from elattn_bench.errors import UsageError
from elattn_bench.units import LENGTH_PREFIXES, format_length

LARGEST_VALUE = 2**30  # beyond is a slip of the finger: it would need over 4 GB per channel
LARGEST_AXIS = 10_000  # values on one axis; more is a slip too

_NUMBER = re.compile(r"(\d+)([kMG]?)")


@dataclass(frozen=True, slots=True)
class Axis:
    """A swept quantity: its option name and its values, ascending, without repeats."""

    name: str
    values: tuple[int, ...]

    @classmethod
    def parse(cls, name: str, text: str, *, minimum: int = 1) -> Axis:
        """The axis that the text describes.

        Grammar: ``512`` | ``1k,2k,8k`` | ``256:65536:x2`` (geometric) | ``16:128:16`` (arithmetic),
        both inclusive; k = 1024, M = 1024 k, G = 1024 M; commas join any of them.

        Raises:
            UsageError: the text breaks the grammar or the limits; the message says which rule.
        """
        values: set[int] = set()
        for part in text.split(","):
            values.update(_parse_part(name, text, part.strip(), minimum))
            if len(values) > LARGEST_AXIS:
                raise UsageError(f"--{name} {text}: more than {LARGEST_AXIS} values; take a larger step")
        return cls(name, tuple(sorted(values)))


def _parse_part(name: str, text: str, part: str, minimum: int) -> Iterable[int]:
    if ":" not in part:
        return [_parse_value(name, text, part, minimum)]
    pieces = part.split(":")
    if len(pieces) != 3:
        raise UsageError(f"--{name} {text}: a range is first:last:step; write 256:8192:x2 or 16:128:16")
    first, last = (_parse_value(name, text, piece, minimum) for piece in pieces[:2])
    if first > last:
        raise UsageError(
            f"--{name} {text}: the range runs backwards; write {pieces[1]}:{pieces[0]}:{pieces[2]}"
        )
    return _range(name, text, first, last, pieces[2])


def _range(name: str, text: str, first: int, last: int, step_text: str) -> Iterator[int] | range:
    geometric = step_text.startswith("x")
    match = _NUMBER.fullmatch(step_text.removeprefix("x"))
    step = int(match[1]) * LENGTH_PREFIXES[match[2]] if match else 0
    smallest = 2 if geometric else 1
    if step < smallest:
        raise UsageError(
            f"--{name} {text}: '{step_text}' is not a step; write x2 (times 2) or 16 (plus 16), "
            f"at least {'x2' if geometric else '1'}"
        )
    if geometric and first == 0:
        raise UsageError(f"--{name} {text}: a geometric range cannot begin at 0")
    if geometric:
        return itertools.takewhile(lambda value: value <= last, (first * step**n for n in itertools.count()))
    if (last - first) // step >= LARGEST_AXIS:
        raise UsageError(f"--{name} {text}: more than {LARGEST_AXIS} values; take a larger step")
    return range(first, last + 1, step)


def _parse_value(name: str, text: str, piece: str, minimum: int) -> int:
    match = _NUMBER.fullmatch(piece)
    if not match:
        raise UsageError(
            f"--{name} {text}: '{piece}' is not a positive whole number; write 512, 1k,2k or 256:8192:x2"
        )
    value = int(match[1]) * LENGTH_PREFIXES[match[2]]
    if value < minimum:
        raise UsageError(f"--{name} {text}: {value} is too small; the smallest is {minimum}")
    if value > LARGEST_VALUE:
        raise UsageError(
            f"--{name} {text}: {piece} is absurdly large; the largest is {format_length(LARGEST_VALUE)}"
        )
    return value


def is_whole(text: str) -> bool:
    """Whether the text is one whole number of an axis: ``512``, ``1k``, ``4M``."""
    return _NUMBER.fullmatch(text) is not None
