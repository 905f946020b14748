"""CIFAR-10 as its authors give it: six pickles of Python 2, which are data and must not become code."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from elattn_bench.errors import MissingData
from elattn_bench.quality.data.files import sha256
from elattn_bench.quality.data.nouns import Array
from elattn_bench.quality.data.pixels import Pixels

NAME = "CIFAR-10"
FOLDER = "cifar-10-batches-py"
SIDE = 32
"""Pixels of an image's side."""
VALUES = 3 * SIDE * SIDE
"""Of an image: red, green and blue of each pixel."""
OUTPUTS = 10

MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
"""The only checksums that are published for these files, as torchvision has them."""
TEST = "test_batch"


def paths(folder: Path) -> list[Path]:
    """The six files of a folder.

    Raises:
        MissingData: some are missing.
    """
    absent = [name for name in MD5 if not (folder / name).is_file()]
    if absent:
        raise MissingData(
            f"{NAME}: {folder} must hold {', '.join(MD5)}, and lacks {', '.join(absent)}; "
            "unpack cifar-10-python.tar.gz again"
        )
    return [folder / name for name in MD5]


def read(folder: Path) -> tuple[Pixels, Pixels, dict[str, str]]:
    """Training and test images in the order of the files, and each file's sha256.

    Raises:
        MissingData: a file is missing, damaged, or not what its name says.
    """
    contents = {path.name: path.read_bytes() for path in paths(folder)}
    for name, content in contents.items():
        _check(folder / name, content)
    batches = {name: read_batch(name, content) for name, content in contents.items()}
    test = batches.pop(TEST)
    train = Pixels(
        np.concatenate([batch.images for batch in batches.values()]),
        np.concatenate([batch.classes for batch in batches.values()]),
    )
    return train, test, {name: sha256(content) for name, content in contents.items()}


def read_batch(name: str, content: bytes) -> Pixels:
    """The images and classes of one pickle: ``data`` [n, 3072] uint8, red, green, blue one after another; ``labels``.

    Args:
        name: of the file, for the error.
        content: of the file.

    Raises:
        MissingData: it is cut, asks for anything that is not data, or holds other things than a batch does.
    """
    batch = _unpickle(name, content)
    data, labels = _rows(batch.get(b"data")), batch.get(b"labels", ())
    if data is None or not _are_classes(labels) or len(data) != len(labels):
        raise MissingData(
            f"{NAME}: {name} is not a batch of CIFAR-10: it must hold b'data', uint8 of {VALUES:,} values an image, "
            f"and b'labels', as many numbers of 0 to {OUTPUTS - 1}; unpack cifar-10-python.tar.gz again"
        )
    return Pixels(data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), np.array(labels, np.int64))


def _check(path: Path, content: bytes) -> None:
    # MD5 is no protection from a forger; the unpickler is. It tells a cut file from a whole one.
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != MD5[path.name]:
        raise MissingData(
            f"{NAME}: {path} is not the official file: md5 {found}, expected {MD5[path.name]}; "
            "it is damaged or another version: unpack cifar-10-python.tar.gz again"
        )


class _Stored:
    """Stands for an array of the pickle, or its dtype: keeps what is said of it, and computes nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


ADMITTED = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}
"""All names that the official files ask for."""


class _Unpickler(pickle.Unpickler):
    """Reads containers, numbers, text and arrays; any other name is refused, so nothing of a file is ever run."""

    def find_class(self, module: str, name: str) -> type[_Stored]:
        """What a name of the pickle stands for here."""
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _Stored


def _unpickle(name: str, content: bytes) -> dict[Any, Any]:
    """What a pickle holds; nothing where that is no dict."""
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    # A pickle is a program: what a broken or hostile one raises is open, and none of it is a bug of ours.
    except Exception as error:
        raise MissingData(
            f"{NAME}: {name} is refused: a batch holds arrays, numbers and text, and nothing else ({error}); "
            "it is cut or not to be trusted: unpack cifar-10-python.tar.gz again"
        ) from error
    return batch if isinstance(batch, dict) else {}


def _rows(stored: Any) -> Array | None:
    """[n, 3072] uint8 of an array's state (version, shape, dtype, Fortran order, content); None where it is no such."""
    match stored:
        case _Stored(
            state=(_, (int(count), int(width)), _Stored(arguments=(b"u1", *_)), fortran, bytes(content))
        ):
            if width == VALUES and len(content) == count * width:
                return np.frombuffer(content, np.uint8).reshape(count, width, order="F" if fortran else "C")
    return None


def _are_classes(labels: Any) -> bool:
    return isinstance(labels, list) and all(type(label) is int and 0 <= label < OUTPUTS for label in labels)
