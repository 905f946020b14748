"""The directory in which ranks on one machine find each other, and what killed sweeps have left of theirs. No torch."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from elattn_bench.locking import LOCK

PREFIX = "elattn-ranks-"
NEW = "elattn-new-ranks-"  # not locked yet


@contextmanager
def meeting_place() -> Iterator[Path]:
    """An empty directory of this machine's own; gone afterwards, or with the next one's start after ``kill -9``."""
    directory, lock = _locked()
    try:
        _remove_left_behind(directory)
        yield directory
    finally:
        lock.release()
        shutil.rmtree(directory, ignore_errors=True)


def _locked() -> tuple[Path, FileLock]:
    # It gets its name once it is locked: another sweep that starts now would take it for left behind.
    new = Path(tempfile.mkdtemp(prefix=NEW))
    lock = FileLock(new / LOCK)
    lock.acquire()
    return new.rename(new.with_name(PREFIX + new.name.removeprefix(NEW))), lock


def _remove_left_behind(own: Path) -> None:
    """Remove those of the same user whose sweep has gone: the system let go of its lock."""
    for other in own.parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, not ours, or somebody else removes it too
            if other == own or other.stat().st_uid != own.stat().st_uid or not (other / LOCK).is_file():
                continue
            with FileLock(other / LOCK, timeout=0):
                shutil.rmtree(other)
