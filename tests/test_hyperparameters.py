"""``--hp``: its grammar, whom it reaches, and its way through cases and results."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_up
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elattn_bench import (
    catalogue,
    config,
    knob_axes,
    sweep,
)
from elattn_bench.cases import Case, Impl
from elattn_bench.errors import RunDirError, UsageError
from elattn_bench.figures.look import README
from elattn_bench.figures.scaling import draw_scaling
from elattn_bench.knobs import Hyperparameters, Value, sort_key, text_of, value_of, values_of
from elattn_bench.prediction import Predictor
from elattn_bench.results import COLUMNS, LATER_COLUMNS, SCHEMA_VERSION, Row, make_row
from elattn_bench.rundir import RunDir, read_run
from elattn_bench.runner import stored_settings
from elattn_bench.verdicts import runs

SCALING = (("normalisation", "scaling"),)
SOFTMAX = (("normalisation", "softmax"),)
SMALL = {"device": "cpu", "mode": "forward", "seq-len": "128", "dim": "64"}


def plan(impl: str, *hp: str, **flags: str) -> config.Plan:
    named = {name.replace("_", "-"): text for name, text in flags.items()}
    given = {**SMALL, "impl": impl, **({"hp": config.as_text(list(hp))} if hp else {}), **named}
    return config.make_plan(config.merge({}, given))


def asked(impl: str, *hp: str, **flags: str) -> list[Hyperparameters]:
    return [case.hyperparameters for case in plan(impl, *hp, **flags).cases]


def values(name: str, hp: str) -> list[Value]:
    return [dict(each)[name] for each in asked("knobby:every", hp, order="2")]


# The grammar


@pytest.mark.parametrize(
    ("hp", "expected"),
    [
        ("latents=512", [512]),
        ("latents=1k,2k", [1024, 2048]),
        ("latents=64:256:x2", [64, 128, 256]),
        ("latents=256,64,64", [64, 256]),
        (" latents = 64 , 256 ", [64, 256]),
        ("scale=1,2.5,1e3,2.50", [1.0, 2.5, 1000.0]),
        ("gate=true,false", [True, False]),
        ("pool=none,sum", ["none", "sum"]),
        ("window=none", [None]),
        ("window=none,8,1k,16:32:8,0.5,true,wide", [None, 8, 1024, 16, 24, 32, 0.5, True, "wide"]),
    ],
)
def test_the_grammar_is_that_of_the_knobs_type(hp: str, expected: list[Value]) -> None:
    found = values(hp.partition("=")[0].strip(), hp)
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))


@pytest.mark.parametrize(
    ("hp", "message"),
    [
        ("latents", "--hp latents: write NAME=VALUES, for example latents=64,256, or perceiver.latents=64"),
        ("=64", "--hp =64: write NAME=VALUES, for example latents=64,256, or perceiver.latents=64"),
        ("latents=", "--hp latents=: write NAME=VALUES, for example latents=64,256, or perceiver.latents=64"),
        (
            ".latents=3",
            "--hp .latents=3: write NAME=VALUES, for example latents=64,256, or perceiver.latents=64",
        ),
        ("order=2", "--hp order=2: the order has an axis of its own: --order"),
        ("knobby:every.order=2", "--hp knobby:every.order=2: the order has an axis of its own: --order"),
        (
            "latents=8x",
            "--hp latents=8x: '8x' is not a positive whole number; write 512, 1k,2k or 256:8192:x2",
        ),
        ("latents=1,", "--hp latents=1,: '' is not a positive whole number; write 512, 1k,2k or 256:8192:x2"),
        ("latents=9:3:1", "--hp latents=9:3:1: the range runs backwards; write 3:9:1"),
        ("latents=0", "--hp latents=0: knobby:every refuses latents=0: it is 1 or more"),
        ("scale=1,big", "--hp scale=1,big: 'big' is not a number; write for example 1"),
        ("scale=nan", "--hp scale=nan: 'nan' is not a number; write for example 1"),
        ("scale=0.5", "--hp scale=0.5: knobby:every refuses scale=0.5: it is 1 or more"),
        ("scale=none", "--hp scale=none: 'none' is not a number; write for example 1"),
        ("gate=yes", "--hp gate=yes: 'yes' is not a switch; write true or false"),
        ("pool=mean", "--hp pool=mean: knobby:every refuses pool=mean: it is one of: none, sum"),
        ("pool=sum,", "--hp pool=sum,: '' is not a word; write one value, or several with commas"),
        ("pool=a b", "--hp pool=a b: 'a b' is not a word; write one value, or several with commas"),
        ("latents=1,latents=2", "--hp latents=2: latents is there twice; write latents=1,2"),
        (
            "latent=1",
            "--hp latent=1: knobby:every has no hyperparameter 'latent' (did you mean 'latents'?); "
            "knobby:every has latents, scale, gate, pool, window",
        ),
    ],
)
def test_what_is_refused_and_how(hp: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        plan("knobby:every", hp)
    assert str(refusal.value) == message


WORDS = st.text("abcdefghijklmnopqrstuvwxyz_-.+0123456789", min_size=1).filter(
    lambda word: isinstance(value_of(word), str)  # what looks like a number is one
)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS
NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1)


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_every_value_survives_its_text(drawn: dict[str, Value]) -> None:
    known = tuple(sorted(drawn.items()))
    found = values_of(text_of(known))
    assert found == known
    assert [isinstance(value, bool) for _, value in found] == [isinstance(value, bool) for _, value in known]


@given(st.lists(VALUES, min_size=2, max_size=6))
def test_lines_can_always_be_sorted_and_numbers_are_numbers(drawn: list[Value]) -> None:
    keys = sorted(sort_key((("x", value),)) for value in drawn)
    numbers = [key[0][2] for key in keys if not key[0][1]]
    assert numbers == sorted(numbers)


@given(st.dictionaries(NAMES, st.lists(st.integers(1, 99), min_size=1, max_size=3), min_size=1, max_size=4))
def test_requests_joined_by_commas_are_the_requests(drawn: dict[str, list[int]]) -> None:
    drawn.pop("order", None)
    text = ",".join(f"{name}={','.join(map(str, found))}" for name, found in drawn.items())
    found = {each.knob: [int(word) for word in each.values.split(",")] for each in knob_axes.parse(text)}
    assert found == drawn


# Whom it reaches, and the grid


def test_only_the_attentions_that_have_the_knob_are_multiplied() -> None:
    cases = plan("knobby:latents,knobby:windowed,linear", "window=8,16").cases
    assert [(case.attention, case.knobs) for case in cases] == [
        ("knobby:latents", None), ("knobby:windowed", "window=8"), ("knobby:windowed", "window=16"),
        ("linear", None),
    ]  # fmt: skip


def test_several_knobs_span_their_product_sorted_by_name() -> None:
    assert asked("knobby:windowed", "window=8,16", "latents=1,2") == [
        (("latents", latents), ("window", window)) for latents in (1, 2) for window in (8, 16)
    ]


def test_a_value_for_one_attention_takes_the_place_of_one_for_all_whatever_comes_first() -> None:
    for hp in (["latents=1,2", "knobby:latents.latents=7"], ["knobby:latents.latents=7", "latents=1,2"]):
        cases = plan("knobby:latents,knobby:windowed", *hp).cases
        assert [(case.attention, dict(case.hyperparameters)["latents"]) for case in cases] == [
            ("knobby:latents", 7), ("knobby:windowed", 1), ("knobby:windowed", 2),
        ]  # fmt: skip


def test_order_and_knobs_multiply_and_the_order_keeps_its_own_field() -> None:
    cases = plan("ea-series/eager", "scale=0.5,1", order="2,4").cases
    assert {(case.order, case.knobs) for case in cases} == {
        (order, f"scale={scale}") for order in (2, 4) for scale in ("0.5", "1")
    }
    assert len(cases) == 4
    assert cases[0].problem.hyperparameters == {"order": 2, "scale": 0.5}


def test_a_knob_that_nobody_has_is_refused_with_those_that_they_have() -> None:
    with pytest.raises(UsageError) as refusal:
        plan("softmax,linear,efficient", "normalization=scaling")
    assert str(refusal.value) == (
        "--hp normalization=scaling: none of softmax, linear, efficient has a hyperparameter 'normalization' "
        "(did you mean 'normalisation'?); softmax has scale; linear has none; efficient has normalisation"
    )


def test_an_attention_that_is_not_in_the_sweep_is_refused_and_one_without_the_knob_too() -> None:
    with pytest.raises(
        UsageError, match=r"'eficient' is not among the impls: efficient, linear \(did you mean"
    ):
        plan("efficient,linear", "eficient.normalisation=scaling")
    with pytest.raises(UsageError, match="linear has no hyperparameter 'normalisation'; linear has none"):
        plan("efficient,linear", "linear.normalisation=scaling")


def test_without_hp_nothing_changes() -> None:
    (case,) = plan("efficient/eager").cases
    assert (case.hyperparameters, case.knobs, dict(case.problem.hyperparameters)) == ((), None, {})
    assert case.case_id == "efficient/eager:op:forward:float32:full:b1:h8:L128:D64"
    assert case.label == "efficient/eager"


def test_a_default_that_was_asked_for_is_shown() -> None:
    (case,) = plan("efficient/eager", "normalisation=softmax").cases
    assert case.case_id == "efficient/eager:op:forward:float32:full:b1:h8:L128:D64:normalisation=softmax"
    assert case.label == "efficient/eager normalisation=softmax"


def test_ids_and_labels_hold_order_and_every_knob() -> None:
    case = made_up.case(
        "ea-series/eager", order=6, hyperparameters=(("scale", 0.5), ("stabiliser", False)), cache="cold"
    )
    assert case.case_id.endswith(":D64:t6:scale=0.5:stabiliser=false:cold")
    assert case.label == "ea-series/eager t=6 scale=0.5 stabiliser=false"


def test_as_many_cases_are_counted_as_there_are_at_most() -> None:
    impls = tuple(map(Impl.parse, ("knobby:windowed", "knobby:bare", "knobby:latents")))
    requests = knob_axes.parse("latents=1:9:1,window=1,2")
    axes = tuple(axis for impl in impls for axis in knob_axes.axes_of(requests, impl.attention))
    (one,) = plan("knobby:bare").cases
    from elattn_bench.cases import Grid

    grid = Grid(
        impls, (one.seq_len,), (one.dim,), (6,), (1,), (8,), ("float32",), (False,), ("forward",), ("op",), "cpu",
        knobs=axes,
    )  # fmt: skip
    assert grid.upper_bound() == len(grid.cases()) == 9 * 2 + 1 + 9


def test_a_sweep_over_too_many_values_is_refused_before_they_are_made() -> None:
    with pytest.raises(UsageError, match="more than 100,000"):
        plan("knobby:windowed", "latents=1:9999:1", "window=1:9999:1")


# Every attention at once


def test_all_is_every_attention_and_may_be_combined() -> None:
    import attention_impls

    cases = plan("all,softmax/eager").cases
    assert {case.attention for case in cases} == set(attention_impls.names())
    assert {"softmax/sdpa", "softmax/eager"} <= {case.impl for case in cases}
    assert len({case.case_id for case in cases}) == len(cases)


def test_all_in_a_file(tmp_path: Path) -> None:
    assert from_toml(tmp_path, 'impl = "all"') == plan("all").cases
    assert from_toml(tmp_path, 'impl = ["all", "softmax/eager"]') == plan("all,softmax/eager").cases


# Config files and resume


def from_toml(folder: Path, toml: str, **flags: str) -> list[Case]:
    (folder / "sweep.toml").write_text(toml)
    settings = config.read_toml(folder / "sweep.toml")
    return list(config.make_plan(config.merge({**SMALL, **settings}, flags)).cases)


@pytest.mark.parametrize(
    "toml",
    [
        'hp = "latents=64,256,window=1"',
        'hp = ["latents=64,256", "window=1"]',
        "[hp]\nlatents = [64, 256]\nwindow = 1",
        '[hp]\nlatents = "64,256"\nwindow = 3\n"knobby:windowed".window = 1',
        '[[grid]]\nhp = ["latents=64,256", "window=1"]',
        "[[grid]]\nhp = {latents = [64, 256], window = 1}",
        'hp = "latents=3"\n[[grid]]\n[grid.hp]\nlatents = [64, 256]\nwindow = 1',
    ],
)
def test_a_file_says_the_same_in_several_ways(toml: str, tmp_path: Path) -> None:
    found = from_toml(tmp_path, f'impl = "knobby:windowed"\n{toml}')
    assert found == plan("knobby:windowed", "latents=64,256", "window=1").cases


def test_a_flag_overrides_the_files_knobs_in_every_grid(tmp_path: Path) -> None:
    toml = 'impl = "knobby:latents"\nhp = "latents=3"\n[[grid]]\nhp = "latents=4"\n[[grid]]\ndim = 128\n'
    assert {case.knobs for case in from_toml(tmp_path, toml)} == {"latents=3", "latents=4"}
    assert {case.knobs for case in from_toml(tmp_path, toml, hp="latents=9")} == {"latents=9"}


def test_a_knob_above_grids_must_reach_one_of_them_and_a_knob_in_a_grid_that_one(tmp_path: Path) -> None:
    grids = '[[grid]]\nimpl = "linear"\n{}\n[[grid]]\nimpl = "knobby:latents"\n'
    found = from_toml(tmp_path, 'hp = "latents=3"\n' + grids.format(""))
    assert [case.knobs for case in found] == [None, "latents=3"]
    with pytest.raises(UsageError, match="linear has no hyperparameter 'latents'; linear has none"):
        from_toml(tmp_path, grids.format('hp = "latents=3"'))


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[hp]\nlatents = []", r"hp.latents = \[\]: write one value, or a list of values"),
        ("hp = []", r"hp = \[\]: write one value, or a list of values"),
        ("[hp]\norder = 2", "--hp order=2: the order has an axis of its own: --order"),
        ("dim = {hp = 3}", "write one value, or a list of values"),
    ],
)
def test_a_broken_file_is_refused(toml: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        from_toml(tmp_path, f'impl = "knobby:windowed"\n{toml}')


def test_resume_completes_the_same_knobs_and_refuses_others() -> None:
    stored = config.merge({}, {**SMALL, "impl": "knobby:latents", "hp": "latents=1,2"})
    assert config.continued(stored, {"hp": "latents=1,2"}) == stored
    with pytest.raises(UsageError, match="--hp: the run was started with hp 'latents=1,2'.*drop --hp"):
        config.continued(stored, {"hp": "latents=1,2,3"})


def test_resume_measures_only_the_values_that_are_missing(tmp_path: Path) -> None:
    cases = plan("efficient/eager", "normalisation=softmax,scaling", seq_len="128,256").cases
    measured: list[Case] = []

    def measure(case: Case) -> Any:
        measured.append(case)
        return made_up.measured(1.0)

    with RunDir.create(tmp_path / "run", {}) as run_dir:
        for case in cases[:3]:
            run_dir.append(case, made_up.measured(1.0))
    with RunDir.resume(tmp_path / "run") as run_dir:
        sweep.run(cases, run_dir, measure, Deaf())
    assert measured == list(cases[3:])


class Deaf:
    def started(self, case: Case) -> None:
        pass

    def finished(self, case: Case, row: Row) -> None:
        pass


# results.csv


KNOBS = (("gate", True), ("latents", 64), ("pool", "sum"), ("scale", 0.1234567891), ("window", None))


def records_of(path: Path) -> list[dict[str, str]]:
    with (path / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_column_follows_the_order_and_survives_the_way_to_disk(tmp_path: Path) -> None:
    run = made_up.write_run(
        tmp_path / "run", {made_up.case("knobby:every/eager", hyperparameters=KNOBS): made_up.OOM}
    )
    (row,) = run.rows
    assert COLUMNS[COLUMNS.index("hyperparameters") - 1] == "order"
    assert row.hyperparameters == KNOBS
    (record,) = records_of(tmp_path / "run")
    assert record["hyperparameters"] == "gate=true;latents=64;pool=sum;scale=0.1234567891;window=none"
    assert record["schema"] == str(SCHEMA_VERSION) == "4"


def test_the_column_is_empty_where_nothing_was_asked_for() -> None:
    assert make_row(made_up.case(), made_up.OOM).to_csv()["hyperparameters"] == ""


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_a_row_survives_its_text_whatever_the_values(drawn: dict[str, Value]) -> None:
    row = replace(make_row(made_up.case(), made_up.OOM), hyperparameters=tuple(sorted(drawn.items())))
    assert Row.from_csv(row.to_csv()) == row


def test_a_broken_column_is_named() -> None:
    record = make_row(made_up.case(), made_up.OOM).to_csv()
    with pytest.raises(ValueError, match="column hyperparameters: '64' is not of type"):
        Row.from_csv({**record, "hyperparameters": "64"})


OF_SCHEMA_2 = {
    "cache", "visits", "stability_reason", "stopped_by", "device_peak_bytes", "analytic_memory_bytes",
    "approximation_error", "outside_band", "clock_mhz", "power_w", "temperature_c", "energy_j_per_token", "timed_s",
    "case_s", "warnings",
}  # fmt: skip


def of_schema_2(path: Path) -> None:
    """Make the run one of the version before."""
    results, records = path / "results.csv", records_of(path)
    columns = [column for column in COLUMNS if column not in LATER_COLUMNS or column in OF_SCHEMA_2]
    with results.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({**record, "schema": "2"} for record in records)


def test_a_run_of_schema_2_is_read_compared_and_drawn_but_not_resumed(tmp_path: Path) -> None:
    cases = made_up.cases(made_up.LAWS, (128, 256))
    new = made_up.write_run(tmp_path / "new", cases)
    made_up.write_run(tmp_path / "old", cases)
    of_schema_2(tmp_path / "old")
    old = read_run(tmp_path / "old")
    here = new.device_name
    assert [replace(row, schema=SCHEMA_VERSION, device_name=here) for row in old.rows] == list(new.rows)
    assert {change.verdict for change in runs.compare_runs(old, new)} <= {"same", "unclear"}
    assert len(list(draw_scaling(old, README))) == 1
    with pytest.raises(RunDirError, match="columns of another version"):
        RunDir.resume(tmp_path / "old")


def test_a_run_that_schema_2_began_is_not_resumed_and_says_why(tmp_path: Path) -> None:
    made_up.write_run(tmp_path / "run", [made_up.case()])
    info = {"schema": 2, "config": {}, "environment": {}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(info))
    with pytest.raises(RunDirError, match="schema 2, this one writes 4"):
        stored_settings(tmp_path / "run")


# What one value teaches of another: nothing


def test_a_value_that_ran_out_of_memory_says_nothing_of_another(tmp_path: Path) -> None:
    cases = plan("efficient/eager", "normalisation=scaling,softmax", seq_len="128,256").cases

    def measure(case: Case) -> Any:
        return made_up.OOM if case.hyperparameters == SCALING else made_up.measured(1.0)

    with RunDir.create(tmp_path / "run", {}) as run_dir:
        sweep.run(cases, run_dir, measure, Deaf(), Predictor(2**40))
    found = {(row.seq_len, row.hyperparameters): row.status for row in read_run(tmp_path / "run").rows}
    assert found == {
        (128, SCALING): "oom", (256, SCALING): "predicted_oom", (128, SOFTMAX): "ok", (256, SOFTMAX): "ok",
    }  # fmt: skip


def test_what_a_resumed_run_knows_holds_for_a_knob_whose_word_is_none(tmp_path: Path) -> None:
    cases = plan("knobby:every", "pool=none", seq_len="128,256", order="2").cases
    with RunDir.create(tmp_path / "run", {}) as run_dir:
        run_dir.append(cases[0], made_up.OOM)
    with RunDir.resume(tmp_path / "run") as run_dir:
        sweep.run(cases, run_dir, lambda case: made_up.measured(1.0), Deaf())
    assert [row.status for row in read_run(tmp_path / "run").rows] == ["oom", "predicted_oom"]


def test_a_forecast_is_made_from_measurements_of_the_same_value() -> None:
    predictor = Predictor(2**40)
    for length in (128, 256):
        case = made_up.case("knobby:latents/eager", seq_len=length, hyperparameters=(("latents", 1),))
        predictor.note(case, replace(make_row(case, made_up.measured(1.0)), peak_memory_bytes=length))
    longer = replace(case, seq_len=512)
    assert predictor.forecast(longer) is not None
    assert predictor.forecast(replace(longer, hyperparameters=(("latents", 2),))) is None


def test_the_gate_looks_at_every_value() -> None:
    from elattn_bench.gate import Gate

    gate = Gate()
    cases = [made_up.case("efficient/eager", hyperparameters=knobs) for knobs in ((), SOFTMAX, SCALING)]
    none, softmax, scaling = map(gate.check, cases)
    assert softmax == none != scaling
    assert len(gate._known) == 3
    assert not any(gate.refusal(case) for case in cases)


# The catalogue


def test_the_list_says_what_every_knob_is() -> None:
    entries = {(entry["attention"], entry["backend"]): entry for entry in catalogue.attentions()}
    knob = entries["efficient", "eager"]["hyperparameters"]["normalisation"]
    assert knob["default"] == "softmax"
    assert knob["description"].startswith("softmax (queries over channels")
    assert entries["linear", "eager"]["hyperparameters"] == {}
