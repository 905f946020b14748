"""Selective copying: tokens among noise, to be repeated in their order at the end (Gu and Dao 2023, arXiv 2312.00752).

What is to be kept depends on the content, not on the place: a convolution, or a state that treats all steps alike,
cannot do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from elattn_bench.errors import UsageError
from elattn_bench.quality.data.made import data_set, distinct, generator
from elattn_bench.quality.data.nouns import IGNORED, DataSet, Examples

NOISE = 0  # the token to be skipped
MARKER = 1  # the token that asks for the next one
LONGER = (128, 256)  # steps: twice and four times as many, for as many tokens


def locate(folders: Sequence[Path], **arguments: object) -> list[Path]:
    """No files: the data are made."""
    return []


def load(
    folders: Sequence[Path],
    tokens: int = 16,
    steps: int = 64,
    vocabulary: int = 16,
    train: int = 20_000,
    test: int = 1_000,
    longer: Sequence[int] = LONGER,
) -> DataSet:
    """Sequences [n, steps] and, at their last ``tokens`` steps, what is to be said [n, steps], else ``IGNORED``; int64.

    Args:
        folders: not used.
        tokens: how many are to be repeated.
        steps: length of a sequence, its end with the markers included.
        vocabulary: number of tokens; two of them are noise and marker.
        train, test: number of sequences; validation has as many as test.
        longer: steps of further test sets: the same task among more noise.

    Raises:
        UsageError: the sequence is too short for so many tokens.
    """

    _check(tokens, steps, vocabulary)

    def make(part: str, rows: int, length: int) -> Examples:
        return sequences(generator(f"selective copy {part}"), rows, tokens, length, vocabulary)

    note = f"made from a fixed seed; guessing is right {1 / (vocabulary - 2):.1%} of the time"
    return data_set(make, steps, train, test, {length: length for length in longer}, vocabulary, note)


def sequences(random: np.random.Generator, rows: int, tokens: int, steps: int, vocabulary: int) -> Examples:
    """So many sequences: tokens at places drawn evenly among noise, then as many markers.

    At the i-th marker the i-th token is to be said; the markers tell nothing of what was said before, so that
    training and testing ask the same.

    Raises:
        UsageError: as ``load`` has it.
    """
    _check(tokens, steps, vocabulary)
    told = random.integers(MARKER + 1, vocabulary, size=(rows, tokens))
    places = np.sort(distinct(random, rows, 0, steps - tokens, tokens), axis=1)
    inputs = np.full((rows, steps), NOISE, dtype=np.int64)
    np.put_along_axis(inputs, places, told, axis=1)
    inputs[:, -tokens:] = MARKER
    targets = np.full((rows, steps), IGNORED, dtype=np.int64)
    targets[:, -tokens:] = told
    return Examples(inputs, targets)


def _check(tokens: int, steps: int, vocabulary: int) -> None:
    if tokens < 1 or 2 * tokens > steps:
        raise UsageError(
            f"selective-copy: 2 * tokens must be at most steps, got {tokens} tokens in {steps} steps: take fewer tokens"
        )
    if vocabulary < 4:
        raise UsageError(
            f"selective-copy: the vocabulary needs noise, a marker and 2 tokens more, got {vocabulary}"
        )
