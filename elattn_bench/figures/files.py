"""Figures as files: the same run gives the same bytes, in every process and on every day."""

from __future__ import annotations

import hashlib
import io
import re
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
SUBSET = re.compile(rb"/[A-Z]{6}\+(?=DejaVuSans)")


def save(figure: Figure, path: Path, look: Look = README) -> None:
    """Write the figure; the suffix is the format.

    Raises:
        RunDirError: the disk refuses.
    """
    content = _bytes_of(figure, path.suffix[1:], look)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise RunDirError(
            f"{path}: cannot be written ({error.strerror or error}); choose another directory with -o"
        ) from None


def _bytes_of(figure: Figure, suffix: str, look: Look) -> bytes:
    buffer = io.BytesIO()
    with house_style(look):
        figure.savefig(buffer, format=suffix, metadata=_METADATA[suffix])
    content = buffer.getvalue()
    return _with_lasting_names(content) if suffix == "pdf" else content


def _with_lasting_names(pdf: bytes) -> bytes:
    """The PDF with the names of its font subsets taken from its content.

    matplotlib takes the six letters before a subset's name from ``hash`` of strings, which differs from
    process to process. Letters of a digest are as long, so that no offset in the file moves, and two
    figures in one document have different ones, as ISO 32000-1, 9.6.4, wants it.
    """
    digest = hashlib.sha256(SUBSET.sub(b"", pdf)).digest()
    found = list(dict.fromkeys(SUBSET.findall(pdf)))
    names = {}
    for number, name in enumerate(found):
        letters = hashlib.sha256(digest + bytes([number])).digest()[:6]
        names[name] = b"/" + bytes(65 + letter % 26 for letter in letters) + b"+"
    return SUBSET.sub(lambda match: names[match[0]], pdf)
