"""The conclusions of a run in sentences: per facet what grows how, and what overtakes the reference where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from elattn_bench.analysis import Facet
from elattn_bench.rundir import Run
from elattn_bench.verdicts.crossover import Crossover, format_tokens, from_scalings
from elattn_bench.verdicts.nouns import VERDICT_METRICS
from elattn_bench.verdicts.scaling import Scaling, scalings


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that can be said of one line in one facet.

    scaling: by metric. crossover: by metric; none of the reference, or where there is none.
    """

    facet: Facet
    label: str
    scaling: dict[str, Scaling]
    crossover: dict[str, Crossover]

    @property
    def sentence(self) -> str:
        """``linear/eager: latency grows as L^1.01 [0.98, 1.04]: linear, as theory says; overtakes ... .``"""
        clauses = []
        if "latency" in self.scaling:
            clauses.append(self.clause("latency"))
        if memory := self.scaling.get("memory"):
            clauses.append(f"{memory.quantity} {memory.clause}")
        return f"{self.label}: {'; '.join(clauses)}."

    def clause(self, metric: str) -> str:
        """Growth and crossover in one metric: ``latency grows as ...: linear, as theory says; overtakes ...``."""
        growth, crossing = self.scaling[metric], self.crossover.get(metric)
        return f"{growth.quantity} {growth.clause}" + (f"; {crossing.clause}" if crossing else "")

    @property
    def prediction(self) -> str:
        """Where the cost formulas expect the crossing, in a sentence; empty where they do not tell."""
        crossing = self.crossover.get("latency")
        if crossing is None or crossing.predicted is None:
            return ""
        return (
            f"By the cost formulas, {self.label} should overtake at L = {format_tokens(crossing.predicted)}."
        )

    @property
    def is_fitted(self) -> bool:
        """Whether there is more to say than that there were too few lengths."""
        return any(each.exponent for each in self.scaling.values())


def verdicts(run: Run, reference: str | None, metrics: Sequence[str] = VERDICT_METRICS) -> list[Verdict]:
    """The verdicts of a run, sorted by facet and line.

    Args:
        reference: as ``reference.compare_to_reference`` takes it; None: crossovers are not asked for.
        metrics: out of ``latency`` and ``memory``.

    Raises:
        UsageError: the run holds no such impl, or the reference names several.
    """
    samples = run.samples()
    growths: defaultdict[tuple[Facet, str], dict[str, Scaling]] = defaultdict(dict)
    crossings: defaultdict[tuple[Facet, str], dict[str, Crossover]] = defaultdict(dict)
    for metric in metrics:
        found = scalings(run, metric, samples)
        for growth in found:
            growths[growth.facet, growth.label][metric] = growth
        for crossing in from_scalings(run, found, reference) if reference else ():
            crossings[crossing.facet, crossing.label][metric] = crossing
    return [Verdict(*key, by_metric, crossings[key]) for key, by_metric in growths.items()]
