"""Reading a run needs no torch: every format, every schema that was ever committed."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import made_up
import pytest

from elattn_bench.results import LATER_COLUMNS

COMMITTED = sorted(
    path.parent for path in (Path(__file__).parent.parent / "docs/results").glob("*/results.csv")
)

WITHOUT_TORCH = """
import sys

class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, Missing())
sys.argv = ["elattn-bench", *sys.argv[1:]]
from elattn_bench.cli import main
main()
"""


def without_torch(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command on a machine where ``import torch`` fails."""
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("without-torch") / "run"
    made_up.write_run(path, made_up.cases(["softmax/eager", "linear/eager"], (32, 64)))
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with (path / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("words", [["list"], ["compare", "RUN", "--reference", "softmax"], ["plot", "RUN"]])
def test_reading_commands_work_without_torch(run_dir: Path, words: list[str]) -> None:
    done = without_torch(*(run_dir if word == "RUN" else word for word in words))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("format", ["table", "markdown", "latex", "csv", "json"])
def test_every_format_works_without_torch(run_dir: Path, format: str) -> None:
    for words in (["--reference", "softmax"], ["--absolute"], ["--absolute", "--where", "seq-len=32"]):
        done = without_torch("compare", run_dir, *words, "--format", format)
        assert done.returncode == 0, done.stderr
        assert done.stdout


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_committed_runs_of_every_schema_are_read_without_torch(path: Path) -> None:
    for words in ([path, "--absolute"], [path, path]):
        done = without_torch("compare", *words, "--format", "json")
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)["records"]) == len(rows(path))


def test_an_older_schema_without_samples_is_read_without_torch(run_dir: Path, tmp_path: Path) -> None:
    """Schema 1 had fewer columns; and samples.jsonl may be lost."""
    with (tmp_path / "results.csv").open("w", newline="") as stream:
        columns = [column for column in rows(run_dir)[0] if column not in LATER_COLUMNS]
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**row, "schema": "1"} for row in rows(run_dir))
    done = without_torch("compare", tmp_path, "--absolute", "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + len(rows(run_dir))
