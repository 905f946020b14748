"""A quality run joined with a sweep: what the attention of each model takes. Pure: no torch, no disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from elattn_bench.analysis import Facet, by_facet, interest
from elattn_bench.quality.scores import Score
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.units import Milliseconds, format_length


@dataclass(frozen=True, slots=True)
class Joined:
    """The latency of each model's attention in a sweep, all at one length.

    Args:
        facet: of the sweep: level, dtype, batch, heads, dim; None where nothing fits.
        seq_len: the longest that all of them have.
        rows: model -> the case of the sweep; models that it lacks are not there.
    """

    facet: Facet | None = None
    seq_len: int = 0
    rows: Mapping[str, Row] = field(default_factory=dict)

    @property
    def latency_ms(self) -> dict[str, Milliseconds]:
        """Model -> median latency."""
        return {model: row.latency_ms_p50 for model, row in self.rows.items() if row.latency_ms_p50}

    @property
    def title(self) -> str:
        """``latency at L = 8k``."""
        return f"latency at L = {format_length(self.seq_len)}"

    @property
    def note(self) -> str:
        """What the latencies are of, in a sentence."""
        if self.facet is None:
            return "For some tables the sweep has no forward case of their attentions, causal or not as they are."
        backends = ", ".join(f"{model} as {row.impl}" for model, row in self.rows.items())
        return f"Latency: of the attention alone, from the sweep: {self.facet.text}; {backends}."


def join(scores: Iterable[Score], sweep: Run, *, causal: bool) -> Joined:
    """The latencies of the models' attentions in the sweep's forward cases of this form.

    Of the sweep's facets the one that has most of the models, and of those what people ask about most; in it the
    longest length that all have. A backend is the one trained with, else the fastest there.
    """
    models = {score.model: score for score in scores if score.attention}
    forward = [
        row
        for row in sweep.rows
        if row.ok and row.mode == "forward" and row.causal == causal and row.latency_ms_p50
    ]
    candidates = [
        joined for facet, rows in by_facet(forward).items() if (joined := _in_facet(facet, rows, models)).rows
    ]
    return max(candidates, key=_merit, default=Joined())


def _merit(joined: Joined) -> tuple[int, tuple[bool | int, ...]]:
    return len(joined.rows), interest(joined.facet) if joined.facet else ()


def _in_facet(facet: Facet, rows: Sequence[Row], models: Mapping[str, Score]) -> Joined:
    by_length: defaultdict[int, dict[str, Row]] = defaultdict(dict)
    for model, score in models.items():
        for length, found in _lengths(rows, score).items():
            by_length[length][model] = found
    # Where no length has all, the one that has most: a model without a long case must not empty the column.
    length = max(by_length, key=lambda each: (len(by_length[each]), each), default=0)
    return Joined(facet, length, by_length[length])


def _lengths(rows: Iterable[Row], score: Score) -> dict[int, Row]:
    """The score's attention at every length: with its own backend, else the fastest."""
    found: dict[int, Row] = {}
    for row in sorted(filter(lambda row: _is_same(row, score), rows), key=lambda row: _rank(row, score)):
        found.setdefault(row.seq_len, row)
    return found


def _is_same(row: Row, score: Score) -> bool:
    asked = (score.attention, score.order, score.hyperparameters)
    return (row.attention, row.order, row.hyperparameters) == asked


def _rank(row: Row, score: Score) -> tuple[bool, float]:
    return row.backend != score.backend, row.latency_ms_p50 or 0.0
