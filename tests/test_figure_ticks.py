"""Ticks of figures, and the places of names at the ends of lines."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from elattn_bench.figures import style as figures_style
from elattn_bench.figures.legend import spread_out
from elattn_bench.figures.style import evenly, latency_tick, length_ticks, memory_tick


class TestTicks:
    def test_lengths_are_powers_of_two_thinned_from_the_top(self) -> None:
        assert length_ticks([128, 16384], 8) == [2**n for n in range(7, 15)]
        assert length_ticks([128, 16384], 4) == [256, 1024, 4096, 16384]
        assert length_ticks([100], 4) == [100]
        assert length_ticks([300, 400], 4) == [300, 400]

    @pytest.mark.parametrize("span", [1.01, 1.5, 3, 12, 1e3, 1e7])
    @pytest.mark.parametrize("low", [0.00731, 0.9, 73.0])
    def test_there_are_a_few_latency_ticks_within_the_limits_each_with_its_own_name(
        self, low: float, span: float
    ) -> None:
        ticks = figures_style.latency_ticks(low, low * span)
        assert all(low <= tick <= low * span for tick in ticks)
        assert len(ticks) <= 7
        assert len({latency_tick(tick) for tick in ticks}) == len(ticks) >= (2 if span > 1.01 else 0)

    @pytest.mark.parametrize("span", [5, 100, 2**20, 2**40])
    def test_memory_ticks_are_powers_of_two(self, span: int) -> None:
        ticks = figures_style.memory_ticks(3000, 3000 * span)
        assert 2 <= len(ticks) <= 9
        assert all(np.log2(tick) % 1 == 0 for tick in ticks)

    def test_tick_names_have_no_more_digits_than_needed(self) -> None:
        assert [latency_tick(x) for x in (0.01, 0.1, 1, 20, 1000, 1e6)] == [
            "10 µs", "100 µs", "1 ms", "20 ms", "1 s", "1000 s",
        ]  # fmt: skip
        assert [memory_tick(2.0**n) for n in (9, 10, 24, 33)] == ["512 B", "1 KiB", "16 MiB", "8 GiB"]

    def test_values_are_chosen_evenly_with_both_ends(self) -> None:
        assert evenly(range(10), 4) == [0, 3, 6, 9]
        assert evenly([3, 1], 4) == [1, 3]

    def test_memory_ticks_between_two_powers_are_eighths(self) -> None:
        assert figures_style.memory_ticks(4.2 * 2**20, 6.7 * 2**20) == [m / 2 * 2**20 for m in range(9, 14)]


class TestNamePlaces:
    def test_names_that_do_not_collide_stay_where_they_are(self) -> None:
        assert spread_out([30, 10, 50], 9, 60) == [30, 10, 50]

    def test_names_that_collide_part_evenly(self) -> None:
        assert spread_out([30, 30], 10, 60) == [25, 35]

    def test_names_stay_within_the_room_and_apart(self) -> None:
        places = spread_out([0, 1, 2, 59, 60], 10, 60)
        assert places
        assert min(places) >= 0
        assert max(places) <= 60
        assert all(b - a >= 10 - 1e-9 for a, b in pairwise(places))

    def test_names_that_cannot_fit_have_no_places(self) -> None:
        assert spread_out([0] * 8, 10, 60) is None
