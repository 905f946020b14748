"""Electricity transformer temperature, to forecast: ETTh1 and ETTh2 (Zhou et al. 2021, Informer, arXiv 2012.07436).

17,420 hours of 7 channels, of which the standard split uses the first 14,400: 12, 4 and 4 months of 30 days.
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from elattn_bench.errors import MissingData
from elattn_bench.quality.data.files import check, find, missing
from elattn_bench.quality.data.nouns import Array, DataSet, Examples
from elattn_bench.quality.data.scale import mean_and_sd

SHA256 = {
    "ETTh1": "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
    "ETTh2": "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b",
}
"""Of the csv, after decompression: the authors' files, whose md5 is published as 8381763947c8... and 51a229a3fc13..."""

MONTH = 30 * 24  # hours, as the split of the paper counts them
MONTHS = {"train": 12, "validation": 4, "test": 4}
CHANNELS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
"""Columns of the csv after its date: six loads and the oil temperature."""


def locate(folders: Sequence[Path], series: str, horizon: int = 96, history: int = 96) -> list[Path]:
    """The csv, plain or compressed by xz, in a folder or in its subfolder ``ETT-small``, where the authors have it.

    Raises:
        MissingData: it is in none of the folders.
    """
    names = [f"{under}{series}.csv{suffix}" for under in ("", "ETT-small/") for suffix in ("", ".xz")]
    path = find(folders, names)
    if path is None:
        remedy = f"get {series}.csv from github.com/zhouhaoyi/ETDataset and give its folder with --data-dir"
        raise missing(series, f"{series}.csv or {series}.csv.xz", remedy, folders)
    return [path]


def load(folders: Sequence[Path], series: str, horizon: int = 96, history: int = 96) -> DataSet:
    """Every window of the three parts: inputs [n, history, 7] and what follows, [n, horizon, 7], float32.

    Each channel has mean 0 and sd 1 over the training part, as published errors have it.

    Raises:
        MissingData: the file is not there, or is another one.
    """
    path = locate(folders, series)[0]
    content = _decompressed(path, series)
    files = {f"{series}.csv": check(series, path, content, SHA256[series])}
    return split(values(content.decode("ascii"), series), horizon, history, files)


def values(text: str, series: str) -> Array:
    """The csv's numbers, [hours, 7] float64.

    Raises:
        MissingData: another header, or a line that is cut.
    """
    header, *lines = text.splitlines()
    if header != "date," + ",".join(CHANNELS):
        raise MissingData(f"{series}: its first line must be date,{','.join(CHANNELS)}, got {header[:80]!r}")
    try:
        return np.loadtxt(
            lines, delimiter=",", usecols=range(1, len(CHANNELS) + 1), dtype=np.float64, ndmin=2
        )
    except (ValueError, IndexError) as error:
        raise MissingData(
            f"{series}: a line is not a date and 7 numbers: {error}; fetch the file again"
        ) from error


def split(
    hours: Array, horizon: int, history: int, files: dict[str, str] | None = None, month: int = MONTH
) -> DataSet:
    """The data set of these hours [hours, channels], by the standard split.

    The first history of validation and of test lies in the part before: every one of their hours is forecast, and
    none of them is trained on.
    """
    ends = np.cumsum([months * month for months in MONTHS.values()])
    scaled = _standardised(hours, hours[: ends[0]])
    train = windows(scaled[: ends[0]], horizon, history)
    validation, test = (
        windows(scaled[start - history : end], horizon, history) for start, end in pairwise(ends)
    )
    note = "errors are of standardised channels"
    return DataSet(train, test, outputs=hours.shape[1], validation=validation, files=files or {}, note=note)


def windows(steps: Array, horizon: int, history: int) -> Examples:
    """Each history [history, channels] with the horizon after it: views of the steps, not copies."""
    # Writable, since torch warns of views that are not; nobody writes to them.
    moved = sliding_window_view(steps, history + horizon, axis=0, writeable=True).swapaxes(1, 2)
    return Examples(moved[:, :history], moved[:, history:])


def _standardised(hours: Array, training: Array) -> Array:
    """Mean 0 and population sd 1 over the training hours, as scikit-learn's StandardScaler, float32."""
    mean, sd = mean_and_sd(training)
    scaled: Array = ((hours - mean) / sd).astype(np.float32)
    return scaled


def _decompressed(path: Path, series: str) -> bytes:
    content = path.read_bytes()
    if path.suffix != ".xz":
        return content
    try:
        return lzma.decompress(content)
    except lzma.LZMAError as error:
        raise MissingData(f"{series}: {path} is not a whole xz file: {error}; fetch it again") from error
