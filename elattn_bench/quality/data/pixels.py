"""From pixels of 0 to 255 to a data set of standardised images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from elattn_bench.quality.data.nouns import Array, DataSet, Examples

LEVELS = 256
"""Values that a pixel of 8 bits can have."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """Images as their files have them.

    Args:
        images: [n, height, width, channels] uint8.
        classes: [n] int64.
    """

    images: Array
    classes: Array


def data_set(train: Pixels, test: Pixels, outputs: int, files: Mapping[str, str], note: str = "") -> DataSet:
    """Both parts, standardised per channel with the mean and standard deviation of the training images alone."""
    tables = [_table(train.images[..., channel]) for channel in range(train.images.shape[-1])]
    return DataSet(_examples(train, tables), _examples(test, tables), outputs, files=files, note=note)


def _table(channel: Array) -> Array:
    """What each of the 256 values becomes, [256] float32.

    From the counts of the values: exact, and without a copy of all images in float64.
    """
    counts = np.bincount(channel.ravel(), minlength=LEVELS)
    values = np.arange(LEVELS, dtype=np.float64)
    mean = np.average(values, weights=counts)
    deviation = np.sqrt(np.average((values - mean) ** 2, weights=counts))
    table: Array = ((values - mean) / (deviation or 1.0)).astype(np.float32)  # a constant channel becomes 0
    return table


def _examples(pixels: Pixels, tables: list[Array]) -> Examples:
    inputs = np.empty(pixels.images.shape, np.float32)
    for channel, table in enumerate(tables):
        inputs[..., channel] = table[pixels.images[..., channel]]
    return Examples(inputs, pixels.classes)
