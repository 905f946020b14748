"""Data that travels inside a Python package: read from a wheel, or from an installed package without importing it."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Iterable
from pathlib import Path

from elattn_bench.errors import MissingData


def find_wheel(folders: Iterable[Path], package: str) -> Path | None:
    """The package's wheel in the first folder that has one; of several, the last by name."""
    found = (max(folder.glob(f"{package}-*.whl"), default=None) for folder in folders)
    return next(filter(None, found), None)


def installed(package: str) -> Path | None:
    """The folder of an installed package, which is not imported: only its data are wanted."""
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def absence(package: str) -> str:
    """Why the package gives no data, as a clause."""
    return f"the package {package} " + (
        "is not installed" if installed(package) is None else "is installed without it"
    )


def read_wheel(wheel: Path, under: str, suffix: str) -> dict[str, bytes]:
    """The files in a folder of the wheel, and in its subfolders, by their path below it.

    Raises:
        MissingData: the wheel is cut or damaged.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(under) and name.endswith(suffix)]
            return {name.removeprefix(under).lstrip("/"): archive.read(name) for name in names}
    except zipfile.BadZipFile as error:
        raise MissingData(
            f"{wheel} is not a whole wheel: {error}; it is damaged or cut: fetch it again"
        ) from error
