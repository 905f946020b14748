"""Predicted memory, on made-up rows: refused with numbers, and never refused what would have fitted."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import made_up
import pytest
import torch

from elattn_bench import workload
from elattn_bench.cases import Case
from elattn_bench.prediction import MARGIN, ROUGH, Predictor, input_bytes
from elattn_bench.results import make_row
from elattn_bench.units import Bytes

GIB = 2**30
LIMIT = 8 * GIB


def eager(seq_len: int, **axes: Any) -> Case:
    """Written-out softmax attention: it has a formula, and grows with the square of seq_len."""
    return made_up.case("softmax/eager", seq_len=seq_len, **axes)


def compiled(seq_len: int, **axes: Any) -> Case:
    """A case of a backend without a formula."""
    return made_up.case("ea-series/compile", seq_len=seq_len, order=6, **axes)


def formula(case: Case) -> Bytes:
    known = case.analytic_memory_bytes
    assert known is not None
    return known


def note(predictor: Predictor, case: Case, peak: float) -> None:
    predictor.note(case, make_row(case, made_up.measured(1.0, int(peak))))


def forecast(predictor: Predictor, case: Case) -> float:
    found = predictor.forecast(case)
    assert found is not None
    return found.workspace


def test_what_cannot_fit_is_refused_with_the_numbers() -> None:
    verdict = Predictor(LIMIT, held=GIB).verdict(eager(65536))
    assert verdict is not None
    assert verdict.status == "predicted_oom"
    assert verdict.reason == (
        "would need 257 GiB (formula: 48.0 MiB inputs, 256 GiB workspace, 1.00 GiB held by torch), "
        "--memory-limit allows 8.00 GiB"
    )


def test_what_fits_is_not_refused() -> None:
    assert Predictor(LIMIT, held=GIB).verdict(eager(4096)) is None


def test_a_formula_alone_refuses_only_what_is_clearly_too_much() -> None:
    case = eager(16384)
    surely = ROUGH * formula(case) + input_bytes(case)
    assert Predictor(int(surely / MARGIN * 1.01)).verdict(case) is None
    assert Predictor(int(surely / MARGIN * 0.99)).verdict(case) is not None


def test_a_measurement_makes_the_prediction_sharper() -> None:
    case, smaller = eager(16384), eager(8192)
    limit = int((formula(case) + input_bytes(case)) / MARGIN * 0.99)
    predictor = Predictor(limit)
    assert predictor.verdict(case) is None
    note(predictor, smaller, formula(smaller))
    verdict = predictor.verdict(case)
    assert verdict is not None
    assert "formula, corrected by the 8k measurement" in verdict.reason


def test_what_torch_holds_leaves_less_room() -> None:
    case, smaller = eager(8192), eager(4096)
    limit = formula(case) + input_bytes(case)
    for held, refused in ((0, False), (limit // 4, True)):
        predictor = Predictor(limit, held)
        note(predictor, smaller, formula(smaller))
        assert (predictor.verdict(case) is not None) is refused


def test_a_formula_that_says_too_much_is_scaled_down() -> None:
    predictor = Predictor(LIMIT)
    note(predictor, eager(1024), formula(eager(1024)) / 2)
    assert forecast(predictor, eager(65536)) == pytest.approx(formula(eager(65536)) / 2)


def test_an_excess_seen_once_is_not_taken_to_grow() -> None:
    predictor = Predictor(LIMIT)
    note(predictor, eager(256), formula(eager(256)) + GIB)
    assert forecast(predictor, eager(4096)) == pytest.approx(formula(eager(4096)) + GIB)


def test_an_excess_that_grew_with_the_length_is_taken_to_grow_on() -> None:
    predictor = Predictor(LIMIT)
    for length in (1024, 2048):
        note(predictor, eager(length), 1.5 * formula(eager(length)))
    assert forecast(predictor, eager(8192)) == pytest.approx(1.5 * formula(eager(8192)))


def test_a_constant_that_the_formula_lacks_is_told_from_a_factor_by_two_measurements() -> None:
    predictor = Predictor(LIMIT)
    for length in (256, 512):
        note(predictor, eager(length), formula(eager(length)) + GIB)
    assert forecast(predictor, eager(8192)) == pytest.approx(formula(eager(8192)) + GIB)


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "train"}, {"level": "layer"}, {"dtype": "float64"}, {"causal": True}, {"batch": 4},
        {"seq_len": 32768}, {"dim": 128}, {"backend": "math"},
    ],
    ids=str,
)  # fmt: skip
def test_a_case_of_another_kind_or_a_greater_size_corrects_nothing(change: dict[str, Any]) -> None:
    predictor = Predictor(LIMIT)
    other = replace(eager(4096), **change)
    note(predictor, other, 10 * formula(other))
    assert forecast(predictor, eager(16384)) == formula(eager(16384))


def test_a_smaller_batch_corrects_too() -> None:
    predictor = Predictor(LIMIT)
    note(predictor, eager(1024), formula(eager(1024)) / 2)
    assert forecast(predictor, eager(1024, batch=16)) == pytest.approx(formula(eager(1024, batch=16)) / 2)


def test_a_row_noted_twice_counts_once() -> None:
    predictor = Predictor(LIMIT)
    for _ in range(2):
        note(predictor, eager(256), formula(eager(256)) + GIB)
    assert forecast(predictor, eager(4096)) == pytest.approx(formula(eager(4096)) + GIB)


@pytest.mark.parametrize("outcome", [made_up.OOM, made_up.ERROR, made_up.TIMEOUT], ids=lambda o: o.status)
def test_a_case_without_a_peak_teaches_nothing(outcome: Any) -> None:
    predictor = Predictor(LIMIT)
    predictor.note(eager(4096), make_row(eager(4096), outcome))
    assert forecast(predictor, eager(8192)) == formula(eager(8192))


def test_without_a_formula_one_measurement_predicts_nothing() -> None:
    predictor = Predictor(LIMIT)
    assert predictor.forecast(compiled(4096)) is None
    note(predictor, compiled(1024), GIB)
    assert predictor.forecast(compiled(4096)) is None
    assert predictor.verdict(compiled(4096)) is None


@pytest.mark.parametrize(
    ("law", "at_8k"),
    [
        (lambda length: length**1.5, 8192**1.5),
        (lambda length: 3 * length, 3 * 8192),
        (lambda length: 10**6 + length, 10**6 + 8192),  # a straight line, not a power of next to nothing
        (lambda length: 10**6, 10**6),
        (lambda length: 10**6 - length, 10**6 - 2048),  # no less than was measured
        (lambda length: length**3, 2048**3 * 16),  # no steeper than quadratic
    ],
    ids=["power", "linear", "constant-and-linear", "constant", "falling", "cubic"],
)
def test_without_a_formula_the_last_two_lengths_are_continued(law: Any, at_8k: float) -> None:
    predictor = Predictor(LIMIT)
    for length in (256, 1024, 2048):
        note(predictor, compiled(length), law(length))
    assert forecast(predictor, compiled(8192)) == pytest.approx(at_8k, rel=1e-3)


def test_a_fit_refuses_with_the_lengths_it_is_from() -> None:
    predictor = Predictor(LIMIT)
    for length in (1024, 2048):
        note(predictor, compiled(length), length * 2**20)
    verdict = predictor.verdict(compiled(16384))
    assert verdict is not None
    assert "would need 16.0 GiB (fitted to the 1k and 2k measurements" in verdict.reason
    assert predictor.verdict(compiled(8192)) is None


def test_a_fit_takes_lengths_of_one_order_and_batch_only() -> None:
    predictor = Predictor(LIMIT)
    note(predictor, compiled(1024), GIB)
    note(predictor, replace(compiled(2048), order=2), GIB)
    note(predictor, compiled(512, batch=2), GIB)
    assert predictor.forecast(compiled(4096)) is None


def test_inputs_alone_are_enough_to_refuse() -> None:
    verdict = Predictor(GIB // 16).verdict(compiled(524288))
    assert verdict is not None
    assert verdict.reason.startswith("would need 384 MiB (inputs alone: 384 MiB inputs")


def test_a_case_that_cannot_run_here_keeps_its_own_reason() -> None:
    case = made_up.case("softmax/cudnn", seq_len=2**20, dim=4096)
    assert Predictor(GIB).verdict(case) is None


@pytest.mark.parametrize("level", ["op", "layer", "block"])
@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("impl", ["linear/eager", "hadamard/eager"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_predicted_inputs_are_what_the_workload_holds(level: str, mode: str, impl: str, dtype: str) -> None:
    case = made_up.case(impl, level=level, mode=mode, dtype=dtype)
    assert torch.get_default_dtype() == torch.float32
    assert input_bytes(case) == workload.build(case).input_bytes


@pytest.mark.parametrize(
    "impl", ["linear/eager", "hadamard/eager", "efficient/eager", "ea-series/eager", "softmax/sdpa"]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_before_a_step_there_is_a_token_and_a_state(impl: str, dtype: str) -> None:
    order = 2 if impl.startswith("ea-series") else None
    case = made_up.case(impl, mode="decode", batch=3, dtype=dtype, order=order)
    assert input_bytes(case) == workload.build(case).input_bytes


def test_predicting_needs_no_torch() -> None:
    code = (
        "import sys; import elattn_bench.sweep; from elattn_bench.cases import Case; "
        "from elattn_bench.prediction import Predictor; "
        "case = Case('softmax', 'eager', 'layer', 'train', 'float32', 'cpu', True, 1, 8, 2**20, 64); "
        "assert Predictor(2**30).verdict(case).status == 'predicted_oom'; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
