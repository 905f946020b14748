"""Values of hyperparameters, as a case has them and as a line of text. No torch."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from attention_impls import Hyperparameter

Value: TypeAlias = bool | int | float | str | None
Hyperparameters: TypeAlias = tuple[tuple[str, Value], ...]
"""Name and value of every knob that was asked for, sorted by name; without the order."""


@dataclass(frozen=True, slots=True)
class KnobAxis:
    """A swept hyperparameter of one attention, and its values."""

    attention: str
    name: str
    values: tuple[Value, ...]


def combinations(axes: Iterable[KnobAxis]) -> list[Hyperparameters]:
    """Every combination of the values of one attention's knobs; of no axes the one that asks for nothing."""
    ordered = sorted(axes, key=lambda each: each.name)
    names = [each.name for each in ordered]
    products = itertools.product(*(each.values for each in ordered))
    return [tuple(zip(names, values, strict=True)) for values in products]


SEPARATOR = ";"  # in a column; what no value holds
_WORDS: Mapping[str, Value] = {"none": None, "true": True, "false": False}
_WHOLE = re.compile(r"-?\d+")
_FORBIDDEN = re.compile(r"[\s;:=,|]")  # of a word: it would end where another begins


def text_of(values: Hyperparameters, separator: str = SEPARATOR) -> str:
    """``latents=64;window=8``; empty where nothing was asked for."""
    return separator.join(f"{name}={word_of(value)}" for name, value in values)


def values_of(text: str) -> Hyperparameters:
    """The values in a text that ``text_of`` made.

    Raises:
        ValueError: it has another form.
    """
    pairs = [part.partition("=") for part in text.split(SEPARATOR) if text]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError(f"'{text}' is not name=value")
    return tuple((name, value_of(word)) for name, _, word in pairs)


def word_of(value: Value) -> str:
    """``none``, ``true``, ``64``, ``0.5``, ``softmax``; a number with all its digits."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def value_of(word: str) -> Value:
    """What a word means where nobody knows its knob: a number if it is one."""
    if word in _WORDS:
        return _WORDS[word]
    if _WHOLE.fullmatch(word):
        return int(word)
    number = finite(word)
    return word if number is None else number


def finite(word: str) -> float | None:
    """The finite number that the word is, or None."""
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def is_plain(word: str) -> bool:
    """Whether the word can stand in a text among others."""
    return bool(word) and not _FORBIDDEN.search(word)


def as_knobs_have_them(values: Hyperparameters, knobs: Mapping[str, Hyperparameter]) -> Hyperparameters:
    """The values read from a text, where words stayed words: a knob of words may know ``none``."""
    return tuple(
        (name, word_of(value) if name in knobs and isinstance(knobs[name].default, str) else value)
        for name, value in values
    )


SortKey: TypeAlias = tuple[tuple[str, bool, float, str], ...]


def sort_key(values: Hyperparameters) -> SortKey:
    """Sorts lines by their knobs: numbers as numbers, words after them."""
    return tuple((name, *_rank(value)) for name, value in values)


def _rank(value: Value) -> tuple[bool, float, str]:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (not number, float(value or 0) if number else 0.0, "" if number else word_of(value))
