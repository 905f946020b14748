"""CIFAR-10 as image files, ``train/<class>/*`` and ``test/<class>/*``: in a folder, or in a tar archive."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from elattn_bench.errors import MissingData
from elattn_bench.quality.data.cifar10_batches import NAME, SIDE
from elattn_bench.quality.data.files import sha256
from elattn_bench.quality.data.nouns import Array
from elattn_bench.quality.data.pixels import Pixels

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""In the order of the official class numbers."""

COUNTS = {"train": 5_000, "test": 1_000}
"""Images of a class, by part."""

LOSSY = (".jpg", ".jpeg")
SUFFIXES = (*LOSSY, ".png")


def parts(folder: Path) -> list[Path]:
    """Its folders ``train`` and ``test``.

    Raises:
        MissingData: the folder of a class is missing.
    """
    wanted = [f"{part}/{name}" for part in COUNTS for name in CLASSES]
    absent = [name for name in wanted if not (folder / name).is_dir()]
    if absent:
        raise MissingData(
            f"{NAME}: {folder} must hold train/ and test/ with a folder for each of {', '.join(CLASSES)}, "
            f"and lacks {', '.join(absent)}: bring the whole data set"
        )
    return [folder / part for part in COUNTS]


def from_folder(folder: Path) -> dict[str, bytes]:
    """Path below the folder -> content, of every image."""
    found = (path for part in COUNTS for path in folder.joinpath(part).glob("*/*") if _is_image(path.name))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def from_archive(path: Path) -> dict[str, bytes]:
    """Path in the archive -> content, of every image; nothing is written to disk.

    Raises:
        MissingData: the archive is cut or none.
    """
    try:
        with tarfile.open(path, "r|*") as archive:
            return dict(_members(archive))
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise MissingData(f"{NAME}: {path} cannot be read ({error}); it is cut: fetch it again") from error


def digest(contents: Mapping[str, bytes]) -> str:
    """One sha256 of all files and their paths.

    What ``find train test -type f | LC_ALL=C sort | xargs sha256sum | sha256sum`` prints in the folder.
    """
    manifest = hashlib.sha256()
    for path in sorted(contents, key=_bytes):
        manifest.update(f"{sha256(contents[path])}  ".encode() + _bytes(path) + b"\n")
    return manifest.hexdigest()


def is_lossy(contents: Mapping[str, bytes]) -> bool:
    """Whether any image is a JPEG, which does not keep the pixels."""
    return any(path.lower().endswith(LOSSY) for path in contents)


def decode(contents: Mapping[str, bytes], part: str) -> Pixels:
    """The images of a part, one of each class in turn, so that any stretch of them is balanced.

    Raises:
        MissingData: other classes or counts than those of CIFAR-10, or a file that is no image of 32 x 32.
    """
    by_class = _by_class(contents, part)
    paths = [path for turn in zip(*by_class, strict=True) for path in turn]
    images = np.empty((len(paths), SIDE, SIDE, 3), np.uint8)
    for row, path in enumerate(paths):
        images[row] = image(path, contents[path])
    return Pixels(images, np.arange(len(paths), dtype=np.int64) % len(CLASSES))


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        path = PurePosixPath(member.name)  # without a leading ./
        if member.isfile() and len(path.parts) == 3 and path.parts[0] in COUNTS and _is_image(path.name):
            content = archive.extractfile(member)
            if content is not None:
                yield str(path), content.read()


def _by_class(contents: Mapping[str, bytes], part: str) -> list[list[str]]:
    """The paths of each class, sorted."""
    paths = sorted((path for path in contents if path.startswith(f"{part}/")), key=_bytes)
    found = Counter(path.split("/")[1] for path in paths)
    if found != dict.fromkeys(CLASSES, COUNTS[part]):
        raise MissingData(
            f"{NAME}: {part}/ must hold {COUNTS[part]:,} images of each of {', '.join(CLASSES)}; "
            f"found {_told(found)}: bring the whole data set, and nothing else"
        )
    return [[path for path in paths if path.split("/")[1] == name] for name in CLASSES]


def _told(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(found.items())) or "none"


def image(path: str, content: bytes) -> Array:
    """The pixels of a file, [32, 32, 3] uint8.

    Raises:
        MissingData: it is damaged, of another format, or of another size.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        # Only these two: some of Pillow's other formats start programs.
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            if image.size != (SIDE, SIDE):
                size = f"{image.width} x {image.height}"
                raise MissingData(
                    f"{NAME}: {path} must be {SIDE} x {SIDE} pixels and is {size}: fetch it again"
                )
            return np.asarray(image.convert("RGB"))
    # What Pillow raises for a damaged file; SyntaxError is a broken PNG.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        said = "neither JPEG nor PNG" if isinstance(error, UnidentifiedImageError) else error
        raise MissingData(
            f"{NAME}: {path} is not an image ({said}); it is damaged: fetch it again"
        ) from error


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _bytes(path: str) -> bytes:
    return path.encode(errors="surrogateescape")
