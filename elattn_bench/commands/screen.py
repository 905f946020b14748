"""What all commands share: reading a run, what people type, the two streams."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from elattn_bench.errors import UsageError

if TYPE_CHECKING:
    from elattn_bench.rundir import Run


def read(path: Path) -> Run:
    """The run, its warnings said."""
    from elattn_bench.rundir import read_run

    run = read_run(path)
    for warning in run.warnings:
        say(f"warning: {warning}")
    return run


def names(text: str) -> list[str]:
    """The names between the commas.

    Raises:
        UsageError: there are none.
    """
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise UsageError(f"'{text}' names nothing; give at least one name")
    return found


def threshold(text: str) -> float:
    """``5%`` or ``0.05`` as a share.

    Raises:
        UsageError: it is neither.
    """
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / 100 if text.strip().endswith("%") else float(number)
    except ValueError:
        share = -1.0
    if not 0 <= share < 10:
        raise UsageError(f"--threshold {text}: is not a share; write 5% or 0.05")
    return share


def stdout() -> Console:
    """Where data goes."""
    return Console(soft_wrap=False)


def stderr() -> Console:
    """Where everything else goes."""
    return Console(stderr=True)


def say(sentence: str) -> None:
    """One sentence to the user, whatever it holds."""
    stderr().print(sentence, highlight=False, soft_wrap=True, markup=False)
