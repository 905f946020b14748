"""How a quantity grows with length: local slope, asymptotic exponent, verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from elattn_bench.analysis import Facet
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.verdicts.nouns import Estimate, Shape
from elattn_bench.visits import Visit


@dataclass(frozen=True, slots=True)
class Scaling:
    """The growth of one line in one facet.

    rows: the measured rows, lengths ascending.
    slope: the local log-log slope over the last three lengths (two where there are no more).
    constant, factor, exponent: of the fitted curve ``constant + factor * L ** exponent.value``, in ms or bytes;
        None where nothing could be fitted.
    theory: how it should grow: ``linear``, ``quadratic`` or ``unknown``.
    disagrees: whether the verdict contradicts the theory.
    reason: why the verdict is ``unclear``, or what the reader must know; may be empty.
    """

    facet: Facet
    label: str
    metric: str
    rows: tuple[Row, ...]
    slope: Estimate | None
    exponent: Estimate | None
    constant: float | None
    factor: float | None
    verdict: Shape
    theory: str
    disagrees: bool
    reason: str = ""

    def at(self, length: float) -> float | None:
        """The fitted curve at a length; None where there is no curve."""
        if self.exponent is None or self.constant is None or self.factor is None:
            return None
        return float(self.constant + self.factor * length**self.exponent.value)

    @property
    def sentence(self) -> str:
        """The verdict for people, in one sentence."""
        raise NotImplementedError


def scalings(
    run: Run, metric: str = "latency", samples: Mapping[str, Sequence[Visit]] | None = None
) -> list[Scaling]:
    """The growth of every line of every facet that has measured rows, sorted by facet and line.

    Args:
        run: the run.
        metric: ``latency`` or ``memory``.
        samples: raw samples by case id, as ``samples_file.read_visits`` gives them; None: read from the run's own
            directory. Rows without samples use the interval of their median instead.
    """
    raise NotImplementedError
