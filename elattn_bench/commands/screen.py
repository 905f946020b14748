"""What all commands share: reading a run, what people type, the two streams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from elattn_bench.errors import UsageError

if TYPE_CHECKING:
    from elattn_bench.rundir import Run

COMPARISON_FAILED = 3  # exit codes of DESIGN: what was asked for was done, and this was found
CASES_FAILED = 4


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


def failure_kinds(fail_on: str | None) -> list[str]:
    """What ``--fail-on`` names: what ends the command with exit code 3.

    Raises:
        UsageError: a name is unknown; before anything is shown.
    """
    from elattn_bench.names import check_names
    from elattn_bench.verdicts.runs import FAILURES

    kinds = names(fail_on) if fail_on is not None else []
    check_names("fail-on", kinds, FAILURES)
    return kinds


def end(failures: Sequence[tuple[str, str]]) -> None:
    """Say what was found, of each kind asked for, and end with its exit code if there is any."""
    for kind, failure in failures:
        say(f"--fail-on {kind}: {failure}")
    if failures:
        raise typer.Exit(COMPARISON_FAILED)
