"""Training of one model on one task, in the worker: the same recipe for all, nothing chosen on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from attention_impls import Unsupported
from elattn_bench import memory
from elattn_bench.quality import batches, metrics, tasks
from elattn_bench.quality.data import load
from elattn_bench.quality.data.nouns import DataSet, Examples, first
from elattn_bench.quality.nets.build import build
from elattn_bench.quality.nets.counts import tokens_of
from elattn_bench.quality.nets.transformer import backend_of
from elattn_bench.quality.nouns import Epoch, Form, Job, Recipe, Task, Trained
from elattn_bench.results import Skipped
from elattn_bench.units import Bytes, Seconds
from elattn_bench.worker_process import Context

WARM_UP = 0.05  # of all steps: the learning rate rises from 0; Adam's moments are estimates of little before
CLIPPED_NORM = 1.0  # of the gradient, Pascanu et al. 2013: one odd batch does not throw a model away
EVALUATED_NUMBERS = 2**22
"""Inputs and answers of an evaluation batch: beside them stand their float64 copies and activations of dim."""

HELD_OUT = 10  # every tenth training example is the validation part, where a source has none


class Diverged(ArithmeticError):
    """The loss of a training is no longer a number."""


def train(context: Context, job: Job) -> Trained | Skipped:
    """Train the job's model and judge it; reports an ``Epoch`` before the first step and after each epoch.

    Skipped, as in a sweep, where the attention cannot run such a problem: it sees the past alone, say.

    Deterministic on one machine and thread count: initialisation and order of the batches follow from the seed, and
    the examples, where they are a part of all, are the same for every seed.

    Raises:
        MissingData: the data is not here, or not what it should be.
        Diverged: the loss became infinite or no number.
    """
    try:
        return _trained(context, job)
    except Unsupported as error:
        return Skipped("unsupported", str(error))


def _trained(context: Context, job: Job) -> Trained:
    task, device = tasks.find(job.task), context.settings.device
    data = _split(_loaded(task.name, job.folders), job)
    form = form_of(task, data)
    with _deterministic(device):
        torch.manual_seed(job.seed)
        net = build(job.model, form, job.recipe, causal=job.causal).to(device)
        trainer = Trainer(task, job.recipe, net, data, device, np.random.default_rng(job.seed))
        for epoch in trainer.epochs():
            context.report(epoch)
        return Trained(
            metrics={**epoch.metrics, **trainer.longer()},
            params=sum(parameter.numel() for parameter in net.parameters()),
            backend=backend_of(net, job.recipe, tokens_of(form, job.recipe), job.causal),
            train_s=epoch.train_s,
            step_ms_p50=1e3 * float(np.median(trainer.step_s)) if trainer.step_s else None,
            peak_memory_bytes=trainer.peak_memory(),
            train_examples=len(data.train),
            test_examples=len(data.test),
            data=data.files,
            data_note=data.note,
        )


@lru_cache(maxsize=1)
def _loaded(task: str, folders: tuple[Path, ...]) -> DataSet:
    return load(tasks.find(task), folders)


def _split(data: DataSet, job: Job) -> DataSet:
    """The data with as many examples as the recipe has; ``test`` is what the job is judged on."""
    training, judged = data.train, data.test
    if job.split == "validation":
        training, judged = (training, data.validation) if data.validation else _held_out(training)
    longer = data.longer if job.split == "test" else {}
    return DataSet(
        train=first(training, job.recipe.train_examples),
        test=first(judged, job.recipe.test_examples),
        outputs=data.outputs,
        longer={name: first(each, job.recipe.test_examples) for name, each in longer.items()},
        files=data.files,
        note=data.note,
    )


def _held_out(examples: Examples) -> tuple[Examples, Examples]:
    rows = np.random.default_rng(0).permutation(len(examples))
    return examples.take(np.sort(rows[len(rows) // HELD_OUT :])), examples.take(
        np.sort(rows[: len(rows) // HELD_OUT])
    )


def form_of(task: Task, data: DataSet) -> Form:
    """The shapes around a network for this data."""
    shape = data.train.inputs.shape[1:]
    horizon = data.train.targets.shape[1] if task.kind == "forecast" else 0
    longest = max(each.inputs.shape[1] for each in (data.train, data.test, *data.longer.values()))
    return Form(task.kind, shape, data.outputs, horizon, 0 if task.kind == "image" else longest)


@contextmanager
def _deterministic(device: str) -> Iterator[None]:
    """On a GPU, the algorithms that give the same sums every time where there are such."""
    before = torch.are_deterministic_algorithms_enabled()
    if device == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@dataclass
class Trainer:
    """A network, its data and its optimiser.

    Args:
        generator: shuffles the batches.
        step_s: seconds of every training step so far.
    """

    task: Task
    recipe: Recipe
    net: nn.Module
    data: DataSet
    device: str
    generator: np.random.Generator

    def __post_init__(self) -> None:
        self.step_s: list[Seconds] = []
        self.parameters = list(self.net.parameters())
        self.is_fitted = hasattr(self.net, "fit")  # at once, without steps
        if self.is_fitted:
            return
        matrices = [each for each in self.parameters if each.dim() > 1]
        others = [each for each in self.parameters if each.dim() <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=self.recipe.learning_rate, fused=True)
        steps = self.recipe.epochs * len(batches.in_order(self.data.train, self.recipe.batch))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, partial(rate_at, steps=steps))

    def epochs(self) -> Iterator[Epoch]:
        """Before the first step, then after each epoch; a network that is fitted, once."""
        if self.is_fitted:
            start = time.perf_counter()
            cast(Any, self.net).fit(self.data.train)
            fitted_s = time.perf_counter() - start
            yield Epoch(0, None, self.evaluate(self.data.test), fitted_s)
            return
        yield Epoch(0, None, self.evaluate(self.data.test), 0.0)
        for number in range(1, self.recipe.epochs + 1):
            loss = self._epoch(number)
            yield Epoch(number, loss, self.evaluate(self.data.test), math.fsum(self.step_s))

    def _epoch(self, number: int) -> float:
        """Train once over the examples; return the mean loss."""
        self.net.train()
        losses, weights = [], []
        for rows in batches.shuffled(self.data.train, self.recipe.batch, self.generator):
            start = time.perf_counter()
            inputs, targets = batches.tensors(self.data.train, rows, self.device)
            loss = self._step(inputs, targets)
            self.schedule.step()
            losses.append(float(loss))  # waits for the device: the step is over
            weights.append(len(rows))
            self.step_s.append(time.perf_counter() - start)
            if not math.isfinite(losses[-1]):
                raise Diverged(
                    f"the loss became {losses[-1]} in epoch {number}, step {len(losses)}; try a lower learning rate"
                )
        return float(np.average(losses, weights=weights))

    def _step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        loss = metrics.loss(self.task, self.net(inputs), targets)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, CLIPPED_NORM)
        self.optimiser.step()
        return loss.detach()

    @torch.no_grad()
    def evaluate(self, examples: Examples) -> dict[str, float]:
        """The task's metrics on the examples."""
        self.net.eval()
        size = max(1, EVALUATED_NUMBERS // self._numbers(examples))
        totals: dict[str, float] = {}
        for inputs, targets in batches.batch_iterator(examples, size, self.device):
            metrics.add(totals, metrics.sums(self.task, self.net(inputs), targets))
        return metrics.means(self.task, totals)

    def _numbers(self, examples: Examples) -> int:
        """What an example holds, each step or pixel as wide as the network, and its answer."""
        places = int(np.prod(examples.inputs.shape[1 : 3 if self.task.kind == "image" else 2]))
        outputs = 1 if self.task.kind == "forecast" else self.data.outputs
        return places * self.recipe.dim + int(np.prod(examples.targets.shape[1:])) * outputs

    def longer(self) -> Mapping[str, float]:
        """The metrics on the other test sets, under names with their suffix: ``bits_per_byte@512``."""
        return {
            f"{name}{suffix}": value
            for suffix, examples in self.data.longer.items()
            for name, value in self.evaluate(examples).items()
        }

    def peak_memory(self) -> Bytes:
        """The most that one training step on a full batch allocates: activations and gradients.

        It changes the network, so that it is the last thing done with it.
        """
        rows = max(batches.in_order(self.data.train, self.recipe.batch), key=len)
        inputs, targets = batches.tensors(self.data.train, rows, self.device)
        self.net.train()
        if self.is_fitted:
            return memory.measure(partial(self.net, inputs), self.device).above_inputs
        self.optimiser.zero_grad()  # gradients of the last step would count as there before
        call = partial(self._step, inputs, targets)
        return memory.measure(call, self.device).above_inputs


def rate_at(step: int, steps: int) -> float:
    """Share of the highest learning rate: a linear rise, then half a cosine to 0 (Loshchilov & Hutter 2017)."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
