"""One writer at a time: the lock of a run directory."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from elattn_bench.disk import disk_errors
from elattn_bench.errors import RunDirError

LOCK = ".lock"


def acquire(path: Path) -> FileLock:
    """The lock of the directory, which exists.

    Raises:
        RunDirError: another process holds it, or the disk refuses.
    """
    lock = FileLock(path / LOCK)
    with disk_errors(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise in_use(path) from None
    return lock


def is_locked(path: Path) -> bool:
    """Whether another process writes to the directory."""
    try:
        acquire(path).release()
    except RunDirError:
        return True
    return False


def in_use(path: Path) -> RunDirError:
    """The error of a directory that another process writes to."""
    return RunDirError(
        f"{path}: another run is writing to it; wait for it, or choose another directory with -o"
    )
