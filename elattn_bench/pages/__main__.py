"""Write what all pages take from the code and from committed runs, in the repository's root. No torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from elattn_bench.pages import attentions, quality, scale
from elattn_bench.pages.blocks import Writer, filled

BLOCKS: Mapping[str, Writer] = {**quality.BLOCKS, **scale.BLOCKS}
"""Name of a block -> what writes it."""

PAGES = ("README.md", "docs/cluster.md", "docs/quality.md", "docs/results/README.md", "docs/scale.md")
"""Where there may be blocks."""


def main() -> int:
    """Write the table of attentions, and the blocks of all pages, anew."""
    lacking = [page for page in PAGES if not Path(page).is_file()]
    if lacking:
        sys.stderr.write(f"{lacking[0]} is not here: run this in the repository's root\n")
        return 1
    Path(attentions.PAGE).write_text(attentions.page(), encoding="utf-8")
    for page in map(Path, PAGES):
        page.write_text(filled(page.read_text(encoding="utf-8"), Path(), BLOCKS), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
