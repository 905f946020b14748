"""What run.json keeps of the nodes, and which machines may complete a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from elattn_bench import control, environment, stats
from elattn_bench.cluster.slots import Slot
from elattn_bench.results import Place
from elattn_bench.roofline import Ceilings

NODES = "nodes"


def record_of(slot: Slot, introduction: Mapping[str, Any]) -> dict[str, Any]:
    """A node's device without cases yet, as run.json holds it."""
    return {
        "host": slot.host,
        "node_id": slot.node_id,
        "device_number": slot.number,
        "device_name": introduction["environment"]["device_name"],
        "environment": introduction["environment"],
        "ceilings": introduction["ceilings"],
        "control": {"visits": [], "drift": None},
        "cases": 0,
    }


def environments(info: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every machine that has measured for the run: that of run.json, then the nodes of a cluster."""
    yield info["environment"]
    for node in info.get(NODES, ()):
        yield node["environment"]


def agreeing(info: Mapping[str, Any], here: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of the machines that have measured for the run one like this; where none is, that of run.json."""
    own: Mapping[str, Any] = info["environment"]
    return next((there for there in environments(info) if not _differing(there, here)), own)


def differing(info: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Why a machine may not complete the run: how it differs from the run's own; empty where it may."""
    return _differing(agreeing(info, here), here)


def place_of(info: Mapping[str, Any], here: Mapping[str, Any]) -> Place | None:
    """Where a machine measures that is like one of the cluster's nodes, not like that of run.json; else None."""
    if not _differing(info["environment"], here):
        return None
    alike = (node for node in info.get(NODES, ()) if not _differing(node["environment"], here))
    node = next(alike, None)
    return Place("", node["device_name"], Ceilings.from_json(node["ceilings"])) if node else None


def _differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return environment.differences(there, here, environment.SAME_MACHINE)


def control_ms(node: Mapping[str, Any]) -> float | None:
    """The control case's median over the node's visits; None where it was never measured."""
    visits: Sequence[Mapping[str, Any]] = node["control"]["visits"]
    medians = [each["latency_ms_p50"] for each in visits if each["status"] == "ok"]
    return stats.summarise(medians).p50 if medians else None


def relative(nodes: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """The control case's time on each node over that on the fastest with the same model of device."""
    times = [control_ms(node) for node in nodes]
    fastest: dict[str, float] = {}
    for node, time in zip(nodes, times, strict=True):
        if time is not None:
            fastest[node["device_name"]] = min(time, fastest.get(node["device_name"], time))
    return [
        None if time is None else time / fastest[node["device_name"]]
        for node, time in zip(nodes, times, strict=True)
    ]


def warning(nodes: Sequence[Mapping[str, Any]]) -> str | None:
    """What a person must know of nodes that should be alike; None while they are within 5 %."""
    ratios = zip(nodes, relative(nodes), strict=True)
    slow = {node["host"]: ratio for node, ratio in ratios if ratio and ratio > 1 + control.LARGEST_DRIFT}
    if not slow:
        return None
    host, ratio = max(slow.items(), key=lambda entry: entry[1])
    others = f", and {len(slow) - 1} more" if len(slow) > 1 else ""
    return (
        f"nodes of one device model differ: on {host} the control case took {ratio - 1:.0%} longer than on the "
        f"fastest{others}. Rows of different nodes differ by as much: compare impls within one host "
        "(compare --where host=NAME), or leave slow nodes out"
    )
