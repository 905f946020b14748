"""Sweeps over a real Ray cluster of several nodes on this machine: both measure, one is killed, runs are resumed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from elattn_bench.rundir import RESULTS, RUN_INFO

COMMAND = [sys.executable, "-m", "elattn_bench"]
GRID = [
    "-i", "softmax/sdpa,linear/eager,ea-series/eager", "--order", "2", "--seq-len", "16,32", "--dim", "32",
    "--heads", "2", "--mode", "forward", "--quick", "--device", "cpu", "--threads", "1",
]  # fmt: skip
CASES = 6
MANY = [*GRID, "--batch", "1,2,3,4"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
PATIENCE = 120.0  # s, for something to happen on a busy machine; nothing here takes a tenth of it

# What Ray warns of while it starts is not ours. Few tests of many laws each: processes of pytest-xdist that share
# these out start a cluster each.
pytestmark = pytest.mark.filterwarnings("ignore")


class Cluster:
    """A head that measures nothing, and nodes that may."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Nodes

        self._nodes: Any = Nodes(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        self.address = self._nodes.address

    def add(self) -> Any:
        """One more node."""
        return self._nodes.add_node(num_cpus=1, resources={"elattn_host": 1})

    def kill(self, node: Any) -> None:
        """End a node at once, with all its processes."""
        self._nodes.remove_node(node, allow_graceful=False)

    def kill_head(self) -> None:
        """End the process that knows the cluster; the nodes stay, for a while."""
        for process in self._nodes.head_node.all_processes["gcs_server"]:
            process.process.kill()

    def close(self) -> None:
        self._nodes.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("ray", reason="Ray has no build for this machine")
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT, RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = Cluster()
    try:
        yield made
    finally:
        made.close()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> list[Any]:
    """Two nodes that measure."""
    return [cluster.add(), cluster.add()]


def elattn(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "sweep", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=ENVIRONMENT,
    )


def begun(*words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "sweep", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip


def over(cluster: Cluster) -> list[str]:
    return ["--launcher", "ray", "--address", cluster.address]


def rows(run: Path) -> list[dict[str, str]]:
    with (run / RESULTS).open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def info(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / RUN_INFO).read_text(encoding="utf-8"))
    return found


def await_rows(run: Path, count: int, hosts: int = 1) -> None:
    """Wait until so many rows of so many hosts are on disk."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        there = rows(run) if (run / RESULTS).is_file() else []
        if len(there) >= count and len({row["host"] for row in there}) >= hosts:
            return
        time.sleep(0.05)
    raise AssertionError(f"no {count} rows of {hosts} hosts after {PATIENCE} s")


def every_case_once(run: Path, cases: int) -> bool:
    found = Counter(row["case_id"] for row in rows(run))
    return (
        len(found) == cases and set(found.values()) == {1} and all(row["status"] == "ok" for row in rows(run))
    )


def test_without_the_resource_the_message_says_what_to_type(cluster: Cluster, tmp_path: Path) -> None:
    done = elattn(*GRID, *over(cluster), "-o", tmp_path / "run")
    assert done.returncode == 2
    assert f"ray start --address={cluster.address} --resources='{{\"elattn_host\": 1}}'" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_sweep_over_two_nodes_outlives_one_that_is_killed(
    cluster: Cluster, nodes: list[Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with begun(*MANY, *over(cluster), "-o", run) as sweep:
        await_rows(run, 3, hosts=2)
        cluster.kill(nodes.pop())
        out, said = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, said
    assert "was lost" in said
    assert every_case_once(run, 4 * CASES)
    check_nodes(run)
    # Ray says nothing of its own, least of all among the data.
    assert out.startswith("Summary")
    assert not any(word in said for word in ("raylet", "pid=", " INFO ", " WARNING ", "FutureWarning"))


def check_nodes(run: Path) -> None:
    """Both measured, each under its own name, with control case and ceilings; the one that lived to the end."""
    measured, known = Counter(row["host"] for row in rows(run)), info(run)["nodes"]
    assert len(measured) == 2
    assert {node["host"]: node["cases"] for node in known} == measured
    assert {row["device_name"] for row in rows(run)} == {node["device_name"] for node in known}
    visits = [[visit["at"] for visit in node["control"]["visits"]] for node in known]
    assert all(at[0] == "start" for at in visits)
    assert any(at[-1] == "end" for at in visits)
    for node in known:
        assert node["ceilings"]["matmul_flops_per_s"]["float32"] > 0
        assert node["environment"]["threads"] == 1


def test_a_run_may_be_completed_by_the_other_launcher(
    cluster: Cluster, nodes: list[Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    before = interrupted(cluster, run)
    done = elattn("--resume", "-o", run)
    assert done.returncode == 0, done.stderr
    assert every_case_once(run, CASES)
    assert rows(run)[: len(before)] == before
    assert {row["host"] for row in rows(run)[len(before) :]} == {""}

    before = without_the_clusters_rows(run)
    done = elattn("--resume", "-o", run, *over(cluster))
    assert done.returncode == 0, done.stderr
    assert f"{len(before)} kept from before" in done.stderr
    assert every_case_once(run, CASES)
    assert rows(run)[: len(before)] == before
    assert all(row["host"] for row in rows(run)[len(before) :])


def interrupted(cluster: Cluster, run: Path) -> list[dict[str, str]]:
    """The rows of a sweep that was ended in the middle, and said how to go on over the cluster."""
    with begun(*GRID, *over(cluster), "-o", run) as sweep:
        await_rows(run, 2)
        sweep.send_signal(signal.SIGTERM)  # which Ray takes for itself, unlike SIGINT
        _, said = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 130, said
    assert f"{len(rows(run))} of {CASES} cases are on disk" in said
    assert f"elattn-bench sweep --resume -o {run} --launcher ray --address {cluster.address}" in said
    return rows(run)


def without_the_clusters_rows(run: Path) -> list[dict[str, str]]:
    """Make the run one of this machine alone, which lacks the cases that the cluster measured; its rows."""
    lines = (run / RESULTS).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line, row in zip(lines[1:], rows(run), strict=True) if not row["host"]]
    (run / RESULTS).write_text("".join([lines[0], *kept]), encoding="utf-8")
    known = info(run)
    del known["nodes"]
    (run / RUN_INFO).write_text(json.dumps(known), encoding="utf-8")
    return rows(run)


def test_when_the_head_dies_a_signal_is_heard_and_says_how_to_go_on(
    cluster: Cluster, nodes: list[Any], tmp_path: Path
) -> None:
    """The last test of the cluster: nothing can be measured on it any more."""
    run = tmp_path / "run"
    with begun(*MANY, *over(cluster), "-o", run) as sweep:
        await_rows(run, 1)
        cluster.kill_head()
        time.sleep(2.0)  # until a call of the sweep's has got stuck
        sweep.send_signal(signal.SIGINT)
        _, said = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 130, said
    assert f"{len(rows(run))} of {4 * CASES} cases are on disk" in said
    assert f"elattn-bench sweep --resume -o {run} --launcher ray --address {cluster.address}" in said
    assert "rpc_client" not in said
