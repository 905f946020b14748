"""An error's traceback as the author of a plug-in wants to see it: their frames, not ours. No torch."""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from traceback import FrameSummary, StackSummary, TracebackException

OURS = ("attention_impls", "elattn_bench")
CALLERS = ("torch",)
"""Packages that stand between us and the user, and below the user where a call of theirs fails."""

_INSTALLED = ("site-packages", "dist-packages")


def of_user(error: BaseException) -> str | None:
    """The traceback without our frames, nor those of torch and of Python that lead to the user's.

    What stands below the user's last frame stays: it says which call of theirs failed. None where no frame
    is the user's: the error is ours then, and the whole traceback is wanted.
    """
    told = TracebackException.from_exception(error)  # survives an error that cannot be printed
    if place(error) is None:
        return None
    for each in _chain(told):
        each.stack = StackSummary.from_list(_users_part(each.stack))
    return "".join(told.format()).rstrip()


def in_one_line(error: BaseException) -> str:
    """Its type and the first line of what it says."""
    said = next(iter(str(TracebackException.from_exception(error)).splitlines()), "")
    return f"{type(error).__name__}: {said}".rstrip(": ")


def place(error: BaseException) -> str | None:
    """Where the user's own code stood, ``my_module.py:12 in attention``; None where it did not."""
    if isinstance(error, SyntaxError) and error.filename and _is_users(error.filename):
        return f"{Path(error.filename).name}:{error.lineno}"
    stack = traceback.extract_tb(error.__traceback__)
    last = next((frame for frame in reversed(stack) if _is_users(frame.filename)), None)
    return f"{Path(last.filename).name}:{last.lineno} in {last.name}" if last else None


def _chain(told: TracebackException) -> Iterator[TracebackException]:
    """The error, and those that it came from."""
    pending: list[TracebackException | None] = [told]
    while pending:
        if (each := pending.pop()) is not None:
            yield each
            pending += [each.__cause__, each.__context__]


def _users_part(stack: Sequence[FrameSummary]) -> list[FrameSummary]:
    users = [number for number, frame in enumerate(stack) if _is_users(frame.filename)]
    last = users[-1] if users else -1
    return [
        frame
        for number, frame in enumerate(stack)
        if number in users or (number > last and not _is_machinery(frame.filename))
    ]


def _is_users(file: str) -> bool:
    """Whether the file is neither ours nor torch's nor Python's."""
    return not (file.startswith("<frozen") or _is_within(file, (*OURS, *CALLERS)) or _is_pythons(file))


def _is_machinery(file: str) -> bool:
    """Whether the file is ours, or Python's for importing."""
    return file.startswith("<frozen") or _is_within(file, (*OURS, "importlib"))


def _is_within(file: str, packages: Sequence[str]) -> bool:
    homes = [getattr(sys.modules.get(package), "__file__", None) for package in packages]
    return any(home and file.startswith(str(Path(home).parent) + os.sep) for home in homes)


def _is_pythons(file: str) -> bool:
    path = Path(file)
    return path.is_relative_to(sysconfig.get_path("stdlib")) and not set(_INSTALLED) & set(path.parts)
