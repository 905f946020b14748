"""On a node: an actor that holds one device for the whole sweep, with our own worker inside. No Ray, no torch."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from elattn_bench import __version__, config, environment
from elattn_bench.cases import Case
from elattn_bench.results import Outcome, Skipped
from elattn_bench.roofline import CEILINGS_TIMEOUT
from elattn_bench.stats import BUDGETS
from elattn_bench.units import Seconds
from elattn_bench.worker import Settings, Worker


@dataclass(frozen=True, slots=True)
class Orders:
    """What a node needs to know of the sweep; plain values, which any version can read.

    settings: the sweep's options as text, so that ``80%`` is of the memory of the node.
    """

    settings: Mapping[str, Any]
    device: str
    timeout: Seconds
    threads: int | None
    seed: int
    input_std: float


class Node:
    """The actor: what the driver calls on a node. One call at a time."""

    def __init__(self, version: str, orders: Orders | None = None) -> None:
        _be_as_if_started_by_hand()
        self._version = version
        self._orders = orders
        self._worker: Worker | None = None
        self._limit = 0

    def plan(self, settings: Mapping[str, Any], device: str) -> config.Plan:
        """The plan as the node makes it: backends are those that run on its device.

        Raises:
            UsageError: an option breaks its rule.
        """
        return config.make_plan({**settings, "device": device})

    def introduce(self) -> dict[str, Any]:
        """What the node is: versions, environment, ceilings, memory limit; of another version that alone.

        Raises:
            WorkerError: its worker cannot start.
            UsageError: the memory limit makes no sense there.
        """
        said: dict[str, Any] = {"elattn_bench": __version__}
        if __version__ != self._version:
            return said
        worker = self._started()
        described = environment.of_run(worker.settings.device, worker.environment())
        # Ray's default for its workers is 15; a CPU that others want as well is then not ours.
        described["niceness"] = psutil.Process().nice()
        said |= {"environment": described, "memory_limit": self._limit}
        found = worker.call("elattn_bench.ceilings:measure", timeout=CEILINGS_TIMEOUT)
        said["ceilings"] = {} if isinstance(found, Skipped) else found
        said["ceilings_missing"] = found.reason if isinstance(found, Skipped) else None
        return said

    def measure(self, case: Case) -> Outcome:
        """The outcome of the case, as a local sweep would have it.

        Raises:
            WorkerError: a worker cannot be started.
        """
        assert self._orders is not None
        return self._started().measure(case, self._orders.timeout)

    def _started(self) -> Worker:
        if self._worker is None:
            assert self._orders is not None
            orders = self._orders
            self._limit = config.memory_limit(orders.settings["memory-limit"], orders.device)
            budget = BUDGETS[orders.settings["budget"]]
            self._worker = Worker(
                Settings(orders.device, budget, orders.threads, self._limit, orders.seed, orders.input_std)
            )
        return self._worker


def _be_as_if_started_by_hand() -> None:
    """Undo what Ray does to its processes and what would change a measurement."""
    # Ray allows one thread to a process that reserves no CPU; what the node's own environment says stays.
    with contextlib.suppress(psutil.Error, OSError):
        if "OMP_NUM_THREADS" not in psutil.Process().environ():
            os.environ.pop("OMP_NUM_THREADS", None)
    with contextlib.suppress(OSError, AttributeError):  # not everybody may
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    # A spawned process runs its parent's main file first: Ray's would bring Ray into the measured process.
    vars(sys.modules["__main__"]).pop("__file__", None)
