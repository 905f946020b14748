"""Which columns the page's table has, and what its caption says of those that it does not need. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from elattn_bench.html.data import Column


@dataclass(frozen=True, slots=True)
class Heading:
    """A column of the table: its name in the data, its title with the unit.

    kind: ``few`` is searched by ticking words, ``number`` by bounds, ``text`` by typing.
    """

    name: str
    title: str
    kind: Literal["few", "number", "text"]


HEADINGS = (
    Heading("line", "implementation", "few"),
    Heading("seq_len", "length L", "number"),
    Heading("dim", "dim D", "number"),
    Heading("batch", "batch", "number"),
    Heading("heads", "heads", "number"),
    Heading("ranks", "ranks", "number"),
    Heading("status", "status", "few"),
    Heading("latency", "median, ms", "number"),
    Heading("speed_up", "speed-up", "number"),
    Heading("memory", "peak memory, MiB", "number"),
    Heading("received", "received, MiB", "number"),
    Heading("state", "state, MiB", "number"),
    Heading("level", "level", "few"),
    Heading("mode", "mode", "few"),
    Heading("mask", "mask", "few"),
    Heading("dtype", "dtype", "few"),
    Heading("cache", "cache", "few"),
    Heading("device_type", "device type", "few"),
    Heading("host", "host", "few"),
    Heading("device_name", "device", "few"),
    Heading("latency_p25", "quartile 1, ms", "number"),
    Heading("latency_p75", "quartile 3, ms", "number"),
    Heading("tokens", "tokens/s", "number"),
    Heading("error", "rel. RMS error", "number"),
    Heading("approximation", "approx. error", "number"),
    Heading("ceiling", "of ceiling", "number"),
    Heading("params", "parameters", "number"),
    Heading("stability", "stability", "few"),
    Heading("samples", "samples", "number"),
    Heading("reason", "reason", "text"),
)
WORDS = {
    "level": "level", "mode": "mode", "dtype": "dtype", "mask": "mask", "cache": "cache",
    "device_type": "device type", "ranks": "ranks", "batch": "batch", "heads": "heads",
    "dim": "dimension", "seq_len": "length",
}  # fmt: skip
"""What the held columns are called in sentences and at controls."""


def shown(columns: Mapping[str, Column]) -> list[dict[str, Any]]:
    """The headings of columns that differ between rows; those that are empty or alike everywhere say nothing."""
    return [asdict(heading) for heading in HEADINGS if len(_distinct(columns[heading.name])) > 1]


def caption(columns: Mapping[str, Column]) -> str:
    """What all rows have in common: ``All rows: level op, dtype float32.``"""
    alike = {name: _distinct(columns[name]) for name in WORDS}
    facts = [
        f"{WORDS[name]} {values[0]}"
        for name, values in alike.items()
        if len(values) == 1 and values[0] is not None
    ]
    return f"In all rows: {', '.join(facts)}." if facts else ""


def _distinct(column: Column) -> Sequence[Any]:
    return list(column["words"]) if "words" in column else list(set(column["numbers"]))
