"""Figures as files: the same run gives the same bytes, in every process and on every day."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from elattn_bench.errors import RunDirError
from elattn_bench.figures.look import README, Look
from elattn_bench.figures.style import house_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")

# No dates and no versions.
_METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def save(figure: Figure, path: Path, look: Look = README) -> None:
    """Write the figure; the suffix is the format.

    Raises:
        RunDirError: the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with house_style(look):
            figure.savefig(path, metadata=_METADATA[path.suffix[1:]])
    except OSError as error:
        raise RunDirError(
            f"{path}: cannot be written ({error.strerror or error}); choose another directory with -o"
        ) from None
