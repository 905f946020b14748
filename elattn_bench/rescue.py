"""When a run directory goes away under a sweep: what was measured is written beside it, and its user told."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from elattn_bench.units import Bytes

NAMES_TRIED = 100  # sibling names before giving up on a place


@dataclass
class Presence:
    """Whether a run directory is still the one that was opened, its results as they were left.

    Holds the lock file open, so that no new file can get its identity.
    """

    lock: Path
    results: Path
    size: Bytes
    _held: BufferedReader

    @classmethod
    def of(cls, lock: Path, results: Path) -> Presence:
        """The presence of a directory that is locked now."""
        return cls(lock, results, results.stat().st_size, lock.open("rb"))

    def trouble(self) -> str | None:
        """What happened to the directory, or None when all is well."""
        if not self.lock.parent.is_dir():
            return "was deleted"
        if not self._is_our_lock():
            return "was replaced"
        if not self.results.is_file():
            return f"has lost {self.results.name}"
        if (size := self.results.stat().st_size) != self.size:
            return f"holds a {self.results.name} that another program changed ({self.size} -> {size} bytes)"
        return None

    def close(self) -> None:
        """Let go of the lock file."""
        self._held.close()

    def _is_our_lock(self) -> bool:
        try:
            return os.path.samestat(self.lock.stat(), os.fstat(self._held.fileno()))
        except OSError:
            return False


def places(path: Path) -> Iterator[Path]:
    """Where to put the rows of a run that has gone: ``<path>-rescued``, ``-rescued-2``, ..., then in /tmp."""
    for parent in (path.parent, Path(tempfile.gettempdir())):
        for number in itertools.count(1):
            if number > NAMES_TRIED:
                break
            place = parent / f"{path.name}-rescued{'' if number == 1 else f'-{number}'}"
            if not place.exists():
                yield place
