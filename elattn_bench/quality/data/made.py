"""Data made from a fixed seed instead of read from files: who draws them, and how the parts are kept apart."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from elattn_bench.quality.data.files import sha256
from elattn_bench.quality.data.nouns import Array, Examples

DATA_SEED = (
    20_231_209  # of all made data; apart from a training's seed, so that all seeds learn from the same data
)


def generator(part: str) -> np.random.Generator:
    """What draws a part of the data: its own stream, so that one part's size changes no other part."""
    return np.random.default_rng([DATA_SEED, zlib.crc32(part.encode())])


def distinct(random: np.random.Generator, rows: int, low: int, high: int, count: int) -> Array:
    """So many different whole numbers of [low, high) in each row, in random order, [rows, count]."""
    return low + np.stack([random.choice(high - low, size=count, replace=False) for _ in range(rows)])


def sums(parts: Mapping[str, Examples]) -> dict[str, str]:
    """The sha256 of each part's inputs and targets, as 64-bit integers.

    Another version of numpy may draw other numbers from the same seed (NEP 19): a run that was made from other data
    is told by them.
    """
    return {name: sha256(part.inputs.tobytes() + part.targets.tobytes()) for name, part in parts.items()}
