"""Poly-NL: the laws of a polynomial of degree three, and the layer of its paper."""

from __future__ import annotations

import pytest
import torch

from attention_impls import AttentionLayer

from .support import Form, draw, error, rounding
from .test_memory import largest_in_training, saved_elements

POLY_NL = Form("poly-nl", "eager", {})
both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])


@both_masks
def test_three_times_the_input_is_twenty_seven_times_the_output(causal: bool) -> None:
    inputs = draw()
    output = 27 * POLY_NL(*inputs, causal=causal)
    scaled = POLY_NL(*(3 * x for x in inputs), causal=causal)
    assert error(scaled, output) <= rounding(POLY_NL, torch.float64, output)


@both_masks
def test_the_output_is_linear_in_each_of_its_three_inputs(causal: bool) -> None:
    inputs, others = draw(), draw(seed=1)
    for place in range(3):
        summed = [x + y if i == place else x for i, (x, y) in enumerate(zip(inputs, others, strict=True))]
        other = [y if i == place else x for i, (x, y) in enumerate(zip(inputs, others, strict=True))]
        parts = POLY_NL(*inputs, causal=causal) + POLY_NL(*other, causal=causal)
        assert error(POLY_NL(*summed, causal=causal), parts) <= rounding(POLY_NL, torch.float64, parts)


def test_a_mean_does_not_grow_with_the_number_of_tokens() -> None:
    inputs = draw()
    once, twice = POLY_NL(*inputs), POLY_NL(*(torch.cat((x, x), 2) for x in inputs))
    assert error(twice, torch.cat((once, once), 2)) <= rounding(POLY_NL, torch.float64, once)


def test_float16_sums_are_float32_and_the_output_overflows_above_forty() -> None:
    query = torch.full((1, 1, 4096, 1), 40.0, dtype=torch.float16)
    assert float(POLY_NL(query, query, query)[0, 0, 0, 0]) == 64000  # the sum, 6.5 million, fits no float16
    assert POLY_NL(query + 1, query + 1, query + 1).isinf().all()


def test_the_layer_holds_three_matrices_and_two_gains() -> None:
    layer = AttentionLayer("poly-nl", 12, 3)
    assert sum(x.numel() for x in layer.parameters()) == 3 * 12**2 + 2
    assert set(layer.projections) == {"query", "key", "output"}


@both_masks
def test_a_layer_whose_first_gain_is_zero_is_its_residual(causal: bool) -> None:
    layer, x = AttentionLayer("poly-nl", 12, 3), torch.randn(2, 7, 12)
    assert layer.gains is not None
    with torch.no_grad():
        layer.gains.copy_(torch.tensor([0.0, 2.5]))
    assert torch.equal(layer(x, causal=causal), 2.5 * x)


def test_the_layer_s_value_is_its_input() -> None:
    layer, x = AttentionLayer("poly-nl", 12, 3, dtype=torch.float64), torch.randn(2, 7, 12).double()
    weights = layer.state_dict()
    first, second, third = (weights[f"projections.{name}.weight"].T for name in ("query", "key", "output"))
    mean = ((x @ first) * (x @ second)).mean(1, keepdim=True)
    torch.testing.assert_close(layer(x), (mean * x) @ third + x, rtol=1e-12, atol=1e-12)


@both_masks
def test_nothing_is_larger_than_the_inputs_and_nothing_waits_but_them(causal: bool) -> None:
    assert largest_in_training(POLY_NL, 1024, causal) == 2 * 1024 * 8
    short, long = (saved_elements(POLY_NL, length, causal) for length in (512, 1024))
    assert 3 * 2 * 512 * 8 <= short <= 3.1 * 2 * 512 * 8
    assert 1.9 < long / short < 2.1
