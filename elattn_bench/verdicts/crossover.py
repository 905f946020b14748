"""From which length on a line is cheaper than its reference: an interval on fitted curves, and the prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from elattn_bench.analysis import Facet
from elattn_bench.rundir import Run
from elattn_bench.verdicts.nouns import Estimate, Where
from elattn_bench.visits import Visit


@dataclass(frozen=True, slots=True)
class Crossover:
    """Where one line of one facet overtakes the reference: needs less time, or less memory, from there on.

    length: with ``where == "at"``, the crossing and its interval, within the measured range; else None.
    shortest, longest: of the lengths at which both were measured; None where there is none.
    predicted: the crossing of the two cost models in tokens; None where they do not cross or nobody knows.
    reason: what the reader must know; may be empty.
    """

    facet: Facet
    label: str
    reference: str
    metric: str
    where: Where
    length: Estimate | None
    shortest: int | None
    longest: int | None
    predicted: float | None
    reason: str = ""

    @property
    def sentence(self) -> str:
        """The verdict for people: ``... overtakes softmax/sdpa at L = 3.1k [2.8k, 3.5k]``."""
        raise NotImplementedError


def crossovers(
    run: Run,
    reference: str,
    metric: str = "latency",
    samples: Mapping[str, Sequence[Visit]] | None = None,
) -> list[Crossover]:
    """Where each line overtakes the reference, for every facet that has it; sorted by facet and line.

    Args:
        run: the run.
        reference: as ``reference.compare_to_reference`` takes it.
        metric: ``latency`` or ``memory``; that of a training step is ``latency`` in facets of mode ``train``.
        samples: as ``scaling.scalings`` takes them.

    Raises:
        UsageError: the run holds no such impl, or the reference names several.
    """
    raise NotImplementedError
