"""Quality runs with made-up scores, written to disk through the same door as real ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from attention_impls import QK_NORMS
from elattn_bench.quality.nouns import Epoch, Job, Model, Recipe, Task, Trained
from elattn_bench.quality.rows import curve_of, rows_of
from elattn_bench.quality.rundir import QualityDir, QualityRun, read_quality
from elattn_bench.quality.tasks import TASKS
from elattn_bench.results import Skipped

ENVIRONMENT = {"device_name": "Made-up CPU 9000", "cpu_model": "Made-up CPU 9000", "threads": 2}
JPEG = "CIFAR-10 as JPEG (lossy re-encoding), not the original pixels"
SPREAD = (-1.0, 0.0, 1.0, 0.5, -0.5, 0.25, -0.25)
"""By how many ``spread`` the seeds lie off the mean; the mean of the first three, five and seven is 0."""

SERIES = ("japanese-vowels", "basic-motions", "etth1-96", "etth1-192", "etth2-96", "etth2-192")

Score: TypeAlias = float | Sequence[float] | Skipped
"""A mean over seeds, a value per seed, or why there is none."""

PARAMS: Mapping[str, int] = {
    "vgg": 881_898, "hadamard-net-3": 26_000, "hadamard-net-50": 440_000, "conv-3": 25_900, "conv-50": 440_100,
    "logistic": 7_850, "mlp": 118_282, "repeat-last": 0, "nlinear": 9_312, "bigram": 65_536, "mean": 62_000,
}  # fmt: skip
TRANSFORMER = 70_000  # parameters of all the others

FASHION: Mapping[str, Score] = {
    "softmax": 0.885, "linear": 0.88, "efficient": 0.882, "ea-series t=2": 0.876, "ea-series t=6": 0.883,
    "hadamard": 0.874, "mean": 0.86, "vgg": 0.925, "hadamard-net-3": 0.865, "conv-3": 0.91, "mlp": 0.883,
    "logistic": 0.84,
}  # fmt: skip
"""Accuracies as they might be."""


def task(name: str = "fashion-mnist") -> Task:
    """The real task of that name."""
    return TASKS[name]


def model(label: str) -> Model:
    """The model that is called so: ``ea-series/fused t=6 scale=0.5 qk-norm=rms``, ``hadamard-net-3``, ``vgg``."""
    if label in PARAMS and label != "mean":
        network, _, share = label.rpartition("-")
        sized = share.isdigit()
        return Model(network if sized else label, share=int(share) / 100 if sized else None)
    impl, *knobs = label.split()
    attention, _, backend = impl.partition("/")
    values = dict(knob.split("=") for knob in knobs)
    order, norm = values.pop("t", None), values.pop("qk-norm", None)
    qk_norm = next((each for each in QK_NORMS if each == norm), None)
    hyperparameters = tuple((name, float(value)) for name, value in sorted(values.items()))
    return Model("transformer", attention, backend, int(order) if order else None, hyperparameters, qk_norm)


def trained(label: str, metrics: Mapping[str, float], **known: Any) -> Trained:
    """An outcome with these metrics; costs that follow from the parameters."""
    params = PARAMS.get(label, TRANSFORMER)
    usual: dict[str, Any] = {
        "params": params, "backend": "eager" if model(label).attention else "", "train_s": 10 + params / 1e4,
        "step_ms_p50": 2 + params / 1e4, "peak_memory_bytes": 1024 * (100 + params // 100),
        "train_examples": 60_000, "test_examples": 10_000,
    }  # fmt: skip
    return Trained(metrics, **{**usual, **known})


def add(
    run: QualityDir,
    name: str,
    scores: Mapping[str, Score],
    *,
    seeds: int = 3,
    spread: float = 0.002,
    causal: bool = False,
    longer: Mapping[str, float] | None = None,
    epochs: int = 10,
    **job: Any,
) -> None:
    """Train, so to speak, every model of the task with every seed; its curve runs towards its score.

    Args:
        spread: from one seed to the next.
        longer: suffix of a metric at another length -> factor of the score.
        job: other fields of ``Job``.
    """
    about = task(name)
    recipe = Recipe(epochs)
    for label, score in scores.items():
        for seed, value in enumerate(_values(score, seeds, spread)):
            made_up = Job(name, model(label), causal, seed, recipe, **job)
            if isinstance(value, Skipped):
                run.append(rows_of(made_up, value, "cpu", 2))
                continue
            others = {about.metric + suffix: factor * value for suffix, factor in (longer or {}).items()}
            outcome = trained(label, {about.metric: value, **others})
            curve = _epochs(about, value, epochs, outcome.train_s)
            run.append_curve([row for epoch in curve for row in curve_of(made_up, epoch)])
            run.append(rows_of(made_up, outcome, "cpu", 2))


def _values(score: Score, seeds: int, spread: float) -> Iterable[float | Skipped]:
    if isinstance(score, Skipped):
        return [score] * seeds
    if isinstance(score, float):
        return [score + spread * SPREAD[seed % len(SPREAD)] for seed in range(seeds)]
    return score


def _epochs(about: Task, value: float, epochs: int, train_s: float) -> Iterable[Epoch]:
    """A curve that is half as far from its end after every epoch."""
    start = 0.1 if about.higher_is_better else 2 * value
    for number in range(epochs + 1):
        reached = value if number == epochs else value + (start - value) * 0.5**number
        loss = None if number == 0 else 2.3 * 0.7**number
        yield Epoch(number, loss, {about.metric: reached}, train_s * number / epochs)


def open_run(path: Path, notes: Mapping[str, str] | None = None) -> QualityDir:
    """An empty run to add tasks to, in ``with``; ``notes``: what to know of the data, by task."""
    data = {name: {"note": note} for name, note in (notes or {}).items()}
    return QualityDir.create(path, {"environment": ENVIRONMENT, "argv": [], "data": data})


def write_quality(
    path: Path, scores: Mapping[str, Mapping[str, Score]], notes: Mapping[str, str] | None = None, **how: Any
) -> QualityRun:
    """The run on disk, read back.

    Args:
        scores: task -> model -> score.
        how: as ``add`` takes it, for all tasks.
    """
    with open_run(path, notes) as run:
        for name, of_models in scores.items():
            add(run, name, of_models, **how)
    return read_quality(path)
