"""The nouns of a quality run: a task, a model, a recipe, a job, its outcome. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from attention_impls.nouns import QkNorm
from elattn_bench.knobs import Hyperparameters, text_of
from elattn_bench.units import Bytes, Seconds

Kind = Literal["image", "series", "forecast", "language"]
"""What a network reads and answers: image -> class, series -> class, series -> its future, token -> next token."""

Split = Literal["test", "validation"]
"""What a model is judged on: choices are made on ``validation``, claims on ``test``."""


@dataclass(frozen=True, slots=True)
class Form:
    """The shapes around a network, without the batch.

    Args:
        kind: ``image``: [B, height, width, channels] -> logits [B, outputs]; ``series``: [B, steps, channels] ->
            logits [B, outputs]; ``forecast``: [B, steps, channels] -> [B, horizon, outputs]; ``language``: tokens
            [B, steps] -> logits [B, steps, outputs].
        shape: of one input: (height, width, channels), (steps, channels) or (steps,).
        outputs: classes, channels to forecast, or tokens.
        horizon: steps to forecast, else 0.
        longest: the longest sequence that it will see, in steps; 0 of images.
    """

    kind: Kind
    shape: tuple[int, ...]
    outputs: int
    horizon: int = 0
    longest: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """A data set and the question asked of it.

    Args:
        name: on the command line and in quality.csv.
        summary: one line for people.
        metric: the main figure: accuracy, mse, bits_per_byte.
        higher_is_better: whether more of it is better.
        loader: the module under ``elattn_bench.quality.data`` with ``locate`` and ``load``.
        arguments: what the loader is told beside the folders.
        causal: whether the attention must not look ahead; None where both forms make sense.
        floors: the models that put a score into proportion.
        length: tokens of a sequence that it is trained on, where it is judged at other lengths too; else None.
        source: where the data comes from, for people.
        form: the shapes around a network, as the data gives them.
        train_examples, test_examples: how many there are.
    """

    name: str
    summary: str
    metric: str
    higher_is_better: bool
    loader: str
    form: Form
    train_examples: int
    test_examples: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    causal: bool | None = None
    floors: tuple[str, ...] = ()
    length: int | None = None
    source: str = ""

    @property
    def kind(self) -> Kind:
        """What a network reads and answers."""
        return self.form.kind


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained: a network, and its attention where it has one.

    Args:
        network: ``transformer``, or a name of ``models.NETWORKS``.
        attention, backend, order, hyperparameters: of a transformer, as a case has them; no backend is the best
            that can run each call.
        qk_norm: how query and key are normalised, a name of ``attention_impls.QK_NORMS``; None is not at all.
        share: of a network that is sized by another one, its share of the parameters of ``vgg``.
    """

    network: str
    attention: str = ""
    backend: str = ""
    order: int | None = None
    hyperparameters: Hyperparameters = ()
    qk_norm: QkNorm | None = None
    share: float | None = None

    @property
    def label(self) -> str:
        """What it is called, on screen and in quality.csv; unique among models."""
        if self.network != "transformer":
            return self.network if self.share is None else f"{self.network}-{100 * self.share:g}"
        impl = f"{self.attention}/{self.backend}" if self.backend else self.attention
        order = "" if self.order is None else f"t={self.order}"
        norm = "" if self.qk_norm is None else f"qk-norm={self.qk_norm}"
        return " ".join(filter(None, (impl, order, text_of(self.hyperparameters, " "), norm)))


@dataclass(frozen=True, slots=True)
class Recipe:
    """How every model of a task is trained: all the same.

    Args:
        epochs: passes over the training examples.
        batch: examples of a step.
        learning_rate: the highest, of AdamW with a linear warm-up and a cosine decay to 0.
        train_examples, test_examples: at most so many, drawn once for all seeds; None takes all.
        dim, heads, depth, expansion: of the transformer.
        patch: side of a square of pixels that is a token, of images.
        weight_decay: of AdamW, on matrices.
    """

    epochs: int
    batch: int = 128
    learning_rate: float = 1e-3
    train_examples: int | None = None
    test_examples: int | None = None
    dim: int = 64
    heads: int = 4
    depth: int = 2
    expansion: int = 2
    patch: int = 4
    weight_decay: float = 0.01


@dataclass(frozen=True, slots=True)
class Job:
    """One training: a task, a model, a seed, and how."""

    task: str
    model: Model
    causal: bool
    seed: int
    recipe: Recipe
    folders: tuple[Path, ...] = ()
    split: Split = "test"

    @property
    def key(self) -> tuple[str, str, bool, int]:
        """What makes a job another one within a run."""
        return self.task, self.model.label, self.causal, self.seed


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is known after an epoch: mean training loss, the metrics, and the seconds trained so far.

    ``number`` 0 is before the first step, without a loss.
    """

    number: int
    loss: float | None
    metrics: Mapping[str, float]
    train_s: Seconds


@dataclass(frozen=True, slots=True)
class Trained:
    """What a job came to.

    Args:
        metrics: after the last epoch, the task's main metric first; never the best of several epochs.
        params: learned parameters.
        backend: of the attention, the one that ran; empty where there is none.
        train_s: in training steps alone, without evaluation.
        step_ms_p50: median of a training step, which a disturbed hour leaves alone.
        peak_memory_bytes: the most that a training step allocates beyond parameters, optimiser and batch.
        train_examples, test_examples: how many there were.
        data: name of a file -> its sha256.
        data_note: what a reader should know of the data, for example that JPEG stands for the original.
    """

    metrics: Mapping[str, float]
    params: int
    backend: str
    train_s: Seconds
    step_ms_p50: float | None
    peak_memory_bytes: Bytes
    train_examples: int
    test_examples: int
    data: Mapping[str, str] = field(default_factory=dict)
    data_note: str = ""
    remarks: tuple[str, ...] = ()
