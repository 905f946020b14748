"""Data made from a fixed seed instead of read from files: who draws them, and how the parts are kept apart."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from elattn_bench.quality.data.files import sha256
from elattn_bench.quality.data.nouns import Array, DataSet, Examples

DATA_SEED = (
    20_231_209  # of all made data; apart from a training's seed, so that all seeds learn from the same data
)


def generator(part: str) -> np.random.Generator:
    """What draws a part of the data: its own stream, so that one part's size changes no other part."""
    return np.random.default_rng([DATA_SEED, zlib.crc32(part.encode())])


def distinct(random: np.random.Generator, rows: int, low: int, high: int, count: int) -> Array:
    """So many different whole numbers of [low, high) in each row, in random order, [rows, count]."""
    return low + np.stack([random.choice(high - low, size=count, replace=False) for _ in range(rows)])


Size = TypeVar("Size")


def data_set(
    make: Callable[[str, int, Size], Examples],
    size: Size,
    train: int,
    test: int,
    longer: Mapping[int, Size],
    outputs: int,
    note: str,
) -> DataSet:
    """All parts of a made data set; validation is as large as test.

    Args:
        make: so many examples of a size, of the part of that name.
        size: of all parts but the longer ones.
        train, test: number of examples.
        longer: steps -> the size of a further test set, whose metrics are called ``@steps``.
        outputs, note: as a ``DataSet`` has them.
    """
    counts = {"train": train, "validation": test, "test": test}
    parts = {name: make(name, count, size) for name, count in counts.items()}
    return DataSet(
        parts["train"],
        parts["test"],
        outputs=outputs,
        validation=parts["validation"],
        longer={f"@{steps}": make(f"test@{steps}", test, each) for steps, each in longer.items()},
        files=sums(parts),
        note=note,
    )


def sums(parts: Mapping[str, Examples]) -> dict[str, str]:
    """The sha256 of each part's inputs and targets, as 64-bit integers.

    Another version of numpy may draw other numbers from the same seed (NEP 19): a run that was made from other data
    is told by them.
    """
    return {name: sha256(part.inputs.tobytes() + part.targets.tobytes()) for name, part in parts.items()}
