"""Histories whose truth is known: how often a change is reported where there is none, and found where there is one.

Run as a program, it prints the table of docs/history.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elattn_bench.verdicts.change_points import Course, courses
from elattn_bench.verdicts.runs import DEFAULT_THRESHOLD

NOISE = 0.03  # standard deviation of a median's logarithm, of each case and run
DRIFT = 0.02  # the same of what all cases of a run share: the machine that day
CASES = 30  # of a history

Series = NDArray[np.float64]


class Found(NamedTuple):
    """What was reported of simulated series.

    series, false, hit, near: how many; with a change that is none, with the true change, and within one run of it.
    """

    series: int
    false: int
    hit: int
    near: int


def flat(generator: np.random.Generator, runs: int) -> list[Series]:
    """Cases without a change: noise of their own, and a machine that varies from run to run."""
    machine = DRIFT * generator.normal(size=runs)
    return [machine + NOISE * generator.normal(size=runs) for _ in range(CASES)]


def stepped(ratio: float, changed: int) -> Callable[[np.random.Generator, int], list[Series]]:
    """As ``flat``, and the first cases change by the ratio in the middle."""

    def make(generator: np.random.Generator, runs: int) -> list[Series]:
        step = math.log(ratio) * (np.arange(runs) >= runs // 2)
        return [values + step * (index < changed) for index, values in enumerate(flat(generator, runs))]

    return make


def trial(
    make: Callable[[np.random.Generator, int], list[Series]],
    runs: int,
    changed: int,
    histories: int,
    seed: int = 0,
) -> Found:
    """What ``courses`` reports of so many histories of 30 cases."""
    generator = np.random.default_rng(seed)
    found = [courses(make(generator, runs), DEFAULT_THRESHOLD) for _ in range(histories)]
    stepping = [course for each in found for course in each[:changed]]
    still = [course for each in found for course in each[changed:]]
    places = [[step.after for step in course.steps] for course in stepping]
    near = sum(any(abs(place - runs // 2) <= 1 for place in each) for each in places)
    return Found(len(still) or len(stepping), sum(map(_changes, still)), sum(map(bool, places)), near)


def _changes(course: Course) -> bool:
    return bool(course.steps) or course.drift is not None


def main() -> None:
    """Print the table, one line per kind of history."""
    print(
        "| true change | runs | false, per 1,000 series without a change | found | of these within one run |"
    )
    print("|---|--:|--:|--:|--:|")
    for runs in (5, 10, 20, 40):
        found = trial(flat, runs, 0, 100)
        print(f"| none | {runs} | {1000 * found.false / found.series:.1f} | - | - |")
    for ratio in (1.1, 1.2):
        for changed in (1, 3, 30):
            for runs in (10, 20):
                found = trial(stepped(ratio, changed), runs, changed, 100)
                false = f"{1000 * found.false / found.series:.1f}" if changed < CASES else "-"
                hit = f"{found.hit / changed / 100:.0%}"
                near = f"{found.near / max(1, found.hit):.0%}"
                print(
                    f"| {ratio - 1:.0%} of {changed} of {CASES} cases | {runs} | {false} | {hit} | {near} |"
                )


if __name__ == "__main__":
    main()
