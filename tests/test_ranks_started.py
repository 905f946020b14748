"""Sweeps over ranks as a user starts them: alone, which spawns the ranks, or by torchrun. Tiny sizes."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from elattn_bench.ranks import meeting_place

ROOT = Path(__file__).parent.parent
MODULE = ["-m", "elattn_bench"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TINY = [
    "sweep", "-i", "ea-series/eager", "--order", "2", "--dim", "8", "--heads", "2", "--mode", "forward",
    "--device", "cpu", "--threads", "1", "--quick",
]  # fmt: skip
# Whoever runs these tests may be one of many itself.
PLACES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in PLACES} | {
    "PYTHONPATH": str(ROOT)
}


def python(*words: str | Path, limit: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=ENVIRONMENT, timeout=limit
    )


@contextmanager
def started(*words: str | Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The sweep while it runs; ended in any case."""
    with subprocess.Popen(
        [sys.executable, *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**ENVIRONMENT, **variables},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def rows(path: Path) -> list[dict[str, str]]:
    with (path / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def wait_for_rows(path: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not ((path / "results.csv").exists() and len(rows(path)) >= count):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def info_of(path: Path) -> dict[str, Any]:
    info: dict[str, Any] = json.loads((path / "run.json").read_text())
    return info


def wait_for_children(count: int, process: subprocess.Popen[str]) -> list[psutil.Process]:
    deadline = time.monotonic() + 120
    while len(found := psutil.Process(process.pid).children(recursive=True)) < count:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def test_an_interrupted_sweep_leaves_neither_ranks_nor_files_behind(tmp_path: Path) -> None:
    (places := tmp_path / "places").mkdir()
    words = [*MODULE, *TINY, "--ranks", "2", "--seq-len", "32", "-o", str(tmp_path / "run")]
    with started(*words, TMPDIR=str(places)) as process:
        processes = wait_for_children(4, process)  # the ordinary worker, two ranks, and Python's tracker
        assert list(places.glob(f"{meeting_place.PREFIX}*"))
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "--resume" in stderr
    assert psutil.wait_procs(processes, timeout=20)[1] == []
    assert not list(places.glob("elattn*"))


def test_more_ranks_than_there_are_processes_are_refused(tmp_path: Path) -> None:
    variables = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    with started(
        *MODULE, *TINY, "--ranks", "3", "--seq-len", "32", "-o", tmp_path / "run", **variables
    ) as process:
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--ranks 3: WORLD_SIZE speaks of 2 processes" in stderr
    assert not (tmp_path / "run").exists()


def test_a_sweep_that_lost_a_serving_process_says_what_to_do_and_torchrun_completes_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run"
    words = [*MODULE, *TINY, "--ranks", "2", "--seq-len", "32,64,128", "-o", str(path)]
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    with (
        started(*words, **variables, RANK="0") as sweep,
        started(*words, **variables, RANK="1") as server,
    ):
        wait_for_rows(path, 1, sweep)
        server.kill()
        _, stderr = sweep.communicate(timeout=60)
        assert server.stderr
        assert "rank 1 of 2 serves the sweep of rank 0" in server.stderr.read()
    assert sweep.returncode == 1, stderr
    assert "the process of rank 1 has gone; start all of them anew, with --resume" in stderr
    assert "Traceback" not in stderr
    kept = rows(path)
    assert {row["status"] for row in kept} == {
        "ok"
    }  # of the case in hand there is none: it is measured again
    done = python(*TORCHRUN, *MODULE, "sweep", "--resume", "-o", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Summary") == 1  # one of the two processes speaks
    check_complete(path, kept)


def check_complete(path: Path, kept: list[dict[str, str]]) -> None:
    found = rows(path)
    assert found[: len(kept)] == kept
    assert [row["status"] for row in found] == ["ok"] * 3
    assert {(row["received_bytes"], row["received_bytes_formula"]) for row in found} == {("224", "224")}
    info = info_of(path)
    assert info["environment"]["threads_per_rank"] == 1
    assert {entry["ranks"] for entry in info["collectives"]} == {2}
    assert len(info["collectives"]) == 20  # once, though there were two sessions


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_dry_run_of_torchruns_is_told_once(tmp_path: Path, rank: str) -> None:
    variables = {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    words = [*MODULE, *TINY, "--ranks", "1,2", "--seq-len", "32", "--dry-run"]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env={**ENVIRONMENT, **variables}, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(":r2") == (rank == "0")
