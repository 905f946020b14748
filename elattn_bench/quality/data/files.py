"""Finding the files of a data set among the user's folders, and checking that they are the right ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from elattn_bench.errors import MissingData


def find(folders: Iterable[Path], names: Sequence[str]) -> Path | None:
    """The first that exists: each name in each folder, folders in their order; a name may be ``a/b``."""
    candidates = (folder / name for folder in folders for name in names)
    return next((path for path in candidates if path.exists()), None)


def missing(what: str, wanted: str, remedy: str, folders: Sequence[Path], elsewhere: str = "") -> MissingData:
    """The error of a data set that is not here.

    Args:
        what: the data set.
        wanted: the files that were looked for.
        remedy: the package or file that gives it, as an instruction.
        folders: where it was looked for.
        elsewhere: what else was tried in vain, as a clause.
    """
    places = f" in {', '.join(map(str, folders))}" if folders else ": no folder to look in was given"
    tried = f", and {elsewhere}" if elsewhere else ""
    return MissingData(f"{what}: {wanted} not found{places}{tried}; {remedy}. Nothing is downloaded.")


def sha256(content: bytes) -> str:
    """The checksum of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def check(what: str, path: Path, content: bytes, expected: str) -> str:
    """The content's sha256, which must be the expected one.

    Raises:
        MissingData: it is another one: a cut download, or another version of the data.
    """
    found = sha256(content)
    if found != expected:
        raise MissingData(
            f"{what}: {path} is not the file it should be: sha256 {found[:16]}..., expected {expected[:16]}...; "
            "it is damaged or another version, so figures would not compare: fetch it again"
        )
    return found
