"""What stands in quality.csv and in curves.csv: a line per metric of a job, and of an epoch. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from elattn_bench import columns
from elattn_bench.knobs import Hyperparameters
from elattn_bench.quality.nouns import Epoch, Job, Trained
from elattn_bench.results import Skipped

QUALITY_SCHEMA = 1
"""Raised when columns come, go or change their meaning. Older files are read, newer ones refused."""


@dataclass(frozen=True, slots=True)
class QualityRow:
    """One line of ``quality.csv``: a metric of a trained model, and what it took. The fields are the columns.

    A job that failed has one line, without metric and value. What each is: ``nouns.Model``, ``Recipe``, ``Trained``.
    """

    schema: int
    task: str
    model: str
    network: str
    attention: str
    backend: str
    order: int | None
    qk_norm: str | None
    causal: bool
    seed: int
    split: str
    status: str
    reason: str
    metric: str | None
    value: float | None
    params: int | None
    train_s: float | None
    step_ms_p50: float | None
    peak_memory_bytes: int | None
    epochs: int
    batch: int
    learning_rate: float
    dim: int | None
    heads: int | None
    depth: int | None
    train_examples: int | None
    test_examples: int | None
    device: str
    threads: int | None
    hyperparameters: Hyperparameters = field(default=(), kw_only=True)

    @property
    def ok(self) -> bool:
        """Whether the model was trained to its end."""
        return self.status == "ok"

    @property
    def key(self) -> tuple[str, str, bool, int]:
        """The job that the line belongs to: ``Job.key``."""
        return self.task, self.model, self.causal, self.seed


@dataclass(frozen=True, slots=True)
class CurveRow:
    """One line of ``curves.csv``: a metric after an epoch; epoch 0 is before the first step."""

    task: str
    model: str
    causal: bool
    seed: int
    epoch: int
    loss: float | None
    metric: str
    value: float
    train_s: float

    @property
    def key(self) -> tuple[str, str, bool, int]:
        """The job that the line belongs to: ``Job.key``."""
        return self.task, self.model, self.causal, self.seed


RowType = TypeVar("RowType", QualityRow, CurveRow)


def names_of(kind: type[QualityRow] | type[CurveRow]) -> list[str]:
    """The columns, in order."""
    return [column.name for column in fields(kind)]


def to_record(row: QualityRow | CurveRow) -> dict[str, str]:
    """The row as text, one entry per column."""
    return {name: columns.to_text(getattr(row, name)) for name in names_of(type(row))}


def of_record(kind: type[RowType], record: Mapping[str, str]) -> RowType:
    """The row that the text describes; unknown columns are ignored.

    Raises:
        ValueError: a column lacks, or a value does not have its type; the message names the column.
    """
    if lacking := [name for name in names_of(kind) if record.get(name) is None]:
        raise ValueError(f"column {lacking[0]} is missing")
    types = columns.types_of(kind)
    return kind(**{name: columns.from_text(types, name, record[name]) for name in names_of(kind)})


def rows_of(job: Job, outcome: Trained | Skipped, device: str, threads: int | None) -> list[QualityRow]:
    """The lines of a job: one per metric, or one that says why there is none."""
    model, recipe = job.model, job.recipe
    is_transformer = model.network == "transformer"
    known: dict[str, Any] = {
        "schema": QUALITY_SCHEMA,
        "task": job.task,
        "model": model.label,
        "network": model.network,
        "attention": model.attention,
        "order": model.order,
        "qk_norm": model.qk_norm,
        "hyperparameters": model.hyperparameters,
        "causal": job.causal,
        "seed": job.seed,
        "split": job.split,
        "epochs": recipe.epochs,
        "batch": recipe.batch,
        "learning_rate": recipe.learning_rate,
        **{name: getattr(recipe, name) if is_transformer else None for name in ("dim", "heads", "depth")},
        "device": device,
        "threads": threads,
    }
    if isinstance(outcome, Skipped):
        nothing: dict[str, Any] = dict.fromkeys(("metric", "value", *_OF_TRAINED))
        return [
            QualityRow(
                **known, **nothing, backend=model.backend, status=outcome.status, reason=outcome.reason
            )
        ]
    known |= {name: getattr(outcome, name) for name in _OF_TRAINED}
    known |= {"backend": outcome.backend, "status": "ok", "reason": "; ".join(outcome.remarks)}
    return [QualityRow(**known, metric=name, value=value) for name, value in outcome.metrics.items()]


_OF_TRAINED = ("params", "train_s", "step_ms_p50", "peak_memory_bytes", "train_examples", "test_examples")


def curve_of(job: Job, epoch: Epoch) -> list[CurveRow]:
    """The lines of an epoch: one per metric."""
    return [
        CurveRow(*job.key, epoch.number, epoch.loss, metric, value, epoch.train_s)
        for metric, value in epoch.metrics.items()
    ]
