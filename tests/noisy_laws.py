"""Runs in memory whose lines follow known laws, with the noise of real ones: of samples, outliers, between cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import made_up
import numpy as np

from elattn_bench.results import Measurement, make_row
from elattn_bench.rundir import Run
from elattn_bench.visits import Visit

Law = Callable[[float], float]
Samples = dict[str, list[Visit]]

LENGTHS = tuple(256 * 2**n for n in range(8))
COUNT = 24  # samples of a case
SAMPLE_NOISE = 0.05
OUTLIERS = 0.05  # share of samples that take up to twice as long
BETWEEN = 0.02  # standard deviation between cases of one law


def power(exponent: float, constant: float = 0.0) -> Law:
    """``constant + (L / 256) ** exponent`` milliseconds."""
    return lambda length: constant + (length / LENGTHS[0]) ** exponent


def facets(
    laws: Mapping[str, Law], count: int, seed: int, lengths: Sequence[int] = LENGTHS, between: float = BETWEEN
) -> tuple[Run, Samples]:
    """A run of so many facets, each with a line of every law by its impl, and its raw samples."""
    generator = np.random.default_rng(seed)
    rows, samples = [], {}
    for dim in range(1, count + 1):
        for impl, law in laws.items():
            for length in lengths:
                case = made_up.case(impl, seq_len=length, dim=8 * dim)
                latencies = tuple(_latencies(law(length), generator, between))
                rows.append(make_row(case, Measurement(latencies, "stable", round(1e6 * law(length)))))
                samples[case.case_id] = [Visit(latencies)]
    return Run(Path("made-up"), {}, rows), samples


def _latencies(latency_ms: float, generator: np.random.Generator, between: float) -> Iterator[float]:
    shift = between * generator.standard_normal()
    noise = np.exp(shift + SAMPLE_NOISE * generator.standard_normal(COUNT))
    slowed = np.where(generator.random(COUNT) < OUTLIERS, 1 + generator.random(COUNT), 1.0)
    yield from (float(each) for each in latency_ms * noise * slowed)
