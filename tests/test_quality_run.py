"""``elattn-bench quality`` as a user types it: rows, curves, resuming, deaths, refusals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from test_cli import COMMAND, ENVIRONMENT, elattn

from elattn_bench.errors import RunDirError
from elattn_bench.quality.rundir import QualityDir, read_quality
from elattn_bench.quality.suites import SUITES

TINY = ["quality", "mqar", "-i", "softmax,ea-series", "--order", "2", "--epochs", "1", "--examples", "64"]
TINY += ["--device", "cpu", "--threads", "1"]
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quality") / "run"
    done = elattn(*TINY, "--seeds", "2", "-o", path)
    assert done.returncode == 0, done.stderr
    return path


def test_every_model_and_seed_has_its_rows_and_its_curve(run_dir: Path) -> None:
    run = read_quality(run_dir)
    jobs = {(row.model, row.seed) for row in run.rows}
    assert jobs == {(model, seed) for model in ("softmax", "ea-series t=2") for seed in (0, 1)}
    assert all(row.ok and row.value is not None and row.params for row in run.rows)
    assert {(each.model, each.seed, each.epoch) for each in run.curves} == {
        (*job, epoch) for job in jobs for epoch in (0, 1)
    }
    assert {row.backend for row in run.rows} <= {"sdpa", "fused", "eager"}


def test_run_json_says_what_was_asked_and_what_was_read(run_dir: Path) -> None:
    info = json.loads((run_dir / "run.json").read_text())
    assert info["config"]["impl"] == "softmax,ea-series"
    assert info["finished"]
    assert info["environment"]["threads"] == 1
    assert all(len(checksum) == 64 for checksum in info["data"]["mqar"]["files"].values())


def test_a_run_goes_on_with_more_seeds_and_keeps_what_it_has(run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert elattn(*TINY, "--seeds", "1", "-o", path).returncode == 0
    before = (path / "quality.csv").read_text()
    done = elattn("quality", "--resume", "--seeds", "2", "-o", path)
    assert done.returncode == 0, done.stderr
    assert "2 kept from before" in done.stderr
    assert (path / "quality.csv").read_text().startswith(before)
    same = [(row.key, row.metric, row.value) for row in read_quality(run_dir).rows]
    assert [(row.key, row.metric, row.value) for row in read_quality(path).rows] == same


def test_what_an_interrupted_model_left_is_forgotten_and_trained_anew(run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert elattn(*TINY, "--seeds", "1", "-o", path).returncode == 0
    with (path / "curves.csv").open("a") as stream:
        stream.write("mqar,softmax,true,1,0,,accuracy,0.5,0\nmqar,soft")
    with QualityDir.resume(path) as opened:
        assert {key[3] for key in opened.done} == {0}
    assert {each.seed for each in read_quality(path).curves} == {0}


def test_a_model_whose_rows_were_cut_in_the_middle_is_trained_anew(run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(run_dir, path)
    content = (path / "quality.csv").read_bytes()
    (path / "quality.csv").write_bytes(content[:-20])
    last = read_quality(run_dir).rows[-1]
    with QualityDir.resume(path) as opened:
        assert last.key not in opened.done
        assert len(opened.done) == 3


def test_a_run_of_an_older_version_that_knew_fewer_options_goes_on(run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(run_dir, path)
    info = json.loads((path / "run.json").read_text())
    del info["config"]["learning-rate"]
    info["missing"] = {"cifar10": "was not here"}
    (path / "run.json").write_text(json.dumps(info))
    done = elattn("quality", "--resume", "--jobs", "2", "-o", path)
    assert done.returncode == 0, done.stderr
    assert json.loads((path / "run.json").read_text())["missing"] == {}


def test_a_directory_that_is_deleted_under_a_run_costs_nothing_that_was_trained(
    run_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    shutil.copytree(run_dir, path)
    with QualityDir.resume(path) as opened:
        rows = list(opened.rows)
        shutil.rmtree(path)
        with pytest.raises(RunDirError, match="run-rescued") as caught:
            opened.append([replace(rows[0], seed=7)])
    assert "was deleted" in str(caught.value)
    rescued = read_quality(tmp_path / "run-rescued")
    assert [row.key for row in rescued.rows] == [*(row.key for row in rows), replace(rows[0], seed=7).key]


def test_ctrl_c_keeps_finished_models_and_says_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "run"
    slow = [
        "quality",
        "mqar",
        "-i",
        "softmax,linear",
        "--epochs",
        "1000",
        "--examples",
        "64",
        "--threads",
        "1",
    ]
    process = subprocess.Popen(
        [*COMMAND, *slow, "--seeds", "1", "-o", str(path)], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    wait_for_epochs(path, 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"0 of 2 models are on disk; go on with: elattn-bench quality --resume -o {path}" in errors


def test_a_worker_that_is_killed_costs_its_model_alone(tmp_path: Path) -> None:
    path = tmp_path / "run"
    words = [
        "quality",
        "mqar",
        "-i",
        "softmax,linear",
        "--epochs",
        "60",
        "--examples",
        "64",
        "--threads",
        "1",
    ]
    process = subprocess.Popen(
        [*COMMAND, *words, "--seeds", "1", "-o", str(path)],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    wait_for_epochs(path, 3)
    for child in psutil.Process(process.pid).children():
        if "spawn_main" in " ".join(child.cmdline()):
            os.kill(child.pid, signal.SIGSEGV)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert {row.model: row.status for row in read_quality(path).rows} == {"softmax": "error", "linear": "ok"}
    assert "1 models failed" in errors
    done = elattn("quality", "--resume", "-o", path)
    assert done.returncode == 0, done.stderr
    assert {row.status for row in read_quality(path).rows} == {"ok"}


def wait_for_epochs(path: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        curves = path / "curves.csv"
        if curves.is_file() and curves.read_text().count("\n") > count:
            return
        time.sleep(0.1)
    raise AssertionError("no epoch was finished in two minutes")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["quality", "fashion-mnst"], 2, "did you mean 'fashion-mnist'"),
        (["quality", "--suite", "papers"], 2, "did you mean 'paper'"),
        (["quality", "--resume"], 2, "which run"),
        (["quality", "mqar", "-i", "mlp"], 2, "none of these can do mqar"),
        (["quality", "etth1-96"], 1, "ETTh1"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    words: list[str], code: int, message: str, tmp_path: Path
) -> None:
    done = elattn(*words, cwd=tmp_path)
    assert done.returncode == code
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_dry_run_shows_the_models_and_trains_none(tmp_path: Path) -> None:
    done = elattn(*TINY, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2 * SUITES["standard"].seeds
    assert not list(tmp_path.iterdir())


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    done = elattn(*TINY, "--force", "-o", tmp_path)
    assert done.returncode == 1
    assert "will not touch" in " ".join(done.stderr.split())
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_run_that_is_there_is_not_replaced_unasked(run_dir: Path) -> None:
    done = elattn(*TINY, "-o", run_dir)
    assert done.returncode == 1
    assert "--resume" in done.stderr
    assert "--force" in done.stderr


def test_strict_says_by_its_exit_code_that_a_task_had_no_data(tmp_path: Path) -> None:
    words = [
        "quality",
        "--suite",
        "smoke",
        "-i",
        "mean",
        "--epochs",
        "1",
        "--examples",
        "8",
        "--strict",
        "--threads",
        "1",
    ]
    done = elattn(*words, "-o", tmp_path / "run")
    has_data = FASHION_MNIST.is_dir()
    assert done.returncode == (0 if has_data else 4), done.stderr
    assert has_data or "fashion-mnist was left out" in done.stderr


def test_the_smoke_suite_learns_from_real_images(tmp_path: Path) -> None:
    if not FASHION_MNIST.is_dir():
        pytest.skip("Fashion-MNIST is not here: apt install dataset-fashion-mnist")
    done = elattn("quality", "--suite", "smoke", "--strict", "--threads", "1", "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    run = read_quality(tmp_path / "run")
    scores = {
        row.model: row.value for row in run.rows if row.task == "fashion-mnist" and row.value is not None
    }
    guessing = 0.1
    assert min(scores.values()) > 1.5 * guessing
    assert min(scores[name] for name in ("vgg", "hadamard-net-3", "mlp", "logistic")) > 5 * guessing
