"""What a task in the worker reports before its end, and workers that are given several jobs at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from elattn_bench.errors import Interrupted, RunDirError
from elattn_bench.quality.pool import Pool
from elattn_bench.results import Skipped
from elattn_bench.stats import BUDGETS
from elattn_bench.worker import Settings, Worker

COUNT = "reporting_task:count"


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    pytest.importorskip("torch")
    settings = Settings("cpu", BUDGETS["quick"], threads=1)
    with Worker(settings) as one, Worker(settings) as other:
        yield [one, other]


def test_notes_arrive_in_order_before_the_result(workers: list[Worker]) -> None:
    heard: list[int] = []
    assert workers[0].call(COUNT, 5, timeout=60, on_note=heard.append) == "counted"
    assert heard == [1, 2, 3, 4, 5]


def test_a_task_that_reports_may_take_longer_in_all_than_the_time_out(workers: list[Worker]) -> None:
    assert workers[0].call(COUNT, 8, 0.3, timeout=1.5) == "counted"


def test_a_task_that_falls_silent_is_ended(workers: list[Worker]) -> None:
    outcome = workers[0].call(COUNT, 2, 30.0, timeout=1.5)
    assert isinstance(outcome, Skipped)
    assert outcome.status == "timeout"


def test_what_a_task_said_before_it_died_was_heard(workers: list[Worker]) -> None:
    heard: list[str] = []
    outcome = workers[0].call("reporting_task:die", timeout=60, on_note=heard.append)
    assert heard == ["last words"]
    assert isinstance(outcome, Skipped)
    assert "exit code 3" in outcome.reason


def test_a_pool_does_every_job_once_and_two_at_a_time(workers: list[Worker]) -> None:
    done: list[int] = []
    seen: set[int] = set()

    def do(job: int, worker: Worker) -> None:
        worker.call(COUNT, 1, 0.2, timeout=60)
        with pool.lock:
            done.append(job)
            seen.add(threading.get_ident())

    pool: Pool[int] = Pool(workers, do)
    pool.run(range(6))
    assert sorted(done) == list(range(6))
    assert len(seen) == 2


def test_what_a_job_raises_is_raised_to_the_one_who_waits_and_ends_the_others(workers: list[Worker]) -> None:
    def do(job: int, worker: Worker) -> None:
        if job == 0:
            raise RunDirError("the disk is full")
        worker.call(COUNT, 1000, 1.0, timeout=600)

    with pytest.raises(RunDirError, match="the disk is full"):
        Pool(workers, do).run(range(4))  # pytest's own time-out is shorter than the job in hand


def test_an_interruption_ends_jobs_in_hand_and_what_they_came_to_is_dropped(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[bool] = []
    started = threading.Event()

    def do(job: int, worker: Worker) -> None:
        worker.call(COUNT, 1000, 1.0, timeout=600, on_note=lambda what: started.set())
        dropped.append(pool.is_stopped)

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        """As a signal that arrives while the pool waits for its threads."""
        started.wait()
        monkeypatch.undo()
        raise Interrupted("SIGINT")

    pool: Pool[int] = Pool(workers, do)
    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(Interrupted):
        pool.run(range(2))
    assert dropped, "the job that had begun came back"
    assert all(dropped)  # the other may not have begun yet
