"""The generated blocks on what lies beyond one machine: what committed runs say of ranks, nodes and projections."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from elattn_bench.cluster.records import NODES
from elattn_bench.pages.blocks import Writer, quoted, titled
from elattn_bench.projection.model import Projected, project
from elattn_bench.rundir import read_info, read_run
from elattn_bench.tables import projection, ranks
from elattn_bench.tables.nodes import nodes_report
from elattn_bench.units import KIBI
from elattn_bench.verdicts import ranks as verdicts

TOKENS = (KIBI**2, KIBI**3)
RANKS = (8, 64, 512)
"""What the projections of the pages are asked for: ``--ranks 8,64,512 --tokens 1M,1G``."""


def _sentences(run: Path) -> str:
    """What ``compare`` says of ranks."""
    rows = read_run(run).rows
    return quoted(ranks.sentences(verdicts.strong(rows), verdicts.received(rows)))


def _strong(run: Path) -> str:
    """The tables of strong scaling that ``compare`` prints."""
    rows = read_run(run).rows
    return "\n\n".join(map(titled, ranks.ranks_tables(rows, verdicts.strong(rows))))


def _weak(run: Path) -> str:
    """The tables of weak scaling that ``compare`` prints."""
    return "\n\n".join(map(titled, ranks.weak_tables(verdicts.weak(read_run(run).rows))))


def _checked(run: Path) -> str:
    """How far the model is from the run's own rows, and the links that it is made of."""
    found = _projected(run)
    tables = [table for table in projection.projection_report(found).tables if "Projected" not in table.title]
    return "\n\n".join([*map(titled, tables), projection.checked_range(found)])


def _projections(run: Path) -> str:
    """The tables of projections that ``project`` prints."""
    tables = projection.projection_report(_projected(run)).tables
    return "\n\n".join(titled(table) for table in tables if "Projected" in table.title)


def _projected(run: Path) -> Projected:
    return project(read_run(run), TOKENS, RANKS)


def _nodes(run: Path) -> str:
    """The table of nodes that a sweep over a cluster ends with."""
    return "\n\n".join(map(titled, nodes_report(read_info(run)[NODES]).tables))


BLOCKS: Mapping[str, Writer] = {
    "over ranks": _sentences, "strong scaling": _strong, "weak scaling": _weak, "model checked": _checked,
    "projected": _projections, "nodes": _nodes,
}  # fmt: skip
"""Name of a block -> what writes it."""
