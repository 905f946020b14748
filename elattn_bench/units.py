"""Units inside are SI; these functions make them readable on a screen, and read what people type."""

from __future__ import annotations

import math
import re
from typing import TypeAlias

Seconds: TypeAlias = float
Milliseconds: TypeAlias = float
Joules: TypeAlias = float
Bytes: TypeAlias = int

KIBI = 1024
_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def format_bytes(count: float | None) -> str:
    """Bytes for people: ``64.0 MiB``; ``-`` for a quantity that does not apply."""
    if count is None:
        return "-"
    power = 0 if abs(count) < 1 else min(int(math.log(abs(count), KIBI)), len(_BYTE_UNITS) - 1)
    if power == 0:
        return f"{count:.0f} B"
    return f"{significant(count / KIBI**power, 3)} {_BYTE_UNITS[power]}"


def format_ms(milliseconds: Milliseconds | None) -> str:
    """A latency for people, in us, ms or s, with three significant digits."""
    if milliseconds is None:
        return "-"
    if milliseconds < 1:
        return f"{significant(milliseconds * 1e3, 3)} us"
    if milliseconds < 1e3:
        return f"{significant(milliseconds, 3)} ms"
    return f"{significant(milliseconds / 1e3, 3)} s"


def format_duration(seconds: Seconds) -> str:
    """A waiting time for people: ``45 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_length(count: int) -> str:
    """A length or size for people: 16384 -> ``16k``, 1000 -> ``1000``."""
    return f"{count // KIBI}k" if count >= KIBI and count % KIBI == 0 else str(count)


def significant(value: float, digits: int) -> str:
    """The value with so many significant digits, never in scientific notation."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    # The exponent after rounding: 0.9999 has three digits as 1.00, not as 1.000.
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return f"{value:.{max(0, digits - 1 - exponent)}f}"


def parse_memory_limit(text: str, total: Bytes) -> Bytes:
    """A memory limit as bytes: a share of ``total`` (``80%``) or an amount (``512MiB``, ``8G``).

    Raises:
        ValueError: the text is neither, or the limit is not positive.
    """
    rule = "write a share such as 80% or an amount such as 8GiB"
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%|[KMGT](?:i?B)?|B)\s*", text, re.IGNORECASE)
    if not match:
        raise ValueError(f"'{text}' is not a memory limit; {rule}")
    number, unit = float(match[1]), match[2].upper()
    if unit == "%":
        if number > 100:
            raise ValueError(f"'{text}' is more than all the memory; {rule}")
        limit = total * number / 100
    else:
        limit = number * KIBI ** ("KMGT".index(unit[0]) + 1 if unit[:1] in set("KMGT") else 0)
    if limit < 1:
        raise ValueError(f"'{text}' leaves no memory; {rule}")
    return int(limit)
