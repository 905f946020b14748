"""The run directory on good and bad days."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from elattn_bench.cases import Case
from elattn_bench.errors import RunDirError
from elattn_bench.results import COLUMNS, SCHEMA_VERSION, Measurement, Row, Skipped, make_row
from elattn_bench.rundir import RunDir, read_run

CASE = Case("ea-series", "eager", "layer", "train", "float32", "cpu", True, 2, 8, 128, 64, 6)
MEASUREMENT = Measurement(
    latency_ms=(2.0, 1.0, 3.0),
    stability="stable",
    peak_memory_bytes=0,
    total_memory_bytes=7,
    rel_rms_error=1e-7,
)


def filled(path: Path) -> Path:
    with RunDir.create(path, {"config": {}}) as run_dir:
        run_dir.append(CASE, MEASUREMENT)
    return path


def test_the_columns_are_the_documented_ones() -> None:
    expected = (
        "schema case_id status reason attention backend level mode dtype device causal batch heads seq_len "
        "dim order hyperparameters params cache ranks device_type host device_name latency_ms_p50 "
        "latency_ms_p25 latency_ms_p75 latency_ms_min latency_ms_mean latency_ms_ci_low latency_ms_ci_high "
        "samples visits stability stability_reason stopped_by tokens_per_s peak_memory_bytes "
        "total_memory_bytes rss_peak_bytes device_peak_bytes analytic_memory_bytes state_bytes received_bytes "
        "received_bytes_formula work_ms flops bytes_moved gflops_per_s gbytes_per_s ceiling_fraction "
        "max_abs_error rel_rms_error approximation_error outside_band compile_s clock_mhz power_w "
        "temperature_c energy_j_per_token timed_s case_s warnings"
    )
    assert " ".join(COLUMNS) == expected


def test_a_row_survives_the_way_to_disk_and_back(tmp_path: Path) -> None:
    (row,) = read_run(filled(tmp_path / "run")).rows
    assert row == Row.from_csv(make_row(CASE, MEASUREMENT).to_csv())
    assert (row.latency_ms_p50, row.samples, row.order, row.causal) == (2.0, 3, 6, True)


def test_zero_is_written_and_what_does_not_apply_is_empty() -> None:
    text = make_row(CASE, MEASUREMENT).to_csv()
    assert text["peak_memory_bytes"] == "0"
    assert text["compile_s"] == text["ceiling_fraction"] == text["max_abs_error"] == ""


def test_a_skipped_case_has_no_latency_but_keeps_its_axes_and_cost() -> None:
    text = make_row(CASE, Skipped("oom", "too\nbig, by far")).to_csv()
    assert (text["status"], text["reason"], text["latency_ms_p50"]) == ("oom", "too big, by far", "")
    assert int(text["flops"]) > 0


def test_an_existing_run_is_neither_overwritten_nor_touched_without_force(tmp_path: Path) -> None:
    path = filled(tmp_path / "run")
    before = (path / "results.csv").read_bytes()
    with pytest.raises(RunDirError, match="already exists.*--resume.*--force"):
        RunDir.create(path, {})
    assert (path / "results.csv").read_bytes() == before


def test_force_replaces_a_run(tmp_path: Path) -> None:
    path = filled(tmp_path / "run")
    RunDir.create(path, {"fresh": True}, force=True).close()
    assert (path / "results.csv").read_text().count("\n") == 1
    assert not (path / "samples.jsonl").exists()


def test_force_does_not_delete_other_peoples_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunDirError, match=r"other files \(thesis.tex\)"):
        RunDir.create(tmp_path, {}, force=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_directory_without_a_row_is_free_for_a_new_run(tmp_path: Path) -> None:
    RunDir.create(tmp_path / "run", {"config": {}}).close()
    RunDir.create(tmp_path / "run", {"config": {}}).close()
    (tmp_path / "run" / "results.csv").write_bytes(b"")
    (tmp_path / "run" / "run.json.new").touch()
    RunDir.create(tmp_path / "run", {"config": {}}).close()


def test_a_results_file_in_place_of_its_directory_is_told_so(tmp_path: Path) -> None:
    path = filled(tmp_path / "run")
    with pytest.raises(RunDirError, match="is a file; name the run directory"):
        read_run(path / "results.csv")


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirError, match="is a file"):
        RunDir.create(tmp_path / "file", {})


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirError, match="cannot be written"):
        RunDir.create(tmp_path / "file" / "run", {})


def test_resume_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="no run to resume"):
        RunDir.resume(tmp_path / "none")


def test_two_sweeps_cannot_share_a_directory(tmp_path: Path) -> None:
    filled(tmp_path / "run")
    hold = (
        "import sys; from pathlib import Path; from elattn_bench.rundir import RunDir\n"
        "with RunDir.resume(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunDirError, match="another run is writing"):
            RunDir.resume(tmp_path / "run")
        for force in (False, True):
            with pytest.raises(RunDirError, match="another run is writing"):
                RunDir.create(tmp_path / "run", {}, force=force)
        other.communicate("")
    RunDir.resume(tmp_path / "run").close()


def test_a_full_disk_leaves_whole_lines_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path / "run")
    before = (path / "results.csv").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with RunDir.resume(path) as run_dir:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunDirError, match="the disk is full.*--resume"):
            run_dir.append(CASE, Skipped("error", "x"))
    assert (path / "results.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a,b\n1,2\n", "columns schema, case_id, status ... are missing"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (",".join(COLUMNS).encode() + b"\n", "no case is measured yet"),
        (f"schema,novelty\n{SCHEMA_VERSION + 1},9\n".encode(), "newer elattn-bench"),
    ],
)
def test_a_results_file_that_is_not_ours_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "results.csv").write_bytes(content)
    with pytest.raises(RunDirError, match=message):
        read_run(tmp_path)


def test_a_missing_run_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="no such run directory"):
        read_run(tmp_path / "none")
    with pytest.raises(RunDirError, match=r"holds no results\.csv"):
        read_run(tmp_path)


def test_a_line_cut_in_the_middle_of_the_file_is_named(tmp_path: Path) -> None:
    path = filled(tmp_path / "run") / "results.csv"
    path.write_text(path.read_text() + "1,half,of\n" + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(RunDirError, match="line 3 does not have one value per column"):
        read_run(tmp_path / "run")


def test_a_value_of_the_wrong_type_is_named_with_line_and_column(tmp_path: Path) -> None:
    path = filled(tmp_path / "run") / "results.csv"
    path.write_text(path.read_text().replace(",128,64,", ",many,64,"))
    with pytest.raises(RunDirError, match=r"line 2: column seq_len: 'many'"):
        read_run(tmp_path / "run")


def test_a_half_written_last_line_is_left_out_with_a_warning(tmp_path: Path) -> None:
    path = filled(tmp_path / "run") / "results.csv"
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines()[1][:40])
    run = read_run(tmp_path / "run")
    assert len(run.rows) == 1
    assert "cut short" in run.warnings[0]


def test_run_info_is_json_and_a_broken_one_is_named(tmp_path: Path) -> None:
    path = filled(tmp_path / "run")
    assert json.loads((path / "run.json").read_text()) == {"config": {}}
    (path / "run.json").write_text("{")
    with pytest.raises(RunDirError, match="is not JSON"):
        read_run(path)
