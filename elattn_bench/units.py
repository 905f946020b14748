"""Units inside are SI; these functions make them readable on a screen, and read what people type."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TypeAlias

Seconds: TypeAlias = float
Milliseconds: TypeAlias = float
Joules: TypeAlias = float
Bytes: TypeAlias = int

KIBI = 1024
WITHOUT_INTERVAL = 3  # significant digits of a number whose uncertainty nobody knows
TIME_UNITS = {"us": 1e3, "ms": 1.0, "s": 1e-3}  # how many of each make a millisecond
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


SPAN_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "yr": 365.25 * 86400.0}  # seconds of each


def format_span(seconds: Seconds) -> str:
    """Any time for people, with two or three digits: ``1.23 ms``, ``45.0 s``, ``3.4 h``, ``120 yr``."""
    if seconds < 100:
        return format_ms(1e3 * seconds)
    unit = max((unit for unit, size in SPAN_UNITS.items() if seconds >= 2 * size), key=SPAN_UNITS.__getitem__)
    count = seconds / SPAN_UNITS[unit]
    shown = f"{count:.1e}" if count >= 1e5 else significant(float(f"{count:.2g}"), 2)
    return f"{shown} {unit}"


LENGTH_PREFIXES: Mapping[str, int] = {"G": KIBI**3, "M": KIBI**2, "k": KIBI, "": 1}
"""What a letter after a length means, the greatest first."""


def format_length(count: int) -> str:
    """A length or size for people: 16384 -> ``16k``, 2097152 -> ``2M``, 1000 -> ``1000``."""
    for unit, size in LENGTH_PREFIXES.items():
        if count >= size and count % size == 0:
            return f"{count // size}{unit}"
    return str(count)


def counted(count: int, noun: str) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{count} {noun}{'s' * (count != 1)}"


def significant(value: float, digits: int) -> str:
    """The value with so many significant digits, never in scientific notation."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    # The exponent after rounding: 0.9999 has three digits as 1.00, not as 1.000.
    return f"{value:.{max(0, digits - 1 - _exponent(value, digits))}f}"


def _exponent(value: float, digits: int = 1) -> int:
    """The power of ten of the first digit, once rounded to so many."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2])


def supported_decimals(value: float, low: float | None, high: float | None) -> int | None:
    """How many decimals of the value its interval supports; negative for tens, hundreds; None without interval.

    The uncertainty is the larger side of the interval, rounded to one significant digit, to two where the first
    is a 1 (Taylor 1997, An Introduction to Error Analysis, section 2.2; the Particle Data Group keeps two up to
    354 of 1000, GUM 7.2.6 asks for at most two). The value ends at the same decimal, but keeps one digit.
    """
    if low is None or high is None:
        return None
    uncertainty = max(high - value, value - low)
    if not 0 < uncertainty < math.inf:
        return None
    leading, _, exponent = f"{uncertainty:.1e}".partition("e")
    decimals = int(leading.startswith("1")) - int(exponent)
    return max(decimals, -_exponent(value)) if value else decimals


def rounded_to(value: float, low: float | None, high: float | None) -> str:
    """The value with the digits that its interval supports; with three where there is no interval."""
    decimals = supported_decimals(value, low, high)
    return significant(value, WITHOUT_INTERVAL) if decimals is None else _rounded(value, decimals)


def with_uncertainty(value: float, low: float | None, high: float | None) -> str:
    """``12.35 ± 0.04``: the value, and how far the further end of its interval lies; without interval ``12.3``.

    ± and not brackets behind the digits: those are for a standard deviation (GUM 7.2.2 and 7.2.4).
    """
    decimals = supported_decimals(value, low, high)
    if decimals is None or low is None or high is None:
        return significant(value, WITHOUT_INTERVAL)
    return f"{_rounded(value, decimals)} ± {_rounded(max(high - value, value - low), decimals)}"


def format_latency(
    milliseconds: Milliseconds | None, low: Milliseconds | None = None, high: Milliseconds | None = None
) -> str:
    """A latency for people, in us, ms or s, with the digits that its interval supports; ``-`` for none."""
    if milliseconds is None:
        return "-"
    numbers = [
        (rounded_to(*scaled(factor, milliseconds, low, high)), unit) for unit, factor in TIME_UNITS.items()
    ]
    # Judged once it is rounded: 999.7 us with two digits would be 1000 us.
    return " ".join(next((each for each in numbers if float(each[0]) < 1000), numbers[-1]))


def scaled(
    factor: float, value: float, low: float | None, high: float | None
) -> tuple[float, float | None, float | None]:
    """The value and its interval in another unit."""
    return (
        factor * value,
        None if low is None else factor * low,
        None if high is None else factor * high,
    )


def _rounded(value: float, decimals: int) -> str:
    return f"{round(value, decimals):.{max(0, decimals)}f}"


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
