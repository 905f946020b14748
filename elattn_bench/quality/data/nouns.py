"""What every loader returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

IGNORED = -1
"""A target that is not asked for: padding, and what a prompt already says."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Inputs and what should be answered, example by example.

    Args:
        inputs: images [n, height, width, channels] float32, standardised; series [n, steps, channels] float32,
            standardised; tokens [n, steps] int64.
        targets: classes [n] int64; futures [n, horizon, channels] float32; the token that follows at each step,
            [n, steps] int64, or ``IGNORED``.
        lengths: of series that are padded, how many steps are real, [n] int64; None where all are.
    """

    inputs: Array
    targets: Array
    lengths: Array | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Array) -> Examples:
        """These rows."""
        lengths = None if self.lengths is None else self.lengths[rows]
        return Examples(self.inputs[rows], self.targets[rows], lengths)


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set, split.

    Args:
        train, test: what is learned from, and what is judged on.
        validation: what choices are made on, where the source has such a part; else a share of ``train`` is held out.
        outputs: number of classes, of tokens in the vocabulary, or of channels to forecast.
        longer: other test sets, for example of longer sequences, by the suffix of their metric: ``@512``.
        files: name of each file read -> sha256 of its content.
        note: what a reader should know of the data beside any number; may be empty.
    """

    train: Examples
    test: Examples
    outputs: int
    validation: Examples | None = None
    longer: Mapping[str, Examples] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def first(examples: Examples, count: int | None) -> Examples:
    """At most so many examples, drawn the same way every time."""
    if count is None or count >= len(examples):
        return examples
    rows = np.random.default_rng(0).permutation(len(examples))[:count]
    return examples.take(np.sort(rows))
