"""Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28, 10 classes (Xiao, Rasul, Vollgraf, 2017, 1708.07747)."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from elattn_bench.errors import MissingData
from elattn_bench.quality.data.files import check, find, missing
from elattn_bench.quality.data.nouns import Array, DataSet
from elattn_bench.quality.data.pixels import Pixels, data_set

NAME = "Fashion-MNIST"
OUTPUTS = 10
PACKAGE_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""

REMEDY = "apt install dataset-fashion-mnist, or give the folder of the four gz IDX files with --data-dir"

SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Checksums of the decompressed files: gzip adds a time stamp, so two copies of the same data differ."""


def locate(folders: Sequence[Path]) -> list[Path]:
    """The four files, each with or without ``.gz``.

    Args:
        folders: looked through first, then ``fashion-mnist`` in each, then the Debian package's folder.

    Raises:
        MissingData: one of them is nowhere.
    """
    places = [*folders, *(folder / "fashion-mnist" for folder in folders), PACKAGE_FOLDER]
    found = {name: find(places, (f"{name}.gz", name)) for name in SHA256}
    absent = [f"{name}.gz" for name, path in found.items() if path is None]
    if absent:
        raise missing(NAME, ", ".join(absent), REMEDY, places)
    return [path for path in found.values() if path is not None]


def load(folders: Sequence[Path]) -> DataSet:
    """Images [n, 28, 28, 1] and classes, in the order of the files.

    Raises:
        MissingData: a file is missing, damaged or another version.
    """
    read = {name: _content(path) for name, path in zip(SHA256, locate(folders), strict=True)}
    files = {name: check(NAME, path, content, SHA256[name]) for name, (path, content) in read.items()}
    arrays = {name: parse_idx(path.name, content) for name, (path, content) in read.items()}
    return data_set(_part(arrays, "train"), _part(arrays, "t10k"), OUTPUTS, files)


def parse_idx(name: str, content: bytes) -> Array:
    """The array of an IDX file of bytes: two zeros, type 8, rank, each extent as big-endian uint32, the values.

    Args:
        name: of the file, for the error.
        content: of the file, decompressed.

    Raises:
        MissingData: it is no such file, or has too few or too many values.
    """
    shape = _shape(content)
    if shape is None:
        raise MissingData(
            f"{NAME}: {name} is not an IDX file of bytes: it must begin with 00 00 08, a rank and as many extents, "
            f"and begins with {content[:4].hex(' ') or 'nothing'}; fetch it again"
        )
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape))
    if len(values) != math.prod(shape):
        raise MissingData(
            f"{NAME}: {name} announces {math.prod(shape):,} values, shape {shape}, and holds {len(values):,}; "
            "it is cut or damaged: fetch it again"
        )
    return values.reshape(shape)


def _shape(content: bytes) -> tuple[int, ...] | None:
    """What the head of an IDX file says; None where it is none, or of other values than bytes, or cut."""
    if content[:3] != b"\0\0\x08" or len(content) < 4 or len(content) < 4 + 4 * content[3]:
        return None
    return struct.unpack_from(f">{content[3]}I", content, 4)


def _content(path: Path) -> tuple[Path, bytes]:
    """A file and what it holds, decompressed."""
    content = path.read_bytes()
    if path.suffix != ".gz":
        return path, content
    try:
        return path, gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise MissingData(
            f"{NAME}: {path} cannot be decompressed ({error}); it is cut: fetch it again"
        ) from error


def _part(arrays: dict[str, Array], prefix: str) -> Pixels:
    images = arrays[f"{prefix}-images-idx3-ubyte"]
    return Pixels(images[..., np.newaxis], arrays[f"{prefix}-labels-idx1-ubyte"].astype(np.int64))
