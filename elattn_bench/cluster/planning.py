"""The plan of a sweep over a cluster, made where its devices are: which backend is best is theirs to say."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from elattn_bench import config, device
from elattn_bench.cluster import door
from elattn_bench.cluster.slots import CPU, HOST_RESOURCE, Slot, names_of, slots_of
from elattn_bench.config import GRID_TABLE, Plan
from elattn_bench.errors import UsageError
from elattn_bench.names import check_names
from elattn_bench.units import Seconds

ARRIVAL: Seconds = 5.0  # for nodes that are started along with the sweep to join
_POLL: Seconds = 0.5


def plan_where_the_devices_are(settings: Mapping[str, Any], address: str | None) -> Plan:
    """The plan, its cases of each type of device with the backends that run there.

    Raises:
        UsageError: the cluster lacks a device that is asked for, or an option breaks its rule.
    """
    wanted = settings["device"]
    check_names("device", [wanted], list(device.DEVICES))
    types, deadline = types_of(settings), time.monotonic() + ARRIVAL
    while (lacking := _lacking(wanted, types, slots := _slots())) is not None and time.monotonic() < deadline:
        time.sleep(_POLL)
    if lacking is not None:
        raise UsageError(_what_to_type(lacking, wanted, slots, address))
    plans = {each: _plan(settings, _for_type(each, wanted, slots)) for each in types}
    first = next(iter(plans.values()))
    cases = [case for each, plan in plans.items() for case in plan.cases if case.device_type == each]
    return replace(first, settings=settings, cases=cases)


def types_of(settings: Mapping[str, Any]) -> list[str]:
    """The types of device that the sweep and its grids name; the empty one is any."""
    texts = [settings["device-type"]] if not settings.get(GRID_TABLE) else []
    texts += [grid.get("device-type", settings["device-type"]) for grid in settings.get(GRID_TABLE) or ()]
    words = [[word.strip() for word in text.split(",") if word.strip()] or [""] for text in texts]
    return list(dict.fromkeys(word for each in words for word in each))


def _slots() -> list[Slot]:
    nodes = door.living_nodes()
    names = names_of(nodes, {})
    return slots_of(nodes, names, ("cuda",)) + slots_of(nodes, names, (CPU,))


def _fitting(device_type: str, wanted: str, slots: Sequence[Slot]) -> list[Slot]:
    """The slots for the type; of any type those of the device wanted, GPUs first."""
    kind = CPU if device_type.lower() == CPU else wanted
    if kind == "auto":
        kind = "cuda" if device_type or any(slot.device == "cuda" for slot in slots) else CPU
    return [slot for slot in slots if slot.device == kind and slot.is_a(device_type)]


def _for_type(device_type: str, wanted: str, slots: Sequence[Slot]) -> Slot:
    return _fitting(device_type, wanted, slots)[0]


def _lacking(wanted: str, types: Sequence[str], slots: Sequence[Slot]) -> str | None:
    return next((each for each in types if not _fitting(each, wanted, slots)), None)


def _plan(settings: Mapping[str, Any], slot: Slot) -> Plan:
    if slot.device == CPU:
        return config.make_plan({**settings, "device": CPU})
    plan: Plan = door.plan_on(slot, settings)
    return plan


def _what_to_type(lacking: str, wanted: str, slots: Sequence[Slot], address: str | None) -> str:
    kinds = list(dict.fromkeys(kind for slot in slots for kind in (slot.kinds or (slot.device,))))
    has = f"it has {', '.join(kinds)}" if kinds else "it has none to measure on"
    if lacking and lacking.lower() != CPU:
        return f"--device-type {lacking}: no device of the cluster is one; {has}"
    if wanted == "cuda":
        return f"--device cuda: no node of the cluster has a GPU that Ray knows of; {has}"
    join = f"--address={address}" if address and address != "auto" else "--address=HEAD:6379"
    return (
        f"no node of the cluster offers a device to measure on. On every host that should measure on its CPU, type: "
        f"ray start {join} --resources='{{\"{HOST_RESOURCE}\": 1}}' (on the first: ray start --head "
        f"--resources='{{\"{HOST_RESOURCE}\": 1}}'); GPUs Ray finds by itself"
    )
