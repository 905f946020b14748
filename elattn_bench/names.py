"""Names that people type: refuse the unknown, list the known, suggest the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from elattn_bench.errors import UsageError


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like the one given, if any does."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def check_names(option: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Refuse names that an option does not know.

    Raises:
        UsageError: a name is unknown; the message lists the known and the nearest.
    """
    for name in names:
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean '{near}'?" if near else ""
            raise UsageError(f"--{option} {name}: '{name}' is not one of {', '.join(known)}{hint}")
