"""The only door to Ray: joining a cluster, quietly, and a crew whose processes are Ray's actors."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from elattn_bench import __version__
from elattn_bench.cluster import quiet
from elattn_bench.cluster.aside import Aside
from elattn_bench.cluster.crew import Lost, Refused, Report
from elattn_bench.cluster.node import Node, Orders
from elattn_bench.cluster.slots import HOST_RESOURCE, Slot, names_of, slots_of
from elattn_bench.errors import ElattnError, RunDirError, UsageError
from elattn_bench.units import Bytes, Seconds, format_duration

HEARING: Seconds = 5.0  # for a cluster's head to take up a connection; more, and nobody listens there
PLANNING: Seconds = 180.0  # for a node to start a process and plan there: seconds, unless its device is taken
HEAD_PATIENCE: Seconds = 30.0  # for its head's answer; after 60 s without it Ray ends our process, wordless
LEAVING: Seconds = 3.0  # for a process of ours to be ended; where that fails, Ray ends it when it misses us
OWN_STORE: Bytes = 100 * 2**20  # of a cluster of this machine alone: cases and outcomes are kilobytes
_TOKEN_ADVICE = (
    "; if the cluster wants a token (ray start --head does once ~/.ray/auth_token exists), have the same file here and "
    "type: export RAY_AUTH_MODE=token"
)


@contextmanager
def joined(address: str | None) -> Iterator[None]:
    """Within, this process is part of the Ray cluster; without an address, of one of this machine alone.

    Nothing written to sys.stdout within is seen: data does not belong there.

    Raises:
        UsageError: Ray is not installed, nobody answers there, or the versions do not match.
    """
    # A thread of Ray prints what happens to nodes to sys.stdout, and no setting keeps it from that.
    with (
        quiet.variables(quiet.QUIET | ({} if address else quiet.of_own_cluster())),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        ray = _ray()
        _check(address)
        _join(ray, address)
        try:
            yield
        finally:
            ray.shutdown()  # of a head that is dead too: without it the process ends with a segmentation fault


def _join(ray: Any, address: str | None) -> None:
    try:
        with quiet.unheard():
            _init(ray, address)
    except (ConnectionError, ValueError, RuntimeError, OSError, ray.exceptions.RayError) as error:
        # Ray does not say why a head that is there lets nobody in.
        advice = (
            _TOKEN_ADVICE if isinstance(error, (ConnectionError, ray.exceptions.AuthenticationError)) else ""
        )
        raise UsageError(f"--address {address or '(none)'}: {_first_line(error)}{advice}") from None


def _init(ray: Any, address: str | None) -> None:
    silent: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address:
        ray.init(address=address, **silent)
        return
    own = {"num_cpus": 1, "resources": {HOST_RESOURCE: 1}, "object_store_memory": OWN_STORE}
    ray.init(address="local", include_dashboard=False, **own, **silent)


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise UsageError(
            "--launcher ray: Ray is not installed; type: pip install 'elattn-bench[ray]'"
        ) from None
    return ray


def _check(address: str | None) -> None:
    """Refuse what Ray would wait for, or what cannot work, before Ray is asked."""
    if not address or address in ("auto", "local"):
        return
    if "://" in address:
        raise UsageError(
            f"--address {address}: a Ray Client cannot start a sweep; run it on a node of the cluster with "
            "--address auto, or hand it in: ray job submit --address http://HEAD:8265 -- elattn-bench sweep "
            "--launcher ray --address auto ..."
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"--address {address}: is no address of a Ray cluster; write host:port, or auto")
    try:
        socket.create_connection((host, int(port)), HEARING).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"--address {address}: no Ray cluster answers there ({error}); start one with: ray start --head"
        ) from None


def living_nodes() -> list[dict[str, Any]]:
    """The nodes that are alive, as Ray records them."""
    return [node for node in _ray().nodes() if node["Alive"]]


def plan_on(slot: Slot, settings: Mapping[str, Any]) -> Any:
    """The plan of these settings as the slot's node makes it.

    Raises:
        UsageError: an option breaks its rule.
        RunDirError: the node cannot make it.
    """
    ray = _ray()
    actor = _actor(slot, None)
    try:
        return ray.get(actor.plan.remote(dict(settings), slot.device), timeout=PLANNING)
    except ray.exceptions.GetTimeoutError:
        raise RunDirError(
            f"{slot.name}: did not take up the plan within {format_duration(PLANNING)}; if another job holds its "
            "device (ray status), end that or wait for it, then start again"
        ) from None
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ElattnError):
            raise type(error.cause)(f"{slot.name}: {error.cause}") from None
        raise RunDirError(f"{slot.name}: cannot plan the sweep: {_first_line(error.cause)}") from None
    except ray.exceptions.RayError as error:
        raise RunDirError(f"{slot.name}: cannot plan the sweep: {_first_line(error)}; start again") from None
    finally:
        ray.kill(actor)


class RayCrew:
    """A crew of Ray's actors; leaving its context ends them all.

    Args:
        devices: kinds of device to use: ``cpu``, ``cuda``.
        orders: what to tell a node, by the kind of its device.
        check: called around every wait; raises what should end it.
    """

    def __init__(
        self, devices: Iterable[str], orders: Mapping[str, Orders], check: Callable[[], None] = lambda: None
    ) -> None:
        self._aside = Aside(HEAD_PATIENCE, check)
        self._devices = set(devices)
        self._orders = orders
        self._names: dict[str, str] = {}
        self._actors: dict[Slot, Any] = {}
        self._calls: dict[Any, Slot] = {}
        self._ready: dict[Slot, Any] = {}

    def __enter__(self) -> RayCrew:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._aside.is_silent:
            return
        self._aside = Aside(LEAVING)
        for slot in list(self._actors):
            self.dismiss(slot)

    def slots(self) -> Sequence[Slot]:
        """The devices that the cluster has now."""
        nodes = self._aside(living_nodes)
        self._names |= names_of(
            nodes, {node_id: name for node_id, name in self._names.items() if _has(nodes, node_id)}
        )
        return slots_of(nodes, self._names, self._devices)

    def hire(self, slot: Slot) -> None:
        """Start the slot's actor and ask who it is."""
        self._actors[slot] = actor = self._aside(_actor, slot, self._orders[slot.device])
        self._ready[slot] = self._aside(actor.__ray_ready__.remote)
        self.send(slot, "introduce")

    def has_device(self, slot: Slot) -> bool:
        """Whether the slot's actor runs: Ray starts it once nobody else holds the device."""
        return bool(self._aside(lambda: _ray().wait([self._ready[slot]], timeout=0))[0])

    def send(self, slot: Slot, task: str, *arguments: Any) -> None:
        """Call a method of the slot's actor."""
        self._calls[self._aside(getattr(self._actors[slot], task).remote, *arguments)] = slot

    def dismiss(self, slot: Slot) -> None:
        """End the slot's actor; its call, if there is one, is forgotten."""
        self._calls = {call: of for call, of in self._calls.items() if of != slot}
        with contextlib.suppress(Exception):  # it may be dead, and so may Ray
            self._aside(_ray().kill, self._actors.pop(slot))

    def wait(self, timeout: Seconds) -> Sequence[Report]:
        """What has come back within so many seconds."""
        found = self._aside(_results, list(self._calls), timeout)
        return [Report(self._calls.pop(call), result) for call, result in found]


def _actor(slot: Slot, orders: Orders | None) -> Any:
    ray = _ray()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    holds = {"num_gpus": 1} if slot.device == "cuda" else {"resources": {HOST_RESOURCE: 1}}
    pinned = NodeAffinitySchedulingStrategy(node_id=slot.node_id, soft=False)
    # Never again by itself: a case that Ray repeated behind our back would be there twice.
    remote = ray.remote(Node).options(
        num_cpus=0, max_restarts=0, max_task_retries=0, scheduling_strategy=pinned, **holds
    )
    return remote.remote(__version__, orders)


def _results(calls: Sequence[Any], timeout: Seconds) -> list[tuple[Any, Any]]:
    """A call that has ended, with its result; none after so many seconds without."""
    if not calls:
        time.sleep(timeout)
        return []
    ready, _ = _ray().wait(list(calls), num_returns=1, timeout=timeout)
    return [(call, _result(call)) for call in ready]


def _result(call: Any) -> Any:
    ray = _ray()
    try:
        return ray.get(call)
    except ray.exceptions.RayTaskError as error:
        return Refused(_first_line(error.cause))
    except ray.exceptions.RayError as error:
        # Ray has no error of its own for a class that the node cannot import.
        if "ModuleNotFoundError" in str(error):
            return Refused(_first_line(error))
        return Lost(_why_lost(error))


def _why_lost(error: Exception) -> str:
    """Ray's error in words: its own begin with the ids of actors and the text of connections."""
    known = {
        "ActorUnavailableError": "the connection to it broke",
        "ActorDiedError": "its process died",
        "NodeDiedError": "its node died",
        "OutOfMemoryError": "Ray ended its process for want of memory; its node wants RAY_memory_monitor_refresh_ms=0",
    }
    return known.get(type(error).__name__) or _first_line(error)


def _first_line(error: BaseException) -> str:
    said = getattr(error, "message", "") or str(
        error
    )  # an AuthenticationError adds a paragraph to its message
    return next(iter(str(said).strip().splitlines()), type(error).__name__).rstrip(".")


def _has(nodes: Iterable[Mapping[str, Any]], node_id: str) -> bool:
    return any(node["NodeID"] == node_id for node in nodes)
