"""From pixels of 0 to 255 to a data set of standardised images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from elattn_bench.quality.data.nouns import Array, DataSet, Examples

LEVELS = 256
"""Values that a pixel of 8 bits can have."""

STRETCHES = 50
"""Images are counted in so many parts: counting takes eight times the memory of what it counts."""


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
    mean, deviation = _moments(train.images)
    return DataSet(
        _examples(train, mean, deviation), _examples(test, mean, deviation), outputs, files=files, note=note
    )


def _moments(images: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each channel, [channels] float32; of a channel that never changes, 1.

    From the counts of the 256 values: exact, and without all images in float64 beside themselves.
    """
    counts = np.sum([_counts(stretch) for stretch in np.array_split(images, STRETCHES)], axis=0)
    values = np.arange(LEVELS, dtype=np.float64)
    means = [np.average(values, weights=row) for row in counts]
    deviations = [
        np.sqrt(np.average((values - mean) ** 2, weights=row)) or 1.0
        for row, mean in zip(counts, means, strict=True)
    ]
    return np.array(means, np.float32), np.array(deviations, np.float32)


def _counts(images: Array) -> Array:
    """How often each channel has each value, [channels, 256]."""
    channels = images.reshape(-1, images.shape[-1]).T
    return np.stack([np.bincount(channel, minlength=LEVELS) for channel in channels])


def _examples(pixels: Pixels, mean: Array, deviation: Array) -> Examples:
    inputs = np.subtract(pixels.images, mean, dtype=np.float32)
    inputs /= deviation
    return Examples(inputs, pixels.classes)
