"""What the attention takes of a transformer block, as tables and records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from elattn_bench.analysis import Facet, Ratio, Share
from elattn_bench.results import Row
from elattn_bench.tables.by_length import latency_cell
from elattn_bench.tables.listings import NO_NUMBER, interval_record
from elattn_bench.tables.render import Column, Table
from elattn_bench.units import format_length

SHARE_NOTE = (
    "Share of a block: latency of the attention alone (op) and with its projections (layer) over that of the "
    "block around it, each measured for itself."
)

_COLUMNS = (
    Column("impl"), Column("L", "right"), Column("op", "right"), Column("layer", "right"),
    Column("block", "right"), Column("op share", "right"), Column("layer share", "right"),
)  # fmt: skip


def share_tables(shares: Sequence[Share]) -> list[Table]:
    """One table per facet of blocks: the latencies at each level, and what they are of the block's."""
    facets: defaultdict[Facet, list[Share]] = defaultdict(list)
    for share in shares:
        facets[Facet.of(share.block)].append(share)
    return [
        Table(
            f"Share of a block: {facet.text.removeprefix('block, ')}", _COLUMNS, list(map(_cells, found)), 2
        )
        for facet, found in facets.items()
    ]


def _cells(share: Share) -> list[str]:
    latencies = [_latency(row) for row in (share.op, share.layer, share.block)]
    ratios = [_percent(ratio) for ratio in (share.op_share, share.layer_share)]
    return [share.block.label, format_length(share.block.seq_len), *latencies, *ratios]


def _latency(row: Row | None) -> str:
    return NO_NUMBER if row is None else latency_cell(row)


def _percent(ratio: Ratio | None) -> str:
    """``62 %``; below 10 % with a decimal."""
    if ratio is None:
        return NO_NUMBER
    return f"{100 * ratio.value:.{0 if ratio.value >= 0.0995 else 1}f} %"


def share_records(shares: Sequence[Share]) -> list[dict[str, Any]]:
    """The same for programs, with the intervals."""
    return [
        {
            **Facet.of(share.block)._asdict(), "impl": share.block.label, "seq_len": share.block.seq_len,
            "op_ms": share.op and share.op.latency_ms_p50, "layer_ms": share.layer and share.layer.latency_ms_p50,
            "block_ms": share.block.latency_ms_p50,
            **interval_record("op_share", share.op_share), **interval_record("layer_share", share.layer_share),
        }
        for share in shares
    ]  # fmt: skip
