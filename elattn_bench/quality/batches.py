"""Examples in batches. Series of unequal lengths share a batch only with their equals: no padding is ever seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from elattn_bench.quality.data.nouns import Array, Examples


def shuffled(examples: Examples, size: int, generator: np.random.Generator) -> list[Array]:
    """The rows of every batch of an epoch, in random order; batches of series are of one length each."""
    if examples.lengths is None:
        return _cut(generator.permutation(len(examples)), size)
    batches = [
        batch
        for length in np.unique(examples.lengths)
        for batch in _cut(generator.permutation(np.flatnonzero(examples.lengths == length)), size)
    ]
    return [batches[number] for number in generator.permutation(len(batches))]


def in_order(examples: Examples, size: int) -> list[Array]:
    """The rows of every batch, each example once, none of them mixed."""
    if examples.lengths is None:
        return _cut(np.arange(len(examples)), size)
    lengths = np.unique(examples.lengths)
    return [batch for length in lengths for batch in _cut(np.flatnonzero(examples.lengths == length), size)]


def tensors(examples: Examples, rows: Array, device: str) -> tuple[Tensor, Tensor]:
    """Inputs and targets of these rows, of one length, without their padding."""
    inputs, targets = examples.inputs[rows], examples.targets[rows]
    if examples.lengths is not None:
        inputs = inputs[:, : examples.lengths[rows[0]]]
    return _tensor(inputs, device), _tensor(targets, device)


def _tensor(array: Array, device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _cut(rows: Array, size: int) -> list[Array]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def batch_iterator(examples: Examples, size: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """All examples in order, batch by batch, as tensors."""
    return (tensors(examples, rows, device) for rows in in_order(examples, size))
