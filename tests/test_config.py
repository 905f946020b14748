"""Defaults, TOML and flags become a plan, or a refusal that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from elattn_bench import config
from elattn_bench.errors import UsageError


def plan(**flags: str) -> config.Plan:
    named = {name.replace("_", "-"): text for name, text in flags.items()}
    return config.make_plan(config.merge({}, {"device": "cpu", **named}))


def plan_from(toml: str, folder: Path, **flags: str) -> config.Plan:
    (folder / "sweep.toml").write_text(toml)
    settings = config.read_toml(folder / "sweep.toml")
    return config.make_plan(config.merge(settings, {"device": "cpu", **flags}))


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    made = plan_from('seq-len = "128:512:x2"\ndim = 64\nbatch = [1, 2]\n', tmp_path, batch="4")
    assert {case.seq_len for case in made.cases} == {128, 256, 512}
    assert {case.dim for case in made.cases} == {64}
    assert {case.batch for case in made.cases} == {4}
    assert {case.heads for case in made.cases} == {8}


def test_grids_are_united_and_shared_cases_counted_once(tmp_path: Path) -> None:
    toml = """
    impl = "softmax/eager"
    dim = 64
    mode = "forward"
    [[grid]]
    seq_len = [128, 256]
    [[grid]]
    seq_len = [256]
    dim = [64, 128]
    """
    assert sorted((case.seq_len, case.dim) for case in plan_from(toml, tmp_path).cases) == [
        (128, 64), (256, 64), (256, 128),
    ]  # fmt: skip


def test_a_flag_overrides_every_grid(tmp_path: Path) -> None:
    toml = 'impl = "softmax/eager"\n[[grid]]\ndim = 64\n[[grid]]\ndim = 128\n'
    assert {case.dim for case in plan_from(toml, tmp_path, dim="256").cases} == {256}


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("sequence = 4", "unknown key 'sequence'"),
        ("seqlen = 4", "did you mean 'seq-len'"),
        ("dim = [", "is not TOML"),
        ("[grid]\ndim = 64", r"write \[\[grid\]\]"),
        ("[[grid]]\ndevice = 'cpu'", "stands above the grids"),
        ("quick = 'yes'", "write true or false"),
        ("output = ''", "write a path"),
        ("seq-len = {a = 1}", "write one value, or a list"),
        ("dim = []", "write one value, or a list"),
        ("seq-len = 64\nseq_len = 32", "there twice"),
    ],
)
def test_a_broken_file_is_refused(toml: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        plan_from(toml, tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        config.read_toml(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"mode": "forwad"}, "did you mean 'forward'"),
        ({"level": "model"}, "not one of op, layer, block"),
        ({"dtype": "float8"}, "'float8' is not one of float64"),
        ({"impl": ","}, "names nothing"),
        ({"impl": "softmax,linear", "order": "2"}, "none of softmax, linear has a polynomial order"),
        ({"order": "-2"}, "not a positive whole number"),
        ({"order": "2,5"}, "--order 5"),
        ({"timeout": "0"}, "not a positive number"),
        ({"timeout": "nan"}, "not a positive number"),
        ({"memory_limit": "lots"}, "not a memory limit"),
        ({"memory_limit": "120%"}, "more than all the memory"),
        ({"seed": "9" * 23}, "from 0 to"),
        ({"threads": "100000"}, "from 1 to"),
        ({"threads": "0"}, "from 1 to"),
        ({"seq_len": "1:9000:1", "batch": "1:64:1"}, "more than 100,000"),
        ({"device": "tpu"}, "--device tpu: is not a device"),
    ],
)
def test_a_broken_option_is_refused(flags: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(**flags)


def test_quick_shortens_the_timeout_unless_one_is_given() -> None:
    assert plan(quick="true").timeout == 15
    assert plan(quick="true", timeout="40").timeout == 40
    assert plan().timeout == 60


def test_resume_keeps_the_settings_and_refuses_others() -> None:
    stored = config.merge({}, {"dim": "64"})
    assert config.continued(stored, {"dim": "64"}) == stored
    with pytest.raises(UsageError, match="--dim: the run was started with dim '64'"):
        config.continued(stored, {"dim": "128"})
    with pytest.raises(UsageError, match="drop --rigorous"):
        config.continued(stored, {"rigorous": "true"})


def test_settings_that_merge_makes_are_complete_and_others_are_not() -> None:
    stored = config.merge({"grid": [{"dim": "64"}]}, {})
    assert config.is_complete(stored)
    assert not config.is_complete({**stored, "seq-len": 64})
    assert not config.is_complete({name: text for name, text in stored.items() if name != "device"})
    assert not config.is_complete({**stored, "grid": 3})
    assert not config.is_complete(None)


def test_an_order_above_grids_needs_an_order_in_only_one_of_them(tmp_path: Path) -> None:
    toml = 'order = 2\n[[grid]]\nimpl = "softmax"\n[[grid]]\nimpl = "ea-series"\n'
    assert {case.order for case in plan_from(toml, tmp_path).cases} == {None, 2}
