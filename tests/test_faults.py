"""Attentions that misbehave, disks that fill, directories that vanish: each its row, and the sweep goes on."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import spawn
from pathlib import Path

import psutil
import pytest

from elattn_bench import disk, rundir, worker
from elattn_bench.cases import Case
from elattn_bench.errors import RunDirError, WorkerError
from elattn_bench.output import KEPT
from elattn_bench.results import Measurement, Outcome, Skipped
from elattn_bench.rundir import RunDir, read_run
from elattn_bench.stats import BUDGETS
from elattn_bench.worker import Settings, Worker

LIMIT = 4 * 2**30
SETTINGS = Settings("cpu", BUDGETS["quick"], threads=1, memory_limit=LIMIT)


@pytest.fixture(scope="module")
def faults() -> Iterator[Worker]:
    """A worker for all faults: whatever one does to it must not reach the next."""
    with Worker(SETTINGS) as worker:
        yield worker


def case_of(name: str, seq_len: int = 64, mode: str = "forward") -> Case:
    return Case(name, "eager", "op", mode, "float32", "cpu", False, 1, 1, seq_len, 16)


def measure(worker: Worker, fault: str, timeout: float = 60) -> Outcome:
    return worker.measure(case_of(f"faulty:{fault}"), timeout)


def assert_the_next_case_is_measured(worker: Worker) -> None:
    assert isinstance(worker.measure(case_of("softmax"), 60), Measurement)


def group_of(pid: int) -> list[int]:
    """Processes that run in the group, the dead left out."""
    alive = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getpgid(process.pid) == pid and process.info["status"] != psutil.STATUS_ZOMBIE:
                alive.append(process.pid)
        except ProcessLookupError:
            pass
    return alive


def assert_it_ends(group: int | None, patience: float = 20) -> None:
    assert group is not None
    deadline = time.monotonic() + patience
    while group_of(group) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert group_of(group) == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("wrong_shape", "output has shape [1, 1, 64, 1], the inputs have [1, 1, 64, 16]"),
        ("wrong_dtype", "output is of dtype torch.float64"),
        ("not_a_number", "output holds NaN or infinity"),
        ("modifies_its_input", "the call modifies its inputs"),
        ("returns_none", "output is a NoneType, not a tensor"),
        ("returns_a_tuple", "output is a tuple, not a tensor"),
        ("returns_an_array", "output is a ndarray, not a tensor"),
        ("raises", "ValueError: no luck"),
        ("raises_a_megabyte", "ValueError: xxx"),
        ("raises_unprintably", "Unprintable: <exception str() failed>"),
        ("interrupts", "KeyboardInterrupt"),
        ("exits", "SystemExit: 0"),
        ("recurses", "RecursionError: maximum recursion depth exceeded"),
    ],
)
def test_a_broken_attention_is_an_error_that_says_how_and_keeps_its_worker(
    faults: Worker, fault: str, reason: str
) -> None:
    faults.environment()
    starts = faults.starts
    outcome = measure(faults, fault)
    assert isinstance(outcome, Skipped)
    assert outcome.status == "error"
    assert outcome.reason.startswith(reason)
    assert len(outcome.reason) < 1000
    assert_the_next_case_is_measured(faults)
    assert faults.starts == starts


@pytest.mark.parametrize(
    ("fault", "reason", "last_words"),
    [
        ("leaves_with_0", "the worker left with exit code 0", ""),
        ("leaves_with_3", "the worker left with exit code 3", "not my day"),
        ("segfaults", "the worker died of SIGSEGV", "in segfaults"),
        ("aborts", "the worker died of SIGABRT", "in aborts"),
        ("closes_its_connection", "the case closed the worker's connection", ""),
    ],
)
def test_a_death_is_an_error_with_its_cause_and_its_last_words(
    faults: Worker, fault: str, reason: str, last_words: str
) -> None:
    outcome = measure(faults, fault)
    assert isinstance(outcome, Skipped)
    assert outcome.status == "error"
    assert outcome.reason.startswith(reason)
    assert last_words in outcome.details
    assert_the_next_case_is_measured(faults)


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    assert worker._how_it_went(-signal.SIGRTMIN - 1) == f"the worker died of signal {signal.SIGRTMIN + 1}"


def test_an_overflow_of_the_native_stack_is_an_error(faults: Worker) -> None:
    outcome = measure(faults, "overflows_the_stack")
    assert isinstance(outcome, Skipped)
    assert outcome.status == "error"
    assert "SIGSEGV" in outcome.reason or "RecursionError" in outcome.reason  # newer Pythons notice in time
    assert_the_next_case_is_measured(faults)


def test_a_hang_in_native_code_is_a_timeout_that_tells_where(faults: Worker) -> None:
    outcome = measure(faults, "hangs", timeout=1)
    assert isinstance(outcome, Skipped)
    assert (outcome.status, outcome.reason) == ("timeout", "took longer than 1 s (--timeout)")
    assert "in hangs" in outcome.details
    assert_the_next_case_is_measured(faults)


def test_what_a_hanging_case_forked_is_ended_with_it(faults: Worker) -> None:
    faults.environment()
    group = faults.pid
    outcome = measure(faults, "forks_and_hangs", timeout=1)
    assert isinstance(outcome, Skipped)
    assert outcome.status == "timeout"
    assert_it_ends(group)


def test_taking_all_memory_is_out_of_memory_and_nobody_is_killed(faults: Worker) -> None:
    faults.environment()
    starts = faults.starts
    outcome = measure(faults, "takes_all_memory")
    assert isinstance(outcome, Skipped)
    assert outcome.status == "oom"
    assert "--memory-limit 4.00 GiB" in outcome.reason
    assert_the_next_case_is_measured(faults)
    assert faults.starts == starts


def test_megabytes_of_output_reach_neither_our_streams_nor_our_memory(
    faults: Worker, capfd: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(measure(faults, "prints_megabytes"), Measurement)
    assert capfd.readouterr() == ("", "")
    assert faults._output is not None
    assert 0 < len(faults._output._tail) <= KEPT
    assert_the_next_case_is_measured(faults)


@pytest.mark.parametrize(
    ("fault", "warning"),
    [
        ("keeps_a_thread", "threads: 1 still ran after the case"),
        ("keeps_a_child", "processes: 1 still ran after the case and were ended"),
        ("changes_directory", "settings: the case changed the working directory;"),
        ("handles_signals", "settings: the case changed signal handlers;"),
        ("closes_its_streams", "settings: the case changed stdout, stderr;"),
        ("sets_threads", "settings: the case changed torch's threads;"),
    ],
)
def test_what_a_case_leaves_behind_is_told_and_the_next_one_gets_a_fresh_worker(
    faults: Worker, fault: str, warning: str
) -> None:
    faults.environment()
    group, starts = faults.pid, faults.starts
    outcome = measure(faults, fault)
    assert isinstance(outcome, Measurement)
    assert [text for text in outcome.warnings if text.startswith(warning)]
    assert_it_ends(group)
    assert_the_next_case_is_measured(faults)
    assert faults.starts == starts + 1


def test_a_leak_is_told_to_the_byte(faults: Worker) -> None:
    outcome = measure(faults, "leaks")
    assert isinstance(outcome, Measurement)
    assert outcome.warnings[0].startswith("leak: a call keeps 1.00 MiB")
    assert_the_next_case_is_measured(faults)


def test_a_case_that_forks_and_returns_twice_is_answered_once(faults: Worker) -> None:
    assert isinstance(measure(faults, "returns_twice"), Measurement)
    assert isinstance(measure(faults, "raises"), Skipped)
    assert_the_next_case_is_measured(faults)


def test_a_worker_does_not_outlive_its_killed_parent_even_when_it_hangs(tmp_path: Path) -> None:
    script = tmp_path / "sweep.py"
    script.write_text(
        "import sys, threading, test_faults\n"
        "if __name__ == '__main__':\n"
        "    with test_faults.Worker(test_faults.SETTINGS) as worker:\n"
        "        worker.environment()\n"
        "        print(worker.pid, flush=True)\n"
        "        test_faults.measure(worker, 'hangs')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        group = int(parent.stdout.readline())
        time.sleep(0.5)  # into the hang
        assert group_of(group) == [group]
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert_it_ends(group)


@pytest.fixture
def broken_python(tmp_path: Path) -> Iterator[Path]:
    """A program to run in Python's place; empty until a test writes it."""
    path = tmp_path / "python"
    before = spawn.get_executable()
    multiprocessing.set_executable(str(path))
    yield path
    multiprocessing.set_executable(before)


def test_a_program_that_is_not_there_cannot_be_a_worker(broken_python: Path) -> None:
    with pytest.raises(
        WorkerError, match='cannot be started: .*exit code 255; see whether this runs: .* "import'
    ):
        Worker(SETTINGS).environment()


def test_a_worker_that_leaves_at_once_is_told_with_its_exit_code(broken_python: Path) -> None:
    broken_python.write_text("#!/bin/sh\nexit 7\n")
    broken_python.chmod(0o755)
    with pytest.raises(WorkerError, match="cannot be started: the worker left with exit code 7; see whether"):
        Worker(SETTINGS).environment()


def test_a_worker_that_says_nothing_is_given_up(broken_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_python.write_text("#!/bin/sh\nexec sleep 600\n")
    broken_python.chmod(0o755)
    monkeypatch.setattr(worker, "START_TIMEOUT", 0.2)
    with pytest.raises(WorkerError, match="it said nothing for 0 s"):
        Worker(SETTINGS).environment()


def test_a_torch_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch_cpu.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WorkerError, match=r"cannot be started: ImportError: libtorch_cpu\.so"):
        Worker(SETTINGS).environment()


CASES = [case_of("softmax", length) for length in (64, 128, 256)]
MEASUREMENT = Measurement(latency_ms=(1.0,) * 10, stability="stable")


def lines(path: Path) -> list[str]:
    return (path / "results.csv").read_text().splitlines()


def test_a_disk_that_fills_in_the_middle_of_a_line_keeps_whole_lines_and_the_run_goes_on(
    tmp_path: Path,
) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from test_faults import *\n"
        "path = Path(sys.argv[1])\n"
        "with RunDir.create(path, {}) as run_dir:\n"
        "    run_dir.append(CASES[0], MEASUREMENT)\n"
        "    room = (path / 'results.csv').stat().st_size + 40\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))\n"
        "    run_dir.append(CASES[1], MEASUREMENT)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "RunDirError" in ended.stderr
    assert "File too large; free some space, then: elattn-bench sweep --resume" in ended.stderr
    assert len(lines(tmp_path / "run")) == 2
    assert (tmp_path / "run" / "results.csv").read_bytes().endswith(b"\n")
    with RunDir.resume(tmp_path / "run") as run_dir:
        run_dir.append(CASES[1], MEASUREMENT)
    assert [row.seq_len for row in read_run(tmp_path / "run").rows] == [64, 128]


def test_an_interrupt_in_the_middle_of_a_line_leaves_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    with RunDir.create(tmp_path / "run", {}) as run_dir:
        monkeypatch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_dir.append(CASES[0], MEASUREMENT)
    assert len(lines(tmp_path / "run")) == 1


def deleted(path: Path) -> None:
    shutil.rmtree(path)


def replaced(path: Path) -> None:
    shutil.rmtree(path)
    RunDir.create(path, {}).close()


def emptied(path: Path) -> None:
    (path / "results.csv").unlink()


def edited(path: Path) -> None:
    with (path / "results.csv").open("a") as stream:
        stream.write("mine\n")


@pytest.mark.parametrize(
    ("happens", "told"),
    [
        (deleted, "was deleted"),
        (replaced, "was replaced"),
        (emptied, "has lost results.csv"),
        (edited, "holds a results.csv that another program changed"),
    ],
)
def test_a_directory_that_goes_away_costs_no_row(tmp_path: Path, happens: object, told: str) -> None:
    assert callable(happens)
    path, rescued = tmp_path / "run", tmp_path / "run-rescued"
    with RunDir.create(path, {"config": {"seed": 1}}) as run_dir:
        run_dir.append(CASES[0], MEASUREMENT)
        run_dir.append(CASES[1], Skipped("oom", "no more"))
        happens(path)
        with pytest.raises(
            RunDirError, match=f"{told}.* all 3 rows .* are in {rescued}.*--resume -o {rescued}"
        ):
            run_dir.append(CASES[2], MEASUREMENT)
    run = read_run(rescued)
    assert [(row.seq_len, row.status) for row in run.rows] == [(64, "ok"), (128, "oom"), (256, "ok")]
    assert run.info == {"config": {"seed": 1}}
    with RunDir.resume(rescued) as again:
        assert len(again.done) == 3


def test_a_directory_that_goes_away_while_a_row_is_written_costs_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = disk.append_whole

    def gone(target: Path, text: str) -> int:
        if target.parent == path:
            shutil.rmtree(path, ignore_errors=True)
        return append(target, text)

    path = tmp_path / "run"
    with RunDir.create(path, {}) as run_dir:
        monkeypatch.setattr(rundir, "append_whole", gone)
        with pytest.raises(RunDirError, match="was deleted .* all 1 rows .* are in .*run-rescued"):
            run_dir.append(CASES[0], MEASUREMENT)
    assert len(read_run(tmp_path / "run-rescued").rows) == 1


def test_a_directory_gone_before_the_end_is_noticed_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "run-rescued").mkdir()
    with RunDir.create(tmp_path / "run", {}) as run_dir:
        run_dir.append(CASES[0], MEASUREMENT)
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(RunDirError, match="run-rescued-2"):
            run_dir.write_info()
    assert len(read_run(tmp_path / "run-rescued-2").rows) == 1


def test_a_directory_gone_before_the_first_row_leaves_nothing_to_rescue(tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", {}) as run_dir:
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(RunDirError, match="no case was measured yet: start again"):
            run_dir.write_info()
    assert list(tmp_path.iterdir()) == []
