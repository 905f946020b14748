"""Numbers for people, and sizes that people type."""

from __future__ import annotations

import pytest

from elattn_bench import units


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1536, "1.50 KiB"),
        (64 * 2**20, "64.0 MiB"),
        (18 * 2**30, "18.0 GiB"),
        (None, "-"),
    ],
)
def test_bytes_for_people(count: int | None, text: str) -> None:
    assert units.format_bytes(count) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0.0123, "12.3 us"), (1.5, "1.50 ms"), (999.4, "999 ms"), (12_345, "12.3 s"), (None, "-")],
)
def test_latencies_for_people(milliseconds: float | None, text: str) -> None:
    assert units.format_ms(milliseconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.9999, "1.00"), (12.345, "12.3"), (1234.5, "1234"), (0, "0"), (-0.5, "-0.500")]
)
def test_significant_digits_are_counted_after_rounding(value: float, text: str) -> None:
    assert units.significant(value, 3) == text


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")])
def test_durations_for_people(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("80%", 800),
        ("100%", 1000),
        ("512B", 512),
        ("2k", 2048),
        ("1MiB", 2**20),
        ("8GB", 8 * 2**30),
        ("0.5g", 2**29),
    ],
)
def test_memory_limits_are_shares_or_amounts(text: str, limit: int) -> None:
    assert units.parse_memory_limit(text, total=1000) == limit


@pytest.mark.parametrize("text", ["", "many", "0%", "0B", "512", "101%", "-5", "5 apples"])
def test_what_is_no_memory_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a share such as"):
        units.parse_memory_limit(text, total=1000)
