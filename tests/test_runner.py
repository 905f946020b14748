"""Around the sweep: what is recorded, and what a person is warned of."""

from __future__ import annotations

from pathlib import Path

import pytest

from elattn_bench import environment, runner
from elattn_bench.errors import RunDirError
from elattn_bench.rundir import RunDir


def test_a_run_without_its_settings_cannot_be_resumed(tmp_path: Path) -> None:
    RunDir.create(tmp_path / "run", {"environment": {}}).close()
    with pytest.raises(RunDirError, match="does not say how the run was started"):
        runner.stored_settings(tmp_path / "run")


def test_the_environment_names_the_machine_but_not_the_host() -> None:
    import socket

    described = environment.describe()
    assert described["cpu_model"]
    assert described["memory_bytes"] > 0
    assert socket.gethostname() not in map(str, described.values())


def test_differences_are_named_with_both_sides_and_unknown_ones_pass() -> None:
    there, here = {"torch": "2.6", "threads": None}, {"torch": "2.7", "threads": 4}
    assert environment.differences(there, here, ("torch", "threads")) == ["torch: 2.6 there, 2.7 here"]
