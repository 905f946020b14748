"""The nodes that a sweep over a cluster was measured on, and how their speeds compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elattn_bench.cluster import records
from elattn_bench.tables.listings import NO_NUMBER
from elattn_bench.tables.render import Column, Report, Table
from elattn_bench.units import format_ms

NOTE = (
    "Control: torch's own softmax at fixed sizes, the median over a node's visits; beside it the time over that of the "
    "fastest node with the same device in that session."
)


def nodes_report(nodes: Sequence[Mapping[str, Any]]) -> Report:
    """A line per device that measured.

    Args:
        nodes: as run.json holds them.
    """
    columns = [
        Column("host"), Column("device"), Column("cases", "right"), Column("control", "right"),
        Column("to fastest", "right"), Column("drift", "right"),
    ]  # fmt: skip
    several = len(records.sessions(nodes)) > 1
    if several:  # a host that measured twice is no other host
        columns.insert(0, Column("session", "right"))
    rows = [
        [
            *([str(node.get("session", 1))] if several else []),
            _name(node, nodes), node["device_name"], str(node["cases"]), _ms(records.control_ms(node)),
            NO_NUMBER if ratio is None else f"{ratio:.2f}x", _share(node["control"]["drift"]),
        ]
        for node, ratio in zip(nodes, records.relative(nodes), strict=True)
    ]  # fmt: skip
    return Report([Table("Nodes", columns, rows)] if rows else [], [dict(node) for node in nodes], [NOTE])


def _name(node: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> str:
    several = {each["device_number"] for each in nodes if each["node_id"] == node["node_id"]}
    return f"{node['host']}:{node['device_number']}" if len(several) > 1 else str(node["host"])


def _ms(value: float | None) -> str:
    return NO_NUMBER if value is None else format_ms(value)


def _share(value: float | None) -> str:
    return NO_NUMBER if value is None else f"{value:.1%}"
