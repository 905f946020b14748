"""The process that holds torch, seen from its parent, who survives its death: OOM killer, segfault, time-out.

Standard library only: a single worker whose exit code and deadline we need is less code on
``multiprocessing`` than through a pool that hides both. What runs inside is in ``worker_process``.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from elattn_bench import environment, worker_process
from elattn_bench.cases import Case
from elattn_bench.errors import WorkerError
from elattn_bench.output import OutputTail
from elattn_bench.results import Measurement, Outcome, Skipped
from elattn_bench.units import Seconds, format_duration
from elattn_bench.worker_process import HUNG_UP, Answer, Settings

__all__ = ["Settings", "Worker"]

START_TIMEOUT: Seconds = 180.0  # importing torch from a cold network disk has been seen to take a minute
EXIT_GRACE: Seconds = 2.0


class Worker:
    """A process that does one task after the other; started when first needed, replaced when it dies."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._environment: dict[str, Any] = {}
        self._output: OutputTail | None = None

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

    def call(self, target: str, *arguments: Any, timeout: Seconds) -> Any:
        """What the function ``module:name`` returns, called in the worker with its context first.

        A ``Skipped`` instead when it raises, runs out of memory or time, or takes the worker with it.

        Raises:
            WorkerError: a worker cannot be started.
        """
        self._ensure_started()
        try:
            self._send((target, arguments))
        except BrokenPipeError:  # it died after its last task: not this one's fault
            self.kill()
            self._ensure_started()
            self._send((target, arguments))
        assert self._connection is not None
        assert self._process is not None
        oom_kills = environment.oom_kills()
        ready = wait([self._connection, self._process.sentinel], timeout)
        if self._connection in ready:
            with contextlib.suppress(*HUNG_UP):
                return self._accept(self._connection.recv())
        if not ready:
            self.kill()
            return Skipped("timeout", f"took longer than {timeout:g} s (--timeout)")
        return self._post_mortem(oom_kills)

    def _send(self, task: object) -> None:
        assert self._connection is not None
        self._connection.send(task)

    def _accept(self, answer: Answer) -> Any:
        result = answer.result
        if answer.left_behind:
            # Whatever a task left running or allocated would disturb the next one.
            self.kill()
            if isinstance(result, Measurement):
                return replace(result, warnings=(*result.warnings, *answer.left_behind))
        return result

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
        reader, writer = context.Pipe(duplex=False)
        self._process = context.Process(
            target=worker_process.serve, args=(theirs, writer, self.settings), daemon=True
        )
        try:
            self._process.start()
        except OSError as error:
            self._process = None
            raise WorkerError(f"the worker process cannot be started: {error}") from None
        theirs.close()
        writer.close()
        self._output = OutputTail(reader)
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
        assert self._output is not None
        self._process.join(EXIT_GRACE)
        code = self._process.exitcode
        self.kill()
        last_words = self._output.text()
        if code == -signal.SIGKILL and (oom_kills is None or environment.oom_kills() != oom_kills):
            return Skipped("oom", "the worker was killed (SIGKILL): the system ran out of memory", last_words)
        if code is not None and code < 0:
            return Skipped("error", f"the worker died of {signal.Signals(-code).name}", last_words)
        return Skipped("error", f"the worker left with exit code {code}", last_words)
