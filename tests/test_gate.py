"""The gate refuses what is not the attention it claims to be, before anything is timed."""

from __future__ import annotations

import math
from collections.abc import Callable

import made_up
import pytest
import torch

import attention_impls
from elattn_bench import gate
from elattn_bench.cases import Case
from elattn_bench.gate import Gate

CASE = made_up.case("ea-series/eager", order=6, dim=16)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([None], "output is a NoneType, not a tensor"),
        ([torch.ones(1, 2, 4, 7)], r"output has shape \[1, 2, 4, 7\], the inputs have \[1, 2, 4, 8\]"),
        ([torch.ones(1, 2, 4, 8).double()], "output is of dtype torch.float64, the inputs of torch.float32"),
        ([torch.full((1, 2, 4, 8), math.nan)], "output holds NaN or infinity"),
        ([torch.ones(1, 2, 4, 8), torch.full((1, 2, 4, 8), math.inf)], "gradient holds NaN or infinity"),
    ],
)
def test_results_that_break_the_contract_are_named(results: list[object], message: str) -> None:
    inputs = [torch.ones(1, 2, 4, 8)] * 3
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(gate.broken_contract(results, inputs, inputs, inputs))


def test_inputs_that_were_modified_are_noticed() -> None:
    before, after = [torch.ones(2, 2)], [torch.zeros(2, 2)]
    assert gate.broken_contract([torch.ones(2, 2)], before, after, before) == "the call modifies its inputs"


def test_what_is_right_passes_with_its_errors() -> None:
    error = Gate().check(CASE)
    assert error.failure("float32") is None
    assert error.rel_rms is not None
    assert 0 < error.rel_rms < 1e-5


def test_a_kind_is_compared_once_whatever_its_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Case] = []
    compare: Callable[..., gate.GateError] = gate._compare

    def counted(case: Case, drawn: gate.Drawn) -> gate.GateError:
        calls.append(case)
        return compare(case, drawn)

    monkeypatch.setattr(gate, "_compare", counted)
    checked = Gate()
    for axes in ({"seq_len": 256}, {"seq_len": 4096}, {"batch": 4}, {"cache": "cold"}, {"level": "layer"}):
        checked.check(made_up.case("linear/eager", dim=16, **{"seq_len": 512, **axes}))
    assert len(calls) == 1
    checked.check(made_up.case("linear/eager", dim=16, seq_len=512, causal=True))
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("impl", "hyperparameters", "length"),
    [
        ("ea-series/eager", (), 64),  # an oracle of L x L x D
        ("linear/eager", (), 129),  # three chunks of 64
        ("s2/eager", (), 513),  # three groups of 256
        ("s2/eager", (("group", 8),), 129),
        ("perceiver/eager", (), 129),
        ("perceiver/eager", (("latents", 100),), 201),
    ],
)
def test_the_gate_is_as_long_as_every_part_of_an_algorithm_needs(
    impl: str, hyperparameters: tuple[tuple[str, int], ...], length: int
) -> None:
    order = 6 if impl.startswith("ea") else None
    assert gate.gate_length(made_up.case(impl, order=order, hyperparameters=hyperparameters)) == length


def test_an_error_behind_the_first_group_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = attention_impls.get("s2").backends["eager"]
    right: Callable[..., torch.Tensor] = backend.op

    def wrong_later(*inputs: torch.Tensor, **keywords: bool) -> torch.Tensor:
        output = right(*inputs, **keywords).clone()
        output[:, :, 256:] *= 1.01
        return output

    monkeypatch.setitem(backend.__dict__, "op", wrong_later)
    refused = Gate().refusal(made_up.case("s2/eager", seq_len=4096, dim=16))
    assert refused is not None
    assert "differs from the float64 oracle" in refused.reason


def test_only_what_approximates_has_an_approximation_error() -> None:
    assert Gate().check(made_up.case("linear/eager", dim=16)).approximation_rel_rms is None
    assert Gate().check(CASE).approximation_rel_rms is not None


def approximation(order: int, std: float) -> tuple[float, float]:
    error = Gate(std).check(made_up.case("ea-series/eager", order=order, dim=16))
    assert error.approximation_rel_rms is not None
    assert error.outside_band is not None
    return error.approximation_rel_rms, error.outside_band


def test_a_higher_order_comes_closer_to_exact_attention() -> None:
    errors, shares = zip(*(approximation(order, 0.5) for order in (2, 4, 6, 8)), strict=True)
    assert sorted(errors, reverse=True) == list(errors)
    assert sorted(shares, reverse=True) == list(shares)
    # Measured for methods.md at N(0, 0.5^2): 9.6e-2, 2.8e-2 and 8.7e-3 at L = 256.
    assert errors[2] == pytest.approx(8.7e-3, rel=0.5)


def test_unit_variance_inputs_leave_the_band_and_narrow_ones_do_not() -> None:
    assert approximation(6, 1.0)[1] > 0.1
    assert approximation(6, 0.1)[1] == 0.0


def test_the_band_of_order_six_ends_where_the_table_says() -> None:
    from attention_impls.ea_series import outside_band

    def outside(argument: float) -> float:
        one = torch.ones(1, 1, 1, 1)
        return outside_band(argument * one, one / 2, order=6)

    assert [outside(x) for x in (-1.45, 2.32)] == [0.0, 0.0]
    assert [outside(x) for x in (-1.48, 2.35)] == [1.0, 1.0]


def test_the_causal_band_counts_only_pairs_that_see_each_other() -> None:
    from attention_impls.ea_series import outside_band

    query, key = torch.zeros(1, 1, 2, 1), torch.zeros(1, 1, 2, 1)
    query[0, 0, 0], key[0, 0, 1] = 5.0, -5.0  # the first query and the second key: a pair of the future

    def share(causal: bool) -> float:
        return outside_band(query, key, causal=causal, order=2)

    assert share(False) == 0.25
    assert share(True) == 0.0
