"""What one rank's own work takes: fitted to what was measured of it, growing as theory says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attention_impls.sharding import shard_lengths
from elattn_bench.projection.fitting import fit_relative
from elattn_bench.results import Row
from elattn_bench.units import Seconds


@dataclass(frozen=True, slots=True)
class Compute:
    """The time of a rank's work: start + per_work * work.

    Args:
        growth: ``linear`` or ``quadratic``, of the work with the length.
        start: of any call, in seconds; per_work: of one unit of ``work``.
        fitted: the rows that it was fitted to, lengths ascending; all of one rank, or all of more.
    """

    growth: str
    causal: bool
    start: Seconds
    per_work: Seconds
    fitted: tuple[Row, ...]

    @property
    def shortest(self) -> int:
        """Tokens of the shortest sequence that it was fitted to."""
        return self.fitted[0].seq_len

    @property
    def longest(self) -> int:
        """Of the longest."""
        return self.fitted[-1].seq_len

    @property
    def residuals(self) -> list[float]:
        """Model over measurement, of every row that it was fitted to."""
        return [self.of(row) / work_seconds(row) for row in self.fitted]

    def of(self, row: Row) -> Seconds:
        """What the row's work takes by the model."""
        return self.seconds(row.seq_len, row.ranks or 1)

    def seconds(self, tokens: int, ranks: int) -> Seconds:
        """The time until the rank that has most to do is done, exchanges left out."""
        return self.start + self.per_work * work(self.growth, tokens, ranks, causal=self.causal)


def work(growth: str, tokens: int, ranks: int, *, causal: bool) -> float:
    """The work of the rank that has most, in tokens or pairs of tokens as one rank alone would have them.

    Linear: the positions of the longest shard. Quadratic: its queries times all keys, L^2 / P. Causal and quadratic:
    the last rank's queries see the most keys, (2 P - 1) / (2 P^2) of all L^2 pairs, where one rank alone has half of
    them: (2 P - 1) / P^2 of its work, not 1 / P.
    """
    shard = shard_lengths(tokens, ranks)[0] if ranks <= tokens else 1
    if growth == "linear":
        return shard
    return shard * (2 * tokens - shard) if causal else shard * tokens


def can_fit(rows: Sequence[Row], growth: str, *, causal: bool) -> bool:
    """Whether there are two amounts of work: a start and a slope need as many."""
    return len({work(growth, row.seq_len, row.ranks or 1, causal=causal) for row in rows}) > 1


def fit_compute(rows: Sequence[Row], growth: str, *, causal: bool) -> Compute:
    """The model that is nearest to the rows' work, as a ratio, neither coefficient negative.

    Args:
        rows: of one line at one setting, which ``can_fit``.
        growth: ``linear`` or ``quadratic``.
    """
    ordered = sorted(rows, key=lambda row: (row.seq_len, row.ranks or 1))
    designs = [(1.0, work(growth, row.seq_len, row.ranks or 1, causal=causal)) for row in ordered]
    start, per_work = fit_relative(designs, list(map(work_seconds, ordered)))
    return Compute(growth, causal, start, per_work, tuple(ordered))


def seconds_of(row: Row) -> Seconds:
    """The row's median latency."""
    assert row.latency_ms_p50
    return row.latency_ms_p50 / 1e3


def work_seconds(row: Row) -> Seconds:
    """What of it is work: all on one rank; on more, what the same call took with nothing exchanged.

    Rows of more ranks must have that measured: ``has_work``.
    """
    if (row.ranks or 1) == 1:
        return seconds_of(row)
    assert row.work_ms
    return row.work_ms / 1e3


def has_work(row: Row) -> bool:
    """Whether the row of two ranks or more has its work measured; what exchanges by itself has not."""
    return bool(row.work_ms)
