"""Made-up files of image data sets: IDX, batches as Python 2 pickled them, folders of images."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from elattn_bench.errors import MissingData
from elattn_bench.quality.data.cifar10_images import CLASSES

Array = NDArray[Any]

USERS_FOLDERS = [Path(name) for name in os.environ.get("ELATTN_BENCH_DATA", "").split(os.pathsep) if name]
"""Where a developer has real data that no package gives."""


def here(module: Any) -> bool:
    """Whether a loader's real data is on this machine."""
    try:
        module.locate(USERS_FOLDERS)
    except MissingData:
        return False
    return True


def pixels(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def idx(array: Array) -> bytes:
    """A file of IDX, as described on the page of MNIST."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def batch(data: Array, labels: list[int], dtype: bytes = b"u1", fortran: bool = False) -> bytes:
    """A batch of CIFAR-10 in the opcodes that Python 2's cPickle wrote, protocol 2.

    Python 3 cannot write one: it has no byte strings of that kind.
    """
    return b"".join(
        [
            b"\x80\x02}(",
            _text(b"batch_label") + _text(b"training batch 1 of 5"),
            _text(b"labels") + b"](" + b"".join(b"J" + struct.pack("<i", label) for label in labels) + b"e",
            _text(b"data")
            + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
            + _text(b"b"),
            b"\x87R(K\x01J"
            + struct.pack("<i", data.shape[0])
            + b"J"
            + struct.pack("<i", data.shape[1])
            + b"\x86",
            b"cnumpy\ndtype\n" + _text(dtype) + b"K\x00K\x01\x87R",
            b"(K\x03" + _text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            (b"\x88T" if fortran else b"\x89T") + struct.pack("<i", data.nbytes),
            data.tobytes("F" if fortran else "C") + b"tb",
            _text(b"filenames") + b"](" + _text(b"camion_s_000148.png") + b"e",
            b"u.",
        ]
    )


def png(array: Array) -> bytes:
    return _encoded(array, "PNG")


def jpeg(array: Array) -> bytes:
    return _encoded(array, "JPEG")


def image_folder(folder: Path, train: int, test: int, suffix: str = "png") -> Path:
    """So many images of each class; each one's red value is its class, its green one its number."""
    for part, count in (("train", train), ("test", test)):
        for row, name in enumerate(CLASSES):
            place = folder / part / name
            place.mkdir(parents=True)
            for number in range(count):
                array = np.full((32, 32, 3), (row, number, len(part)), np.uint8)
                content = png(array) if suffix == "png" else jpeg(array)
                (place / f"{number:04}.{suffix}").write_bytes(content)
    return folder


def _encoded(array: Array, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


def _text(text: bytes) -> bytes:
    """A short byte string of Python 2."""
    return b"U" + bytes([len(text)]) + text
