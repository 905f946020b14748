"""Writing so that a disk which refuses leaves no half line and no traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType

from elattn_bench.errors import RunDirError


class disk_errors:  # noqa: N801 - reads as a statement at its use
    """Turn what the disk refuses into a RunDirError with advice."""

    def __init__(self, path: Path, advice: str = "choose another directory with -o") -> None:
        self.path = path
        self.advice = advice

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            what = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
            raise RunDirError(f"{self.path}: cannot be written: {what}; {self.advice}") from None


def replace_whole(target: Path, scratch: Path, text: str) -> int:
    """Replace the file by the text in one step, synced, and return its size; a crash leaves the old or the new one.

    Raises:
        OSError: the disk refuses.
    """
    scratch.unlink(missing_ok=True)
    try:
        append_whole(scratch, text)
        scratch.replace(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    return target.stat().st_size


def append_whole(target: Path, text: str) -> int:
    """Append the text, synced, and return the file's size; whatever interrupts it, all of it or nothing.

    Raises:
        OSError: the disk refuses.
    """
    # Unbuffered: a buffer would write its rest when the file is closed, after the half line was cut off.
    with target.open("ab", buffering=0) as stream:
        size = stream.tell()
        left = memoryview(text.encode("utf-8", errors="backslashreplace"))
        try:
            while left:
                left = left[stream.write(left) :]
            os.fsync(stream.fileno())
        except BaseException:
            stream.truncate(size)
            raise
        return stream.tell()


def cut_half_line(path: Path) -> bool:
    """Cut off a last line that a crash left without its end; whether there was one.

    Raises:
        OSError: the disk refuses.
    """
    if not path.is_file():
        return False
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    return whole < len(content)
