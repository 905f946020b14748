"""The process that holds torch, seen from its parent, who survives its death: OOM killer, segfault, time-out.

Standard library only: a single worker whose exit code and deadline we need is less code on
``multiprocessing`` than through a pool that hides both. What runs inside is in ``worker_process``.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from elattn_bench import environment, worker_process
from elattn_bench.cases import Case
from elattn_bench.errors import WorkerError
from elattn_bench.output import OutputTail
from elattn_bench.results import Measurement, Outcome, Skipped
from elattn_bench.stacks import portable
from elattn_bench.units import Seconds, format_duration
from elattn_bench.worker_process import HUNG_UP, Answer, Note, Settings

__all__ = ["Settings", "Worker"]

START_TIMEOUT: Seconds = 180.0  # importing torch from a cold network disk has been seen to take a minute
EXIT_GRACE: Seconds = 2.0
EXIT_POLL: Seconds = 0.005
STACK_GRACE: Seconds = 0.1  # for a worker that is out of time to write down where it is


class Worker:
    """A process that does one task after the other; started when first needed, replaced when it dies.

    starts: how many processes it has started; starting_s: how long that took, importing torch included.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.starts = 0
        self.starting_s: Seconds = 0.0
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._environment: dict[str, Any] = {}
        self._output: OutputTail | None = None
        self._is_abandoned = False

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        return self._process.pid if self._process is not None else None

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
        outcome: Outcome = self.call("elattn_bench.measure:measure", case, timeout=timeout)
        return outcome

    def call(
        self,
        target: str,
        *arguments: Any,
        timeout: Seconds,
        on_note: Callable[[Any], None] = lambda what: None,
        limit: str = "--timeout",
    ) -> Any:
        """What the function ``module:name`` returns, called in the worker with its context first.

        Args:
            target, arguments: the call.
            timeout: how long to wait for the result, or for the next thing that the task reports.
            on_note: gets what the task reports on its way.
            limit: what the time-out is called where it is told.

        A ``Skipped`` instead when it raises, runs out of memory or time, or takes the worker with it.

        Raises:
            WorkerError: a worker cannot be started.
        """
        self._ensure_started()
        try:
            self._send((target, arguments))
        except HUNG_UP:  # it died after its last task: not this one's fault
            self.kill()
            self._ensure_started()
            self._send((target, arguments))
        assert self._connection is not None
        assert self._process is not None
        oom_kills = environment.oom_kills()
        while self._connection in (ready := wait([self._connection, self._process.sentinel], timeout)):
            try:
                answer = self._connection.recv()
            except HUNG_UP:
                break
            if not isinstance(answer, Note):
                return self._accept(answer)
            on_note(answer.what)
        if not ready:
            return Skipped("timeout", f"took longer than {timeout:g} s ({limit})", self._last_stack())
        return self._post_mortem(oom_kills)

    def _send(self, task: object) -> None:
        assert self._connection is not None
        self._connection.send(task)

    def _accept(self, answer: Answer) -> Any:
        result = answer.result
        if answer.left_behind or answer.is_worn:
            # Whatever a task left running or allocated would disturb the next one.
            self.kill()
        if answer.left_behind and isinstance(result, Measurement):
            return replace(result, warnings=(*result.warnings, *answer.left_behind))
        return result

    def close(self) -> None:
        """Ask the worker to leave, and make it if it does not."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            _exit_code(self._process)
        self.kill()

    def abandon(self) -> None:
        """End the process from another thread, for good: the call that waits for it comes back, or raises.

        Whoever waits may be starting a process at this moment, which then ends itself.
        """
        self._is_abandoned = True
        process = self._process
        if process is not None and process.pid is not None:
            _end_group(process)

    def kill(self) -> None:
        """End the worker at once, and what it started; the next case gets a fresh one."""
        if self._process is not None:
            _end_group(self._process)
            self._process.join()
        if self._connection is not None:
            self._connection.close()
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
        start = time.monotonic()
        self._start()
        if self._is_abandoned:
            self.kill()
            raise WorkerError("the worker was abandoned while it started")
        self.starts += 1
        self._environment = self._first_words()
        self.starting_s += time.monotonic() - start

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        reader, writer = context.Pipe(duplex=False)
        self._process = context.Process(
            target=worker_process.serve, args=(theirs, writer, self.settings), daemon=True
        )
        try:
            self._process.start()
        except OSError as error:
            self._process = None
            raise _no_start(str(error)) from None
        theirs.close()
        writer.close()
        self._output = OutputTail(reader)

    def _first_words(self) -> dict[str, Any]:
        assert self._connection is not None
        assert self._process is not None
        if not wait([self._connection, self._process.sentinel], START_TIMEOUT):
            self.kill()
            raise _no_start(f"it said nothing for {format_duration(START_TIMEOUT)}")
        try:
            words = self._connection.recv()
        except HUNG_UP:
            death = self._post_mortem(environment.oom_kills())
            raise _no_start(": ".join([death.reason, *death.details.splitlines()[-1:]])) from None
        if isinstance(words, dict):
            return words
        self.kill()
        raise WorkerError(f"the worker process cannot be started: {words}")

    def _last_stack(self) -> str:
        """End a worker that is out of time; return what it printed, where it was at the end."""
        assert self._process is not None
        assert self._process.pid is not None
        assert self._output is not None
        if worker_process.SHOW_STACK is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, worker_process.SHOW_STACK)
            wait([self._process.sentinel], STACK_GRACE)
        self.kill()
        return portable(self._output.text())

    def _post_mortem(self, oom_kills: int | None) -> Skipped:
        process, output = self._process, self._output
        assert process is not None
        assert output is not None
        code = _exit_code(process)
        self.kill()  # its children too: they would hold its output open
        last_words = portable(output.text())
        if code == -signal.SIGKILL and (oom_kills is None or environment.oom_kills() != oom_kills):
            return Skipped("oom", "the worker was killed (SIGKILL): the system ran out of memory", last_words)
        return Skipped("error", _how_it_went(code), last_words)


def _exit_code(process: SpawnProcess) -> int | None:
    """How the process left; None when it does not leave."""
    deadline = time.monotonic() + EXIT_GRACE
    # Not join(): it believes the sentinel, which a case can close, and then waits for ever.
    while process.exitcode is None and time.monotonic() < deadline:
        time.sleep(EXIT_POLL)
    return process.exitcode


def _how_it_went(code: int | None) -> str:
    if code is None:
        return "the case closed the worker's connection"
    if code >= 0:
        return f"the worker left with exit code {code}"
    with contextlib.suppress(ValueError):  # real-time signals have no name
        return f"the worker died of {signal.Signals(-code).name}"
    return f"the worker died of signal {-code}"


def _end_group(process: SpawnProcess) -> None:
    # The worker leads its process group: what a case forked or started must not disturb the next one.
    if process.pid is not None and hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # it may not have come to lead a group yet


def _no_start(reason: str) -> WorkerError:
    return WorkerError(
        f"the worker process cannot be started: {reason}; see whether this runs: "
        f'{sys.executable} -c "import torch"'
    )
