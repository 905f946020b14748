"""Numbers have the digits that their interval supports: no more, and none of those left out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elattn_bench.units import format_latency, rounded_to, supported_decimals, with_uncertainty

values = st.floats(1e-4, 1e6)
shares = st.floats(1e-5, 0.5)


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (12.345, 0.043, "12.35 ± 0.04"),
        (12.345, 0.0143, "12.345 ± 0.014"),
        (12.345, 0.2, "12.3 ± 0.2"),
        (12.345, 0.97, "12.3 ± 1.0"),  # rounded first: 1.0 begins with a 1
        (12.345, 6, "12 ± 6"),
        (12345, 230, "12300 ± 200"),
        (0.96, 0.3, "1.0 ± 0.3"),
    ],
)
def test_a_value_ends_where_its_uncertainty_begins(value: float, half: float, text: str) -> None:
    assert with_uncertainty(value, value - half, value + half) == text
    assert rounded_to(value, value - half, value + half) == text.partition(" ")[0]


def test_the_larger_side_of_an_interval_counts() -> None:
    assert with_uncertainty(10.0, 9.99, 10.4) == with_uncertainty(10.0, 9.6, 10.01) == "10.0 ± 0.4"


@pytest.mark.parametrize("interval", [(None, None), (1.2345, 1.2345), (1.2, math.inf)])
def test_without_an_interval_there_are_three_digits(interval: tuple[float | None, float | None]) -> None:
    assert rounded_to(1.2345, *interval) == with_uncertainty(1.2345, *interval) == "1.23"


def test_a_hopeless_value_keeps_one_digit() -> None:
    assert rounded_to(0.3, 0.1, 8.0) == "0.3"


@given(values, shares, shares)
def test_the_rounded_value_lies_within_the_interval(value: float, below: float, above: float) -> None:
    low, high = value * (1 - below), value * (1 + above)
    uncertainty = max(high - value, value - low)
    assert abs(float(rounded_to(value, low, high)) - value) <= 0.5 * uncertainty * (1 + 1e-9)


@given(values, shares)
def test_the_last_digit_is_neither_noise_nor_missing(value: float, share: float) -> None:
    decimals = supported_decimals(value, value * (1 - share), value * (1 + share))
    assert decimals is not None
    step, uncertainty = 10.0**-decimals, value * share
    # In units of the last place: 1.95 to 9.95 where one digit is kept, 9.95 to 19.5 where two are.
    assert 1.9 * step <= uncertainty <= 20 * step


@given(values, shares)
def test_the_uncertainty_has_the_decimals_of_the_value(value: float, share: float) -> None:
    number, _, uncertainty = with_uncertainty(value, value * (1 - share), value * (1 + share)).partition(
        " ± "
    )
    assert len(number.partition(".")[2]) == len(uncertainty.partition(".")[2])
    assert float(uncertainty) > 0


@given(st.floats(1e-3, 1e6), shares)
def test_a_latency_reads_the_same_in_any_unit(milliseconds: float, share: float) -> None:
    low, high = milliseconds * (1 - share), milliseconds * (1 + share)
    number, _, unit = format_latency(milliseconds, low, high).rpartition(" ")
    read = float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]
    assert abs(read - milliseconds) <= 0.5 * milliseconds * share * (1 + 1e-9)
    assert float(number) < 1000 or unit == "s"


def test_a_latency_that_rounds_to_a_thousand_takes_the_next_unit() -> None:
    assert format_latency(0.9997, 0.98, 1.02) == "1.00 ms"
    assert format_latency(999.97, 990.0, 1009.0) == "1.000 s"
    assert format_latency(None) == "-"
