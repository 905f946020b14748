"""Pairs of runs of a simulated machine whose truth is known, and how often their comparison is wrong.

``python tests/simulated_runs.py`` prints the table of docs/comparing.md.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import made_up
import numpy as np

from elattn_bench.results import Measurement, make_row
from elattn_bench.rundir import SAMPLES, Run
from elattn_bench.samples_file import text_of_visits
from elattn_bench.verdicts.runs import compare_runs
from elattn_bench.visits import Visit

NOISE = 0.03  # of a sample, log-normal: its standard deviation
SAMPLES_PER_VISIT = 40
CHANGED_SHARE = 0.1  # of the cases, where some are made slower
SLOWDOWNS = (0.1, 0.2, 0.5, 1.0)  # by which, as shares


@dataclass(frozen=True)
class Rates:
    """Shares of the cases: found changed where nothing did, and found slower where they were made so."""

    false_alarms: float
    found: float


def simulated(
    path: Path, factors: Sequence[float], generator: np.random.Generator, drift: float, visits: int = 1
) -> Run:
    """A run of one case per factor, of 1 ms times the factor, each visit in a state of the machine of its own.

    Args:
        drift: standard deviation of the logarithm of what a state multiplies latencies by.
    """
    rows, samples = [], {}
    for length, factor in enumerate(factors, 1):
        case = made_up.case("linear/eager", seq_len=length)
        states = np.exp(generator.normal(0, drift, visits)) * factor
        each = [
            Visit(tuple(state * np.exp(generator.normal(0, NOISE, SAMPLES_PER_VISIT)))) for state in states
        ]
        everything = tuple(sample for visit in each for sample in visit.latency_ms)
        counts = (SAMPLES_PER_VISIT,) * visits if visits > 1 else ()
        rows.append(make_row(case, Measurement(everything, "stable", visits=counts)))
        samples[case.case_id] = each
    path.mkdir(parents=True)
    (path / SAMPLES).write_text(text_of_visits(samples), encoding="utf-8")
    return Run(path, {"environment": made_up.ENVIRONMENT}, rows)


def rates(
    place: Path, cases: int, drift: float, slowdown: float = 0.0, visits: int = 1, seed: int = 0
) -> Rates:
    """How the comparison of two such runs fares; a tenth of the cases is slower in B by the given share."""
    generator = np.random.default_rng(seed)
    changed = int(CHANGED_SHARE * cases) if slowdown else 0
    factors = [1 + slowdown] * changed + [1.0] * (cases - changed)
    a = simulated(place / "a", [1.0] * cases, generator, drift, visits)
    b = simulated(place / "b", factors, generator, drift, visits)
    verdicts = [change.verdict for change in compare_runs(a, b)]  # lengths ascend: the changed are first
    alarms = sum(verdict in ("faster", "slower") for verdict in verdicts[changed:])
    return Rates(
        alarms / (cases - changed), verdicts[:changed].count("slower") / changed if changed else math.nan
    )


def main() -> None:
    """Print the table, as Markdown."""
    told = " | ".join(f"{slower:.0%} slower found" for slower in SLOWDOWNS)
    print(f"| cases | visits | drift | A against A | {told} |\n|{'---|' * (4 + len(SLOWDOWNS))}")
    for cases, visits, drift in itertools.product((30, 300), (1, 7), (0.0, 0.01, 0.02, 0.05)):
        alarms, *found = [averaged(cases, drift, slower, visits) for slower in (0.0, *SLOWDOWNS)]
        shares = " | ".join(f"{each.found:.0%}" for each in found)
        print(f"| {cases} | {visits} | {drift:.0%} | {alarms.false_alarms:.1%} | {shares} |", flush=True)


def averaged(cases: int, drift: float, slowdown: float, visits: int) -> Rates:
    """The rates over as many pairs of runs as make three hundred cases."""
    with tempfile.TemporaryDirectory() as place:
        each = [
            rates(Path(place) / str(seed), cases, drift, slowdown, visits, seed)
            for seed in range(max(1, 300 // cases))
        ]
    return Rates(*(math.fsum(values) / len(each) for values in zip(*map(astuple, each), strict=True)))


if __name__ == "__main__":
    main()
