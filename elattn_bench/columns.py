"""Fields of a dataclass as columns of text, and back. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from elattn_bench import knobs


def _parse_bool(text: str) -> bool:
    return {"true": True, "false": False}[text]


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "str": str, "int": int, "float": float, "bool": _parse_bool, "Hyperparameters": knobs.values_of,
}  # fmt: skip


def types_of(row: type) -> Mapping[str, Sequence[str]]:
    """The types of the dataclass's columns, as words: ``["int", "None"]``."""
    return {column.name: str(column.type).split(" | ") for column in fields(row)}


def from_text(types: Mapping[str, Sequence[str]], column: str, text: str) -> Any:
    """The value of a column that the text stands for; None where it is empty and may be.

    Raises:
        ValueError: it does not have the column's type; the message names the column.
    """
    kind, *optional = types[column]
    if text == "" and optional:
        return None
    try:
        return _PARSERS[kind](text)
    except (ValueError, KeyError):
        raise ValueError(f"column {column}: '{text}' is not of type {kind}") from None


def to_text(value: object) -> str:
    """The value as it stands in a file: one line, whatever it holds."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, tuple):
        return knobs.text_of(value)
    return " ".join(str(value).split())  # an error message may hold several lines
