"""The command as a user types it, through the installed entry point."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
INSTALLED = Path(sys.executable).with_name("elattn-bench")
# The entry point where the package is installed beside this Python, else the plain checkout.
COMMAND = [str(INSTALLED)] if INSTALLED.exists() else [sys.executable, "-m", "elattn_bench"]
ENVIRONMENT = os.environ if INSTALLED.exists() else {**os.environ, "PYTHONPATH": str(ROOT)}
TINY = [
    "sweep", "-i", "softmax/eager,linear/eager", "--seq-len", "32,64", "--dim", "16", "--heads", "2",
    "--mode", "forward", "--device", "cpu", "--threads", "1", "--quick",
]  # fmt: skip


def elattn(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, timeout=240
    )


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "run"
    done = elattn(*TINY, "-o", path)
    assert done.returncode == 0, done.stderr
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with (path / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_sweep_measures_every_case_and_writes_all_three_files(run_dir: Path) -> None:
    assert [row["status"] for row in rows(run_dir)] == ["ok"] * 4
    assert all(float(row["latency_ms_p50"]) > 0 for row in rows(run_dir))
    assert all(int(row["peak_memory_bytes"]) > 0 for row in rows(run_dir))
    samples = [json.loads(line) for line in (run_dir / "samples.jsonl").read_text().splitlines()]
    assert {line["case_id"] for line in samples} == {row["case_id"] for row in rows(run_dir)}
    info = json.loads((run_dir / "run.json").read_text())
    assert info["environment"]["threads"] == 1
    assert info["finished"]
    assert info["config"]["seq-len"] == "32,64"


def test_the_summary_is_on_stdout_and_the_progress_on_stderr(tmp_path: Path) -> None:
    done = elattn(*TINY, "-o", tmp_path / "run")
    assert "softmax/eager" in done.stdout
    assert "Measuring 4 cases" not in done.stdout
    assert "Measuring 4 cases" in done.stderr
    assert "4/4" in done.stderr


def test_compare_speaks_five_formats(run_dir: Path) -> None:
    for format, sign in (("table", "softmax/eager"), ("markdown", "|"), ("latex", r"\toprule"), ("csv", ",")):
        done = elattn("compare", run_dir, "--reference", "softmax/eager", "--format", format)
        assert done.returncode == 0, done.stderr
        assert sign in done.stdout
    document = json.loads(elattn("compare", run_dir, "--reference", "softmax", "--format", "json").stdout)
    assert document


def test_a_run_compared_with_itself_is_the_same_everywhere(run_dir: Path) -> None:
    done = elattn(
        "compare", run_dir, run_dir, "--format", "csv", "--fail-on", "slower", "--threshold", "900%"
    )
    assert done.returncode == 0, done.stderr
    done = elattn("compare", run_dir, run_dir, "--fail-on", "memory")
    assert done.returncode == 0, done.stderr


def test_fail_on_ends_with_three_when_something_was_found(run_dir: Path) -> None:
    done = elattn(
        "compare", run_dir, "--reference", "linear/eager", "--fail-on", "memory", "--threshold", "0.1%"
    )
    assert done.returncode == 3
    assert "softmax/eager" in done.stderr


def test_decoding_is_swept_compared_and_drawn(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = elattn(
        "sweep", "-i", "softmax/cudnn,softmax,linear,ea-series", "--mode", "decode",
        "--causal", "--no-causal", "--order", "2", "--seq-len", "64,1024k", "--dim", "16", "--heads", "2",
        "--device", "cpu", "--threads", "1", "--quick", "-o", run,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {(f"{row['attention']}/{row['backend']}", row["seq_len"]): row for row in rows(run)}
    assert len(found) == len(rows(run)) == 8
    assert {row["status"] for (name, _), row in found.items() if name != "softmax/cudnn"} == {"ok"}
    assert "softmax/cudnn has no recurrent form" in found["softmax/cudnn", "64"]["reason"]
    for length in (64, 2**20):
        cached = found["softmax/sdpa", str(length)]
        assert int(cached["state_bytes"]) == 2 * length * 16 * 4
        assert int(cached["analytic_memory_bytes"]) == 16 * 4
    short, long = found["linear/eager", "64"], found["linear/eager", "1048576"]
    for column in ("state_bytes", "flops", "bytes_moved", "peak_memory_bytes", "analytic_memory_bytes"):
        assert short[column] == long[column] != ""
    tokens = float(short["tokens_per_s"]) * float(short["latency_ms_p50"]) / 1e3
    assert tokens == pytest.approx(1, rel=1e-5)
    for reference, words in (("softmax/sdpa", []), ("linear/eager", ["--reference", "linear"])):
        told = " ".join(elattn("compare", run, *words).stdout.split())
        assert f"Speed-up over {reference}: op, decode" in told
    names = [Path(line).name.partition("-")[0] for line in elattn("plot", run).stdout.splitlines()]
    assert sorted(names) == ["decode", "latency", "memory", "roofline", "scaling.png"]


def test_plot_draws_every_format_and_names_the_files(run_dir: Path) -> None:
    done = elattn("plot", run_dir, "--format", "png,svg,pdf")
    assert done.returncode == 0, done.stderr
    files = [Path(line) for line in done.stdout.splitlines()]
    assert {file.suffix for file in files} == {".png", ".svg", ".pdf"}
    assert all(file.stat().st_size > 1000 for file in files)


def test_list_and_env_speak_json(tmp_path: Path) -> None:
    attentions = json.loads(elattn("list", "--json").stdout)
    assert {"softmax", "ea-series"} <= {entry["attention"] for entry in attentions}
    assert all(entry["runs_here"] or entry["reasons"] for entry in attentions)
    assert all(entry["layer_params"] > 0 and entry["growth"] for entry in attentions)
    machine = json.loads(elattn("env", "--json", "--device", "cpu").stdout)
    assert machine["device"] == "cpu"
    assert machine["torch"]
    assert not any("host" in key for key in machine)


def test_a_dry_run_shows_every_case_and_writes_nothing(tmp_path: Path) -> None:
    done = elattn(*TINY, "--dry-run", "-o", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert "4 cases" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["sweep", "-i", "sofmax"], 2, "did you mean 'softmax'"),
        (["sweep", "-i", "softmax/flsh"], 2, "did you mean 'flash'"),
        (["sweep", "--seq-len", "1k:256:x2"], 2, "runs backwards"),
        (["sweep", "--seq-len", "0"], 2, "too small"),
        (["sweep", "--seq-len", "-5"], 2, "not a positive whole number"),
        (["sweep", "--seq-len", "10000000k"], 2, "absurdly large"),
        (["sweep", "--dim", "100", "--heads", "8"], 2, "not divisible"),
        (["sweep", "-i", "ea-series", "--order", "3"], 2, "odd order"),
        (["sweep", "-i", "softmax", "--order", "2"], 2, "polynomial order"),
        (["sweep", "--dtype", "float8"], 2, "'float8'"),
        (["sweep", "--quick", "--rigorous"], 2, "exclude each other"),
        (["sweep", "--resume"], 2, "which run"),
        (["sweep", "--resume", "-o", "none"], 1, "no run to resume"),
        (["sweep", "none.toml"], 2, "cannot be read"),
        (["sweep", "--seqlen", "5"], 2, "No such option"),
        (["compare", "none"], 1, "no such run directory"),
        (["plot", "none"], 1, "no such run directory"),
    ],
)
def test_bad_input_gets_its_exit_code_and_message_and_writes_nothing(
    tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    done = elattn(*words, cwd=tmp_path)
    assert message in " ".join(done.stderr.split())
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_cuda_without_a_gpu_is_refused(tmp_path: Path) -> None:
    from elattn_bench.device import gpu_names

    if gpu_names():
        pytest.skip("this machine has a GPU")
    done = elattn("sweep", "--device", "cuda", cwd=tmp_path)
    assert done.returncode == 2
    assert "use --device cpu" in done.stderr


def test_an_existing_run_is_refused_and_kept(run_dir: Path) -> None:
    before = (run_dir / "results.csv").read_bytes()
    done = elattn(*TINY, "-o", run_dir)
    assert done.returncode == 1
    assert "--resume" in done.stderr
    assert (run_dir / "results.csv").read_bytes() == before


def test_force_keeps_the_old_run_until_a_new_one_can_begin(run_dir: Path) -> None:
    before = (run_dir / "results.csv").read_bytes()
    done = elattn(*TINY, "-o", run_dir, "--force", "--memory-limit", "1MiB")
    assert done.returncode == 1
    assert "torch alone holds" in done.stderr
    assert (run_dir / "results.csv").read_bytes() == before


@pytest.mark.parametrize("info", ['{"config": {}, "environment": {}}', '{"config": {"device": "cpu"}}', "[]"])
def test_resume_refuses_a_run_whose_settings_are_lost(tmp_path: Path, info: str) -> None:
    (tmp_path / "results.csv").touch()
    (tmp_path / "run.json").write_text(info)
    done = elattn("sweep", "--resume", "-o", tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_unknown_reference_and_metric_and_kind_are_refused(run_dir: Path) -> None:
    for command, option, word, message in (
        ("compare", "--reference", "softmx", "softmax"),
        ("compare", "--metric", "speed", "latency"),
        ("compare", "--threshold", "much", "write 5%"),
        ("plot", "--kind", "latncy", "latency"),
        ("plot", "--format", "gif", "png"),
        ("plot", "--kind", "order", "order"),
    ):
        done = elattn(command, run_dir, option, word)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_an_interrupted_sweep_keeps_its_rows_and_resume_completes_it(
    tmp_path: Path, number: int, code: int
) -> None:
    path = tmp_path / "run"
    words = [*TINY, "-o", str(path)]
    words[words.index("32,64")] = "32:256:32"
    with subprocess.Popen(
        [*COMMAND, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=ENVIRONMENT
    ) as process:
        wait_for_rows(path, 3)
        os.kill(process.pid, number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    kept = [row["case_id"] for row in rows(path)]
    # A row is seen before it is synced; one that the signal met in between is withdrawn whole.
    assert 2 <= len(kept) < 16
    assert "Traceback" not in stderr
    if number != signal.SIGKILL:
        assert f"elattn-bench sweep --resume -o {path}" in stderr
    done = elattn("sweep", "--resume", "-o", path)
    assert done.returncode == 0, done.stderr
    ids = [row["case_id"] for row in rows(path)]
    assert ids[: len(kept)] == kept
    assert len(ids) == len(set(ids)) == 16


def wait_for_rows(path: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (path / "results.csv").exists() and (path / "results.csv").read_text().count("\n") > count:
            return
        time.sleep(0.02)
    pytest.fail("the sweep wrote no rows")


def test_resume_refuses_another_machines_run(tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert elattn(*TINY, "-o", path).returncode == 0
    info = json.loads((path / "run.json").read_text())
    info["environment"]["cpu_model"] = "Abacus 9000"
    (path / "run.json").write_text(json.dumps(info))
    done = elattn("sweep", "--resume", "-o", path)
    assert done.returncode == 1
    assert "cpu_model: Abacus 9000 there" in done.stderr


def test_strict_turns_failed_cases_into_exit_code_four(tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert elattn(*TINY, "-o", path, "--strict").returncode == 0
    results = path / "results.csv"
    results.write_text(results.read_text().replace(",ok,,", ",error,it broke,", 1))
    assert elattn("sweep", "--resume", "-o", path).returncode == 0
    assert elattn("sweep", "--resume", "-o", path, "--strict").returncode == 4


def test_help_answers_without_torch_or_matplotlib() -> None:
    code = (
        "import sys; sys.argv = ['elattn-bench', '--help']\n"
        "from elattn_bench.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'matplotlib', 'numpy', 'pynvml', 'triton'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "heavy: []" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RUN", "--absolute", "--reference", "softmax"], "--absolute shows each impl for itself"),
        (["RUN", "--absolute", "--fail-on", "slower"], "--absolute shows each impl for itself"),
        (["RUN", "--absolute", "--metric", "speed"], "latency"),
        (["RUN", "--where", "seq-len=33"], "this run has 32, 64"),
        (["RUN", "RUN", "--absolute"], "is for one run"),
        (["softmax", "linear", "--live", "--where", "dim=64"], "is for runs"),
    ],
)
def test_what_absolute_and_where_do_not_go_with_is_refused(
    run_dir: Path, words: list[str], message: str
) -> None:
    done = elattn("compare", *(run_dir if word == "RUN" else word for word in words))
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split())


def test_the_module_runs_from_a_plain_checkout() -> None:
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "elattn_bench", "--version"],
        capture_output=True,
        text=True,
        cwd=root,
        timeout=60,
    )
    assert done.stdout.startswith("elattn-bench ")


def test_output_is_plain_where_there_is_no_terminal(run_dir: Path) -> None:
    assert "\x1b" not in elattn("compare", run_dir, "--reference", "softmax").stdout
    assert "\x1b" not in elattn("list").stdout


LIVE = [
    "compare", "--live", "softmax/eager", "linear/eager", "--seq-len", "32,64", "--dim", "16", "--heads", "2",
    "--device", "cpu", "--threads", "1", "--quick",
]  # fmt: skip


def test_two_impls_compared_live_give_a_ratio_and_a_verdict_for_each_case() -> None:
    done = elattn(*LIVE, "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {record["seq_len"] for record in document["records"]} == {32, 64}
    for record in document["records"]:
        assert record["latency_ratio_low"] <= record["latency_ratio"] <= record["latency_ratio_high"]
        assert record["verdict"] in ("faster", "slower", "same", "unclear")
    assert "2/2" in done.stderr


def test_live_a_wrong_impl_is_refused_by_the_gate_and_fails_when_asked_to() -> None:
    words = [word.replace("linear/eager", "elattn_bench.selftest_impls:wrong") for word in LIVE]
    done = elattn(*words, "--fail-on", "error")
    assert done.returncode == 3, done.stderr
    assert done.stdout.count("not measured") >= 2
    assert "float64 oracle" in " ".join(done.stdout.split())


def test_a_live_comparison_that_is_interrupted_shows_what_it_has() -> None:
    words = [word.replace("32,64", "32:2k:32") for word in LIVE]
    with subprocess.Popen(
        [*COMMAND, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stderr
        while " 2/64" not in (line := process.stderr.readline()):
            assert line, "it ended before it was interrupted"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "of 64 comparisons were finished" in stderr
    assert "Traceback" not in stderr
    assert " of 64 cases: " in stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--live", "softmax"], "name the second"),
        (["--live", "softmax", "linaer"], "did you mean 'linear'"),
        (["--live", "softmax", "linear", "--metric", "memory"], "--metric is for runs"),
        (["--live", "softmax", "linear", "--fail-on", "memory"], "latency alone"),
        (["--live", "softmax", "linear", "--threshold", "much"], "write 5%"),
        (["--live", "softmax", "linear", "--quick", "--rigorous"], "exclude each other"),
        (["run", "--seq-len", "1k"], "--seq-len is for --live"),
        (["run", "--quick"], "--quick is for --live"),
    ],
)
def test_bad_input_to_a_live_comparison_gets_its_message(words: list[str], message: str) -> None:
    done = elattn("compare", *words)
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""
