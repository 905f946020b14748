"""The worker against real faults: out of memory, time-out, sudden death. The sweep goes on after each."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from elattn_bench import environment, stacks
from elattn_bench.cases import Case
from elattn_bench.errors import WorkerError
from elattn_bench.results import Measurement, Skipped
from elattn_bench.stats import BUDGETS
from elattn_bench.worker import Settings, Worker

SMALL = Case("softmax", "eager", "op", "forward", "float32", "cpu", False, 1, 2, 64, 16)
ENDLESS = Case("softmax", "eager", "op", "forward", "float32", "cpu", False, 8, 8, 8192, 512)
SETTINGS = Settings("cpu", BUDGETS["quick"], threads=1)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(SETTINGS) as worker:
        yield worker


def test_a_case_comes_back_measured(worker: Worker) -> None:
    outcome = worker.measure(SMALL, timeout=60)
    assert isinstance(outcome, Measurement)
    assert len(outcome.latency_ms) >= 10
    assert min(outcome.latency_ms) > 0
    assert outcome.rel_rms_error is not None
    assert 0 < outcome.rel_rms_error < 1e-5
    # Scores, their softmax and the output, with a scaled copy at most: nothing else of this size exists.
    scores, output = 2 * 64 * 64 * 4, 2 * 64 * 8 * 4
    assert 2 * scores <= (outcome.peak_memory_bytes or 0) <= 3 * scores + 2 * output
    assert outcome.total_memory_bytes == (outcome.peak_memory_bytes or 0) + 3 * 64 * 16 * 4


def test_training_at_layer_level_comes_back_measured(worker: Worker) -> None:
    outcome = worker.measure(replace(SMALL, level="layer", mode="train"), timeout=60)
    assert isinstance(outcome, Measurement)


def test_the_worker_says_what_torch_and_the_device_are(worker: Worker) -> None:
    environment = worker.environment()
    assert environment["threads"] == 1
    assert environment["torch"].startswith("2.")


def test_an_unsupported_case_is_a_value_with_its_reason(worker: Worker) -> None:
    outcome = worker.measure(replace(SMALL, backend="cudnn"), timeout=60)
    assert isinstance(outcome, Skipped)
    assert outcome.status == "unsupported"
    assert "runs on cuda only" in outcome.reason


def test_a_case_over_its_time_is_ended_and_the_next_one_runs(worker: Worker) -> None:
    started = time.monotonic()
    outcome = worker.measure(ENDLESS, timeout=1.0)
    assert isinstance(outcome, Skipped)
    assert outcome.status in ("timeout", "oom")  # a small machine cannot even hold the scores
    assert time.monotonic() - started < 30
    assert isinstance(worker.measure(SMALL, timeout=60), Measurement)


def test_a_case_beyond_the_memory_limit_is_out_of_memory_and_the_next_one_runs() -> None:
    limit = 3 * 2**30  # torch itself needs some of it; 8 * 8 * 8192^2 scores need 17 GB
    with Worker(replace(SETTINGS, memory_limit=limit)) as worker:
        outcome = worker.measure(ENDLESS, timeout=60)
        assert isinstance(outcome, Skipped)
        assert outcome.status == "oom", outcome
        assert "3.00 GiB" in outcome.reason
        assert isinstance(worker.measure(SMALL, timeout=60), Measurement)


@pytest.mark.parametrize(
    ("number", "oom_kills", "status"),
    [
        (signal.SIGKILL, [5, 6], "oom"),
        (signal.SIGKILL, [None, None], "oom"),  # nobody counts: memory is the usual reason
        (signal.SIGKILL, [5, 5], "error"),
        (signal.SIGSEGV, [5, 6], "error"),
    ],
)
def test_a_worker_that_is_killed_becomes_a_row_and_is_replaced(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, number: int, oom_kills: list[int | None], status: str
) -> None:
    worker.environment()
    counts = iter(oom_kills)
    monkeypatch.setattr(environment, "oom_kills", lambda: next(counts))
    assert worker.pid is not None
    killer = threading.Timer(0.5, os.kill, (worker.pid, number))
    killer.start()
    outcome = worker.measure(ENDLESS, timeout=60)
    killer.join()
    assert isinstance(outcome, Skipped)
    assert outcome.status == status, outcome
    assert signal.Signals(number).name in outcome.reason
    monkeypatch.undo()
    assert isinstance(worker.measure(SMALL, timeout=60), Measurement)


def test_a_limit_below_what_torch_holds_is_refused_with_what_would_do() -> None:
    with (
        Worker(replace(SETTINGS, memory_limit=2**20)) as worker,
        pytest.raises(WorkerError, match="--memory-limit 1.00 MiB: torch alone holds .*give at least"),
    ):
        worker.environment()


def test_a_worker_that_died_between_cases_costs_the_next_one_nothing(worker: Worker) -> None:
    worker.environment()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.3)
    assert isinstance(worker.measure(SMALL, timeout=60), Measurement)


def test_closing_leaves_no_process_behind() -> None:
    with Worker(SETTINGS) as worker:
        worker.environment()
        pid = worker.pid
    assert pid is not None
    assert not psutil.pid_exists(pid)


def test_a_stack_names_files_from_their_packages_on() -> None:
    dump = f'  File "{threading.__file__}", line 1 in run\n  File "{stacks.__file__}", line 2 in portable\n'
    shown = stacks.portable(dump + '  File "/home/someone/mine.py", line 3 in mine')
    assert 'File "threading.py"' in shown
    assert 'File "elattn_bench/stacks.py"' in shown
    assert 'File "/home/someone/mine.py"' in shown  # a plug-in's own place is what its author looks for
