"""Loaders of data sets: numpy arrays from files that the user has. Nothing is downloaded.

Each module has two functions with the same arguments:
``locate(folders, **arguments)`` says quickly which files there are, or raises ``MissingData`` which names the package
or file that gives them; ``load(folders, **arguments)`` checks their sums and returns a ``DataSet``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elattn_bench.quality.data.nouns import DataSet
    from elattn_bench.quality.nouns import Task


def locate(task: Task, folders: Sequence[Path]) -> list[Path]:
    """The files of the task's data; none of a task that makes its own.

    Raises:
        MissingData: they are not here; the message names the package or file that gives them.
    """
    found: list[Path] = import_module(f"{__name__}.{task.loader}").locate(folders, **task.arguments)
    return found


def load(task: Task, folders: Sequence[Path]) -> DataSet:
    """The task's data, checked.

    Raises:
        MissingData: it is not here, or not what it should be.
    """
    loaded: DataSet = import_module(f"{__name__}.{task.loader}").load(folders, **task.arguments)
    return loaded
