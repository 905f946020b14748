"""Multi-query associative recall: keys with their values, then keys again in another order: say their values.

The test of what an attention's state can hold (Arora et al. 2023, Zoology, arXiv 2312.04927).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from elattn_bench.errors import UsageError
from elattn_bench.quality.data.made import data_set, distinct, generator
from elattn_bench.quality.data.nouns import IGNORED, Array, DataSet, Examples

FILLER = 0  # the token between queries; neither a key nor a value
POWER = (
    0.01  # of the law of a query's distance, distance ** (POWER - 1): near is likelier; from the paper's code
)
LONGER = ((16, 128), (32, 256))  # (pairs, steps): twice and four times as many of both


def locate(folders: Sequence[Path], **arguments: object) -> list[Path]:
    """No files: the data are made."""
    return []


def load(
    folders: Sequence[Path],
    pairs: int = 8,
    steps: int = 64,
    vocabulary: int = 256,
    train: int = 20_000,
    test: int = 1_000,
    longer: Sequence[Sequence[int]] = LONGER,
) -> DataSet:
    """Sequences [n, steps] and, where a key is asked for, its value [n, steps], else ``IGNORED``; int64.

    Keys come from the lower half of the vocabulary, values from the upper half, token 0 fills; within a sequence no
    key and no value is there twice, so that each query has one answer. Guessing among the values that were told is
    right in 1 of ``pairs``.

    Args:
        folders: not used.
        pairs: keys of a sequence; each is asked for once.
        steps: length of a sequence.
        vocabulary: number of tokens.
        train, test: number of sequences; validation has as many as test.
        longer: (pairs, steps) of further test sets, each of another number of steps.

    Raises:
        UsageError: the sequence or the vocabulary is too short for so many pairs.
    """

    _check(pairs, steps, vocabulary)

    def make(part: str, rows: int, size: tuple[int, int]) -> Examples:
        return sequences(generator(f"mqar {part}"), rows, *size, vocabulary)

    note = (
        f"made from a fixed seed; guessing among the {pairs} values told is right {1 / pairs:.1%} of the time"
    )
    sizes = {many_steps: (many_pairs, many_steps) for many_pairs, many_steps in longer}
    return data_set(make, (pairs, steps), train, test, sizes, vocabulary, note)


def sequences(random: np.random.Generator, rows: int, pairs: int, steps: int, vocabulary: int) -> Examples:
    """So many sequences: key value key value ..., then the same keys in places drawn by a power law.

    As in the paper's code, a query is at an even distance from the pairs, so that its answer would have a place
    after it; there it is not told. We differ in two ways: the filler is one token of its own instead of random ones,
    which might say a key by chance and with it another value; and a pair's place says nothing about its query's.

    Raises:
        UsageError: as ``load`` has it.
    """
    _check(pairs, steps, vocabulary)
    half = vocabulary // 2
    keys = distinct(random, rows, FILLER + 1, half, pairs)
    values = distinct(random, rows, half, vocabulary, pairs)
    inputs = np.full((rows, steps), FILLER, dtype=np.int64)
    inputs[:, 0 : 2 * pairs : 2] = keys
    inputs[:, 1 : 2 * pairs : 2] = values
    targets = np.full((rows, steps), IGNORED, dtype=np.int64)
    places = 2 * pairs + 2 * _power_law(random, rows, (steps - 2 * pairs) // 2, pairs)
    np.put_along_axis(inputs, places, keys, axis=1)
    np.put_along_axis(targets, places, values, axis=1)
    return Examples(inputs, targets)


def _power_law(random: np.random.Generator, rows: int, slots: int, count: int) -> Array:
    """So many different slots in each row, [rows, count]: slot n drawn with weight (n + 1) ** (POWER - 1).

    Drawn without replacement as the highest of log weights plus Gumbel noise (Efraimidis and Spirakis 2006 have the
    equivalent keys u ** (1 / weight)), then shuffled.
    """
    weights = (POWER - 1) * np.log(np.arange(1, slots + 1))
    order = np.argsort(-(weights + random.gumbel(size=(rows, slots))), axis=1)
    return random.permuted(order[:, :count], axis=1)


def _check(pairs: int, steps: int, vocabulary: int) -> None:
    if pairs < 1 or 4 * pairs > steps:
        raise UsageError(
            f"mqar: 4 * pairs must be at most steps, got {pairs} pairs in {steps} steps: take fewer pairs"
        )
    if vocabulary // 2 - 1 < pairs:
        raise UsageError(
            f"mqar: a vocabulary of {vocabulary} has {vocabulary // 2 - 1} keys, too few for {pairs} pairs; "
            f"take at least {2 * pairs + 2}"
        )
