"""A rank on this machine: a worker of its own, replaced by a fresh one whenever the case of its group fails."""

from __future__ import annotations

from typing import Any

from elattn_bench.units import Seconds
from elattn_bench.worker import Settings, Worker


class LocalMember:
    """A rank on this machine.

    host: its name, where there are several.
    """

    def __init__(self, settings: Settings, host: str = "") -> None:
        self.host = host
        self._settings = settings
        self._worker = Worker(settings)

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        return self._worker.pid

    def environment(self) -> dict[str, Any]:
        """What the worker says of torch and its device; starts it."""
        return self._worker.environment()

    def call(self, target: str, *arguments: Any, timeout: Seconds) -> Any:
        """As ``Worker.call``."""
        return self._worker.call(target, *arguments, timeout=timeout)

    def end(self) -> None:
        """End the worker, for good."""
        self._worker.abandon()

    def renew(self) -> None:
        """Put a worker that is not started yet in the place of the one that was ended."""
        self._worker.kill()
        self._worker = Worker(self._settings)

    def close(self) -> None:
        """Ask the worker to leave, and make it if it does not."""
        self._worker.close()
