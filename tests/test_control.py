"""The control case: what is recorded of its visits, and when a person is warned."""

from __future__ import annotations

from typing import Any

import pytest

from elattn_bench import control
from elattn_bench.results import Measurement, Skipped


def visits(*medians: float) -> list[dict[str, Any]]:
    names = ("start", "middle", "end")
    outcomes = [Measurement((median,) * 3, "stable") for median in medians]
    return [control.visit(at, "2026-01-01", outcome) for at, outcome in zip(names, outcomes, strict=False)]


def test_drift_is_how_far_the_slowest_visit_lies_above_the_fastest() -> None:
    assert control.drift(visits(10.0, 12.0, 11.0)) == pytest.approx(0.2)


def test_one_visit_alone_tells_no_drift() -> None:
    assert control.drift(visits(10.0)) is None


def test_a_visit_that_failed_is_recorded_and_left_out_of_the_drift() -> None:
    lost = control.visit("middle", "2026-01-01", Skipped("timeout", "took longer than 1 s"))
    assert lost["status"] == "timeout"
    assert control.drift([*visits(10.0), lost]) is None


@pytest.mark.parametrize(("last", "warned"), [(10.4, False), (10.6, True), (9.4, True)])
def test_more_than_five_per_cent_is_warned_of_with_both_ends(last: float, warned: bool) -> None:
    sentence = control.warning(visits(10.0, 10.0, last))
    assert bool(sentence) == warned
    if sentence:
        assert "drifted by 6%" in sentence
        assert "10.0 ms at the start" in sentence


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_there_is_a_control_case_for_every_device(device: str) -> None:
    assert control.CASES[device].device == device
