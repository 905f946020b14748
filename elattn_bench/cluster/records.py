"""What run.json keeps of the nodes, and which machines may complete a run."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from elattn_bench import control, environment
from elattn_bench.cluster.slots import Slot
from elattn_bench.results import Place
from elattn_bench.roofline import Ceilings

NODES = "nodes"


def record_of(slot: Slot, introduction: Mapping[str, Any]) -> dict[str, Any]:
    """A node's device without cases yet, as run.json holds it.

    session: which of the run's sweeps over a cluster, from 1; ``begin_session`` knows.
    """
    return {
        "session": 1,
        "host": slot.host,
        "node_id": slot.node_id,
        "device_number": slot.number,
        "device_name": introduction["environment"]["device_name"],
        "environment": introduction["environment"],
        "ceilings": introduction["ceilings"],
        "control": {"visits": [], "drift": None},
        "cases": 0,
    }


def sessions(nodes: Sequence[Mapping[str, Any]]) -> list[int]:
    """The run's sweeps over a cluster that have nodes, in order; runs of old had one."""
    return sorted({node.get("session", 1) for node in nodes})


def of_session(nodes: Sequence[dict[str, Any]], session: int) -> list[dict[str, Any]]:
    """The devices that measured in it."""
    return [node for node in nodes if node.get("session", 1) == session]


def begin_session(info: Mapping[str, Any], hosts: Iterable[str]) -> int:
    """The number of a new session; the nodes of earlier ones get the cases that a killed sweep could not note.

    Args:
        hosts: of all rows of the run.
    """
    nodes, measured = info.get(NODES, ()), Counter(hosts)
    # Of a host with several devices the last one: a row does not name the device's number.
    last = {node["host"]: node for node in nodes}
    for host, node in last.items():
        node["cases"] += measured[host] - sum(each["cases"] for each in nodes if each["host"] == host)
    return max(sessions(nodes), default=0) + 1


def entered(info: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """The device's entry in run.json: a new one, or its own of this session, whose process has died since."""
    same = ("session", "host", "device_number", "device_name")
    nodes: list[dict[str, Any]] = info.setdefault(NODES, [])
    for node in nodes:
        if all(node.get(key) == record[key] for key in same):
            return node
    nodes.append(record)
    return record


def unlike(first: Mapping[str, Any], other: Mapping[str, Any], where: tuple[str, str]) -> str | None:
    """How a node's set-up differs from that of the first with such a device, and how to mend it; None if it does not.

    Args:
        where: what to call the two: ``on node-a``.
    """
    if not (differing := environment.differences(first, other, environment.SAME_MACHINE, where)):
        return None
    told = "; ".join(differing)
    return f"its rows would not compare with those of the first node that came ({told}); {mending(differing)}"


def mending(differing: Sequence[str], *, resumes: bool = False) -> str:
    """What makes machines alike that differ so."""
    if all(each.startswith("threads:") for each in differing):
        by_flag = "" if resumes else "--threads N sets the same on all, or "  # a resumed run keeps its flags
        return f"{by_flag}start all nodes with the same OMP_NUM_THREADS"
    return "install the same there and allow it the same CPUs, or sweep such nodes in a run of their own"


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
    return statistics.median(medians) if medians else None


def relative(nodes: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """The control case's time on each node over that on the fastest with the same model of device in its session."""
    times = [control_ms(node) for node in nodes]
    fastest: dict[tuple[int, str], float] = {}
    for node, time in zip(nodes, times, strict=True):
        if time is not None:
            fastest[_peers(node)] = min(time, fastest.get(_peers(node), time))
    return [
        None if time is None else time / fastest[_peers(node)]
        for node, time in zip(nodes, times, strict=True)
    ]


def _peers(node: Mapping[str, Any]) -> tuple[int, str]:
    return node.get("session", 1), node["device_name"]


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
