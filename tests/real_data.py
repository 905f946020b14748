"""Where the tests look for real data, which is never part of the project.

``ELATTN_BENCH_DATA`` names folders, divided as ``PATH`` is; what is not there skips its tests, with what would give it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from elattn_bench.errors import MissingData

FOLDERS = tuple(Path(name) for name in os.environ.get("ELATTN_BENCH_DATA", "").split(os.pathsep) if name)


def folders_or_skip(locate: Callable[[Sequence[Path]], list[Path]]) -> Sequence[Path]:
    """The folders, where the loader finds its files in them."""
    try:
        locate(FOLDERS)
    except MissingData as error:
        pytest.skip(f"{error} (folders for tests: ELATTN_BENCH_DATA)")
    return FOLDERS
