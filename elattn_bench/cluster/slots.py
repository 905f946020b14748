"""What a cluster has to measure on: its devices, as the nodes' records name them. No Ray, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elattn_bench.cases import Case

HOST_RESOURCE = "elattn_host"
"""Ray's custom resource of a node that measures on its CPU: one of it, so that cases never share the host."""

CPU = "cpu"  # the --device-type that means nodes' CPUs, whatever their models are called
_ACCELERATOR_RESOURCE = (
    "accelerator_type:"  # Ray's name for the kind of a node's GPUs, with the kind behind it
)
_ACCELERATOR_LABEL = "ray.io/accelerator-type"
_ID_DIGITS = 6  # of a node's id, where several nodes have one hostname


@dataclass(frozen=True, slots=True)
class Slot:
    """A device of a node: it measures one case at a time.

    number: which of the node's devices, from 0; which GPU that is Ray decides.
    host: the machine's name; where several nodes run on one machine, with digits of the node's id.
    kinds: what Ray says that the device is, for ``--device-type``: ``H100``.
    """

    node_id: str
    number: int
    host: str
    device: str
    kinds: tuple[str, ...] = ()
    of_several: bool = False

    @property
    def name(self) -> str:
        """The host, with the number where it has several devices."""
        return f"{self.host}:{self.number}" if self.of_several else self.host

    def fits(self, case: Case, device_name: str = "") -> bool:
        """Whether the case may be measured here.

        Args:
            device_name: the device's model, once it is known: as good as a kind.
        """
        return case.device == self.device and self.is_a(case.device_type, device_name)

    def is_a(self, device_type: str, device_name: str = "") -> bool:
        """Whether the device is of that type; of no type every device is."""
        wanted = device_type.lower()
        if wanted == CPU:
            return self.device == CPU
        return any(wanted in kind.lower() for kind in (*self.kinds, device_name))


def names_of(nodes: Iterable[Mapping[str, Any]], known: Mapping[str, str]) -> dict[str, str]:
    """Names of the nodes by their ids; a hostname that another living node has already gets digits of the id.

    Args:
        nodes: the living ones, as ``ray.nodes()`` gives them.
        known: names given before, which stay.
    """
    names: dict[str, str] = {}
    nodes = list(nodes)
    for node in sorted(nodes, key=lambda each: each["NodeID"] not in known):
        node_id, host = node["NodeID"], node["NodeManagerHostname"]
        free = host not in names.values()
        names[node_id] = known.get(node_id) or (host if free else f"{host}#{node_id[:_ID_DIGITS]}")
    return names


def slots_of(
    nodes: Sequence[Mapping[str, Any]], names: Mapping[str, str], devices: Iterable[str]
) -> list[Slot]:
    """The devices of these kinds (``cpu``, ``cuda``) that the nodes have.

    A node whose GPUs measure does not measure on its CPU as well: either would disturb the other.
    """
    wanted, found = set(devices), []
    for node in nodes:
        resources = node.get("Resources", {})
        gpus, hosts = int(resources.get("GPU", 0)), int(resources.get(HOST_RESOURCE, 0) >= 1)
        device, count = ("cuda", gpus) if gpus and "cuda" in wanted else (CPU, hosts)
        if device not in wanted:
            continue
        kinds = _kinds(node) if device == "cuda" else ()
        name = names[node["NodeID"]]
        found += [Slot(node["NodeID"], n, name, device, kinds, count > 1) for n in range(count)]
    return found


def _kinds(node: Mapping[str, Any]) -> tuple[str, ...]:
    resources, label = node.get("Resources", {}), (node.get("Labels") or {}).get(_ACCELERATOR_LABEL)
    named = [
        name.removeprefix(_ACCELERATOR_RESOURCE)
        for name in resources
        if name.startswith(_ACCELERATOR_RESOURCE)
    ]
    return tuple(dict.fromkeys([*named, *([label] if label else [])]))
