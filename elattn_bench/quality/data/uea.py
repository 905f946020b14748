"""Time series to classify, of the UEA archive (Bagnall et al. 2018, arXiv 1811.00075): JapaneseVowels, BasicMotions.

The files are those of the ``aeon`` package, version 1.6.0. JapaneseVowels (Kudo, Toyama and Shimbo 1999): 12 channels,
7 to 29 steps, 9 speakers. BasicMotions: 6 channels, 100 steps, 4 activities.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from elattn_bench.quality.data.files import check, find, missing
from elattn_bench.quality.data.nouns import Array, DataSet, Examples
from elattn_bench.quality.data.packages import absence, find_wheel, installed, read_wheel
from elattn_bench.quality.data.scale import mean_and_sd
from elattn_bench.quality.data.ts_format import Labelled, parse

SHA256 = {
    "BasicMotions_TEST.ts": "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc",
    "BasicMotions_TRAIN.ts": "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6",
    "JapaneseVowels_TEST.ts": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
    "JapaneseVowels_TRAIN.ts": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
}
"""Of each file as aeon 1.6.0 ships it: computed from its wheel, sha256 d05227086706f801..."""

IN_PACKAGE = Path("datasets/data")  # where aeon keeps one folder per data set
REMEDY = (
    "run 'pip download --no-deps aeon==1.6.0' in a folder and give it with --data-dir, or install aeon==1.6.0"
)


def locate(folders: Sequence[Path], name: str) -> list[Path]:
    """The two ``.ts`` files, or the wheel that holds them.

    Looked for in this order: the files in a folder or in its subfolder ``name``, aeon's wheel in a folder, an
    installed aeon.

    Raises:
        MissingData: neither is there.
    """
    training = _training_file(folders, name)
    if training is None:
        wheel = find_wheel(folders, "aeon")
        if wheel is not None:
            return [wheel]
        package = installed("aeon")
        training = None if package is None else _training_file([package / IN_PACKAGE], name)
    if training is None:
        raise missing(name, f"{name}_TRAIN.ts or aeon-*.whl", REMEDY, folders, absence("aeon"))
    return [training, _beside(training, name)]


def load(folders: Sequence[Path], name: str) -> DataSet:
    """Series [n, longest, channels] float32 and their classes.

    Each channel has mean 0 and sd 1 over the real steps of the training series. Shorter series end in zeros, which
    ``lengths`` tells apart; where all are equally long, it is None.

    Raises:
        MissingData: the files are not there, or are other ones.
    """
    contents = _contents(locate(folders, name), name)
    sums = {file: check(name, path, content, SHA256[file]) for file, (path, content) in contents.items()}
    train, test = (
        parse(contents[f"{name}_{part}.ts"][1].decode("ascii"), f"{name}_{part}.ts")
        for part in ("TRAIN", "TEST")
    )
    return split(train, test, sums)


def split(train: Labelled, test: Labelled, files: dict[str, str] | None = None) -> DataSet:
    """The data set of two parsed files: padded to one length, standardised by the training series."""
    steps = np.concatenate(train.series)
    mean, sd = mean_and_sd(steps)
    longest = max(map(len, train.series + test.series))
    return DataSet(
        _padded(train, mean, sd, longest),
        _padded(test, mean, sd, longest),
        outputs=len(train.names),
        files=files or {},
        note=f"{len(test.series)} test series: one of them is {100 / len(test.series):.2g} points of accuracy",
    )


def _padded(part: Labelled, mean: Array, sd: Array, longest: int) -> Examples:
    inputs = np.zeros((len(part.series), longest, len(mean)), dtype=np.float32)
    for row, series in zip(inputs, part.series, strict=True):
        row[: len(series)] = (series - mean) / sd
    lengths = np.array([len(series) for series in part.series], dtype=np.int64)
    equal = bool((lengths == longest).all())
    return Examples(inputs, np.array(part.classes, dtype=np.int64), None if equal else lengths)


def _training_file(folders: Sequence[Path], name: str) -> Path | None:
    return find(folders, (f"{name}_TRAIN.ts", f"{name}/{name}_TRAIN.ts"))


def _beside(training: Path, name: str) -> Path:
    """The test file, which must lie beside the training file: the two belong together."""
    test = training.with_name(f"{name}_TEST.ts")
    if not test.exists():
        raise missing(name, f"{test.name}, which belongs to {training.name},", REMEDY, [training.parent])
    return test


def _contents(found: Sequence[Path], name: str) -> dict[str, tuple[Path, bytes]]:
    """File name -> (where it is, its content), of both parts."""
    if found[0].suffix != ".whl":
        return {path.name: (path, path.read_bytes()) for path in found}
    members = read_wheel(found[0], f"aeon/{IN_PACKAGE.as_posix()}/{name}/", ".ts")
    wanted = [file for file in members if file in SHA256]
    if len(wanted) != 2:
        raise missing(name, f"{name}_TRAIN.ts and {name}_TEST.ts", REMEDY, [found[0]])
    return {file: (found[0] / file, members[file]) for file in wanted}
