"""Several workers at once, each training one model after the other; what they say arrives one at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from elattn_bench.units import Seconds
from elattn_bench.worker import Worker

LOOK: Seconds = 0.2  # how soon an interruption reaches the one who waits for threads

JobType = TypeVar("JobType")


class Pool(Generic[JobType]):
    """Gives jobs to workers as they become free.

    Args:
        workers: already made; each is used by one thread.
        do: does a job with a worker. It may block, and must put whatever it shares under ``lock``.
    """

    def __init__(self, workers: Sequence[Worker], do: Callable[[JobType, Worker], None]) -> None:
        self.lock = threading.RLock()
        self._workers, self._do = workers, do
        self._stopped = threading.Event()
        self._errors: list[BaseException] = []

    @property
    def is_stopped(self) -> bool:
        """Whether what a job comes to is of no interest any more: its worker was ended."""
        return self._stopped.is_set()

    def run(self, jobs: Iterable[JobType]) -> None:
        """Do all the jobs; whatever is raised ends the workers, and is raised here."""
        pending = deque(jobs)
        threads = [
            threading.Thread(target=self._serve, args=(pending, worker), daemon=True)
            for worker in self._workers
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive() and not self._stopped.is_set():
                    thread.join(LOOK)
        finally:
            self._stopped.set()
            if any(thread.is_alive() for thread in threads):
                for worker in self._workers:
                    worker.abandon()
                for thread in threads:
                    thread.join()
        if self._errors:
            raise self._errors[0]

    def _serve(self, pending: deque[JobType], worker: Worker) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    job = pending.popleft()
                except IndexError:
                    return
                self._do(job, worker)
        except BaseException as error:
            if not self._stopped.is_set():  # what comes after the first is its consequence
                self._errors.append(error)  # raised in the thread that waits
                self._stopped.set()
