"""What a case will need before it starts: by formula, corrected by what smaller cases needed. No torch.

A refusal must not cost a measurement that was possible: every estimate leans low, and a case is refused
only where even that is clearly too much. What slips through meets the limit in the worker and is ``oom``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from attention_impls.sharding import shard_lengths
from elattn_bench.cases import Case
from elattn_bench.results import Row, Skipped
from elattn_bench.units import Bytes, format_bytes, format_length

ROUGH = 0.8
"""Share of a workspace by formula or fit that is surely needed: formulas are off by up to 25 %
(tests/impls/test_workspaces.py)."""

MARGIN = 1.05
"""What must exceed the limit so many times to be refused: some of what torch holds is free for reuse."""

STEEPEST = 2.0  # exponent of growth with seq_len: no attention here is worse than quadratic

KIND = (
    "attention", "backend", "level", "mode", "dtype", "device", "causal", "hyperparameters", "ranks", "device_type",
)  # fmt: skip
SIZES = ("batch", "heads", "seq_len", "dim", "order")


@dataclass(frozen=True, slots=True)
class Measured:
    """A case and the most bytes that its call held above its inputs."""

    case: Case
    workspace: Bytes


@dataclass(frozen=True, slots=True)
class Forecast:
    """The workspace that a case will need.

    workspace: the estimate; surely: what it needs at least.
    basis: where the estimate comes from, for people.
    """

    workspace: float
    surely: float
    basis: str


@dataclass
class Predictor:
    """Foresees cases that cannot fit.

    Args:
        memory_limit: most bytes that the worker may hold.
        held: of these, what torch itself holds before any case; 0 on a GPU.
        rank_limit: most bytes that one rank may hold, where cases are spread.
    """

    memory_limit: Bytes
    held: Bytes = 0
    rank_limit: Bytes | None = None
    _measured: dict[Case, Measured] = field(default_factory=dict)

    def note(self, case: Case, row: Row) -> None:
        """Learn from a case's row; one without a measured peak teaches nothing."""
        if row.peak_memory_bytes:
            self._measured[case] = Measured(case, row.peak_memory_bytes)

    def verdict(self, case: Case) -> Skipped | None:
        """``predicted_oom`` with the numbers for a case that cannot fit; None for one that may."""
        inputs = input_bytes(case)
        forecast = self.forecast(case) or Forecast(0, 0, "inputs alone")
        limit, whose = self._limit_of(case)
        if self.held + inputs + forecast.surely <= MARGIN * limit:
            return None
        if case.unsupported_reasons():
            return None  # the better reason, and the worker's to give
        total = self.held + inputs + forecast.workspace
        return Skipped(
            "predicted_oom",
            f"would need {format_bytes(total)} ({forecast.basis}: {format_bytes(inputs)} inputs, "
            f"{format_bytes(forecast.workspace)} workspace, {format_bytes(self.held)} held by torch), "
            f"--memory-limit allows {whose}{format_bytes(limit)}",
        )

    def _limit_of(self, case: Case) -> tuple[Bytes, str]:
        """What the process that measures the case may hold, and who that is."""
        if case.ranks is None or self.rank_limit is None:
            return self.memory_limit, ""
        return self.rank_limit, "each rank "

    def forecast(self, case: Case) -> Forecast | None:
        """What the case's call will hold above its inputs; None where nothing tells."""
        formula = case.analytic_memory_bytes
        if formula is None:
            return self._fitted(case)
        last = self._nearest_smaller(case)
        if last is None:
            return Forecast(formula, ROUGH * formula, "formula")
        corrected = last.workspace + self._slope(last) * (formula - _formula(last))
        basis = f"formula, corrected by the {format_length(last.case.seq_len)} measurement"
        return Forecast(corrected, corrected, basis)

    def _slope(self, last: Measured) -> float:
        """Measured bytes per byte of the formula, beyond the last measurement.

        From two measurements, so that what the formula lacks and does not grow is told from what it gets
        wrong throughout. From one alone the lesser of the two: an excess is taken not to grow.
        """
        ratio = last.workspace / _formula(last)
        before = self._nearest_smaller(last.case, below=_formula(last))
        if before is None:
            return min(1.0, ratio)
        slope = (last.workspace - before.workspace) / (_formula(last) - _formula(before))
        return min(max(slope, 0.0), max(1.0, ratio))

    def _nearest_smaller(self, case: Case, below: float = math.inf) -> Measured | None:
        """The greatest measured case, by formula below that many bytes, of which no size exceeds the case's."""
        smaller = (known for known in self._measured.values() if _is_within(known.case, case))
        return max((known for known in smaller if 0 < _formula(known) < below), key=_formula, default=None)

    def _fitted(self, case: Case) -> Forecast | None:
        """From the two greatest smaller lengths: a power law, a straight line where that is flatter."""
        lengths = {known.case.seq_len: known.workspace for known in self._shorter(case)}
        if len(lengths) < 2:
            return None
        (short, less), (long, more) = sorted(lengths.items())[-2:]
        exponent = min(STEEPEST, math.log(more / less) / math.log(long / short))
        if exponent >= 1:
            workspace = more * (case.seq_len / long) ** exponent
        else:
            # A constant part flattens a power law without bound; beyond it growth is linear.
            workspace = more + max(0.0, (more - less) / (long - short)) * (case.seq_len - long)
        basis = f"fitted to the {format_length(short)} and {format_length(long)} measurements"
        return Forecast(workspace, ROUGH * workspace, basis)

    def _shorter(self, case: Case) -> Iterator[Measured]:
        """Measured cases that differ from the case in nothing but a smaller length."""
        same = (*KIND, *(size for size in SIZES if size != "seq_len"))
        for known in self._measured.values():
            if _agree(known.case, case, same) and known.case.seq_len < case.seq_len:
                yield known


def input_bytes(case: Case) -> Bytes:
    """What the case holds before its call: activations, parameters, in training the upstream gradient.

    In mode ``decode`` the token's query, key and value, and the state; the context is gone by then. A cache
    is held with a spare row of keys and one of values. Where the sequence is spread, of the longest shard.
    """
    if case.decodes:
        rows = 5 if case.spec.state_grows else 3
        return rows * case.batch * case.dim * case.problem.element_size + (case.state_bytes or 0)
    activations = (3 if case.level == "op" else 1) + (case.mode == "train")
    if case.ranks is not None:
        positions = shard_lengths(case.seq_len, case.ranks)[0]
        return activations * case.batch * positions * case.dim * case.problem.element_size
    return (activations * case.problem.elements + (case.params or 0)) * case.problem.element_size


def _formula(known: Measured) -> Bytes:
    return known.case.analytic_memory_bytes or 0


def _is_within(smaller: Case, case: Case) -> bool:
    sizes = ((getattr(smaller, name) or 0) <= (getattr(case, name) or 0) for name in SIZES)
    return _agree(smaller, case, KIND) and all(sizes)


def _agree(one: Case, other: Case, names: tuple[str, ...]) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in names)
