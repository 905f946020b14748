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
TAILS = 3  # degrees of freedom of noise with heavy tails: the fewest with a variance
HISTORIES = 60  # per line of the table

Series = NDArray[np.float64]


class Found(NamedTuple):
    """What was reported of simulated series.

    series, false, hit, near: how many; with a change that is none, with the true change, and within one run of it.
    alarms: share of the histories in which any series has a change that is none.
    """

    series: int
    false: int
    alarms: float
    hit: int
    near: int


def flat(generator: np.random.Generator, runs: int) -> list[Series]:
    """Cases without a change: noise of their own, and a machine that varies from run to run."""
    machine = DRIFT * generator.normal(size=runs)
    return [machine + NOISE * generator.normal(size=runs) for _ in range(CASES)]


def heavy(generator: np.random.Generator, runs: int) -> list[Series]:
    """As ``flat``, of the same spread, but with far values more often: Student's noise with 3 degrees of freedom."""
    machine = DRIFT * generator.normal(size=runs)
    spread = math.sqrt(TAILS / (TAILS - 2))
    return [machine + NOISE / spread * generator.standard_t(TAILS, size=runs) for _ in range(CASES)]


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
    alarms = sum(any(map(_changes, each[changed:])) for each in found) / histories
    return Found(len(still), sum(map(_changes, still)), alarms, sum(map(bool, places)), near)


def _changes(course: Course) -> bool:
    return bool(course.steps) or course.drift is not None


def main() -> None:
    """Print the table, one line per kind of history."""
    print("| true change | runs | false of 1,000 series | histories with one | found | within a run |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, make in {"none": flat, "none, heavy tails": heavy}.items():
        for runs in (5, 10, 20, 40):
            found = trial(make, runs, 0, HISTORIES)
            print(
                f"| {name} | {runs} | {1000 * found.false / found.series:.1f} | {found.alarms:.0%} | - | - |"
            )
    for ratio in (1.1, 1.2):
        for changed in (1, 3, 30):
            for runs in (10, 20):
                _print_step(ratio, changed, runs)


def _print_step(ratio: float, changed: int, runs: int) -> None:
    found = trial(stepped(ratio, changed), runs, changed, HISTORIES)
    false = f"{1000 * found.false / found.series:.1f} | {found.alarms:.0%}" if found.series else "- | -"
    hit, near = f"{found.hit / changed / HISTORIES:.0%}", f"{found.near / max(1, found.hit):.0%}"
    print(f"| {ratio - 1:.0%} in {changed} of {CASES} cases | {runs} | {false} | {hit} | {near} |")


if __name__ == "__main__":
    main()
