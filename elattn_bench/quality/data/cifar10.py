"""CIFAR-10: 50,000 + 10,000 colour images of 32 x 32 pixels, 10 classes (Krizhevsky, 2009)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from elattn_bench.quality.data import cifar10_batches, cifar10_images
from elattn_bench.quality.data.cifar10_batches import FOLDER, MD5, NAME, OUTPUTS
from elattn_bench.quality.data.files import find, missing
from elattn_bench.quality.data.nouns import DataSet
from elattn_bench.quality.data.pixels import data_set

ARCHIVE = "cifar10-jpeg.tar.xz"

DEVELOPMENT_SHA256 = "f10d4c9e536a564f17fa5e8d68ba087d1235e60cd1f21700e11ff43f0647bbb0"
"""``cifar10_images.digest`` of the archive that this project's figures were made with, packed or unpacked."""

LOSSY_NOTE = "CIFAR-10 as JPEG (a lossy re-encoding), not the original pixels"


def locate(folders: Sequence[Path]) -> list[Path]:
    """The files, the two folders or the archive that would be read: the original pixels where there is a choice.

    Args:
        folders: each may be ``cifar-10-batches-py`` or hold it; hold ``train`` and ``test`` with a folder for each
            class, itself or in ``cifar10``; or hold ``cifar10-jpeg.tar.xz``.

    Raises:
        MissingData: none of them is there, or not all of one.
    """
    if batch := find(folders, [*(f"{FOLDER}/{name}" for name in MD5), *MD5]):
        return cifar10_batches.paths(batch.parent)
    if image_folder := find(folders, ("train/airplane", "cifar10/train/airplane")):
        return cifar10_images.parts(image_folder.parents[1])
    if archive := find(folders, (ARCHIVE,)):
        return [archive]
    wanted = f"{FOLDER}/, train/ and test/ with a folder of images for each class, or {ARCHIVE}"
    remedy = (
        "unpack cifar-10-python.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html) and give its folder with "
        "--data-dir"
    )
    raise missing(NAME, wanted, remedy, folders)


def load(folders: Sequence[Path]) -> DataSet:
    """Images [n, 32, 32, 3] and classes: official files in their order, image files one of each class in turn.

    Raises:
        MissingData: a file is missing, damaged or another version.
    """
    first = locate(folders)[0]
    if first.name in MD5:
        train, test, files = cifar10_batches.read(first.parent)
        return data_set(train, test, OUTPUTS, files)
    if first.name == ARCHIVE:
        return _from_images(cifar10_images.from_archive(first))
    return _from_images(cifar10_images.from_folder(first.parent))


def _from_images(contents: Mapping[str, bytes]) -> DataSet:
    train, test = (cifar10_images.decode(contents, part) for part in ("train", "test"))
    digest = cifar10_images.digest(contents)
    return data_set(train, test, OUTPUTS, {"train/ and test/": digest}, _note(contents, digest))


def _note(contents: Mapping[str, bytes], digest: str) -> str:
    lossy = LOSSY_NOTE if cifar10_images.is_lossy(contents) else ""
    unknown = "" if digest == DEVELOPMENT_SHA256 else f"checksum unknown: {digest[:16]}..."
    return "; ".join(filter(None, (lossy, unknown)))
