"""The process that holds torch. The parent survives its death: OOM killer, segfault, time-out.

Standard library only: a single worker whose exit code and deadline we need is less code on
``multiprocessing`` than through a pool that hides both.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from elattn_bench import environment
from elattn_bench.cases import Case
from elattn_bench.errors import WorkerError
from elattn_bench.results import Outcome, Skipped
from elattn_bench.stats import Budget
from elattn_bench.units import Bytes, Seconds, format_bytes, format_duration

START_TIMEOUT: Seconds = 180.0  # importing torch from a cold network disk has been seen to take a minute
EXIT_GRACE: Seconds = 2.0
HUNG_UP = (EOFError, BrokenPipeError, ConnectionResetError)  # how the other side's end looks from this one


@dataclass(frozen=True, slots=True)
class Settings:
    """What every case of a sweep has in common."""

    device: str
    budget: Budget
    threads: int | None = None
    memory_limit: Bytes | None = None
    seed: int = 0


class Worker:
    """A process that measures cases one after the other; started when first needed, replaced when it dies."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._environment: dict[str, Any] = {}

    def environment(self) -> dict[str, Any]:
        """What the worker says of torch and the device.

        Raises:
            WorkerError: the worker cannot start.
        """
        self._ensure_started()
        return self._environment

    def measure(self, case: Case, timeout: Seconds) -> Outcome:
        """The outcome of the case, whatever happens to the worker.

        Raises:
            WorkerError: a worker cannot be started.
        """
        self._ensure_started()
        try:
            self._send(case)
        except BrokenPipeError:  # it died after its last case: not this one's fault
            self.kill()
            self._ensure_started()
            self._send(case)
        assert self._connection is not None
        assert self._process is not None
        oom_kills = environment.oom_kills()
        ready = wait([self._connection, self._process.sentinel], timeout)
        if self._connection in ready:
            with contextlib.suppress(*HUNG_UP):
                outcome: Outcome = self._connection.recv()
                return outcome
        if not ready:
            self.kill()
            return Skipped("timeout", f"took longer than {timeout:g} s (--timeout)")
        return self._post_mortem(oom_kills)

    def _send(self, case: Case) -> None:
        assert self._connection is not None
        self._connection.send(case)

    def close(self) -> None:
        """Ask the worker to leave, and make it if it does not."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.join(EXIT_GRACE)
        self.kill()

    def kill(self) -> None:
        """End the worker at once; the next case gets a fresh one."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = self._connection = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        # Whoever interrupts does not want to wait for the case in hand.
        if kind is None:
            self.close()
        else:
            self.kill()

    def _ensure_started(self) -> None:
        if self._process is not None and self._process.is_alive():
            return
        self.kill()
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.settings), daemon=True)
        try:
            self._process.start()
        except OSError as error:
            self._process = None
            raise WorkerError(f"the worker process cannot be started: {error}") from None
        theirs.close()
        self._environment = self._first_words()

    def _first_words(self) -> dict[str, Any]:
        assert self._connection is not None
        assert self._process is not None
        ready = wait([self._connection, self._process.sentinel], START_TIMEOUT)
        words: Any = f"it said nothing for {format_duration(START_TIMEOUT)}"
        if ready:
            try:
                words = self._connection.recv()
            except HUNG_UP:
                words = self._post_mortem(environment.oom_kills()).reason
        if isinstance(words, dict):
            return words
        self.kill()
        raise WorkerError(f"the worker process cannot be started: {words}")

    def _post_mortem(self, oom_kills: int | None) -> Skipped:
        assert self._process is not None
        self._process.join(EXIT_GRACE)
        code = self._process.exitcode
        self.kill()
        if code == -signal.SIGKILL and (oom_kills is None or environment.oom_kills() != oom_kills):
            return Skipped("oom", "the worker was killed (SIGKILL): the system ran out of memory")
        if code is not None and code < 0:
            return Skipped("error", f"the worker died of {signal.Signals(-code).name}")
        return Skipped("error", f"the worker left with exit code {code}")


def _serve(connection: Connection, settings: Settings) -> None:
    """The worker's life: prepare, say what is here, measure until the parent hangs up."""
    _prepare_process()
    with contextlib.suppress(*HUNG_UP):
        _work(connection, settings)


def _work(connection: Connection, settings: Settings) -> None:
    try:
        from elattn_bench import device, measure
        from elattn_bench.gate import Gate

        device.prepare(settings.device, settings.threads)
        described = device.describe(settings.device)
        if settings.memory_limit is not None:
            device.limit_memory(settings.device, settings.memory_limit)
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send(described)
    gate = Gate()
    while True:
        case: Case = connection.recv()
        connection.send(_guarded(case, settings, gate))
        measure.release()


def _guarded(case: Case, settings: Settings, gate: Any) -> Outcome:
    from elattn_bench import measure

    try:
        return measure.measure(case, settings.budget, gate, settings.seed)
    except Exception as error:
        if reason := measure.out_of_memory_reason(error):
            limit = settings.memory_limit
            return Skipped("oom", reason + (f" (--memory-limit {format_bytes(limit)})" if limit else ""))
        first_line = next(iter(str(error).splitlines()), "")
        return Skipped("error", f"{type(error).__name__}: {first_line}", traceback.format_exc())


def _prepare_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.dup2(2, 1)  # whatever a kernel or a compiler prints must not reach the data on stdout
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    # A sweep killed with -9 cannot clean up: an orphan would go on and disturb the next measurement.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
