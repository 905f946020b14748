"""What several visits to a case say together."""

from __future__ import annotations

import json

import pytest

from elattn_bench.results import Measurement
from elattn_bench.visits import Visit, stability

QUIET = Visit((10.0, 10.1, 9.9))
BUSY = Visit((10.0, 10.1, 9.9), "other processes used 40% of the CPU, allowed 15%")
SLOWED = Visit((10.0, 10.1, 9.9), "the GPU slowed down: power cap", throttled=True)


def test_quiet_visits_that_agree_are_stable() -> None:
    assert stability([QUIET] * 5) == ("stable", None)


def test_one_disturbed_visit_of_one_is_noisy_and_says_why() -> None:
    assert stability([BUSY]) == ("noisy", BUSY.disturbed)


@pytest.mark.parametrize(("disturbed", "word"), [(1, "stable"), (2, "noisy")])
def test_more_than_a_quarter_of_the_visits_disturbed_is_noisy(disturbed: int, word: str) -> None:
    found, reason = stability([BUSY] * disturbed + [QUIET] * (7 - disturbed))
    assert found == word
    assert reason is None or reason.startswith("2 of 7 visits disturbed, the last: other processes")


def test_a_slowed_device_is_throttled() -> None:
    assert stability([SLOWED])[0] == "throttled"
    assert stability([SLOWED, SLOWED, QUIET])[0] == "throttled"


def test_visits_that_differ_are_noisy_however_quiet_each_was() -> None:
    word, reason = stability([Visit((10.0,) * 10), Visit((10.9,) * 10)])
    assert word == "noisy"
    assert "interval of the median" in (reason or "")


@pytest.mark.parametrize("visit", [QUIET, BUSY, SLOWED])
def test_a_visit_survives_the_way_to_disk_and_back(visit: Visit) -> None:
    assert Visit.from_json(json.loads(json.dumps(visit.to_json("a case")))) == visit


def test_a_measurement_is_a_visit() -> None:
    assert Visit.of(Measurement((1.0,), "throttled", disturbed="hot")) == Visit((1.0,), "hot", True)
