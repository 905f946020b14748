"""EA-series: the identities of its algebra, and the inputs on which a naive form breaks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import attention_impls
from attention_impls import InvalidArgument, chunks, ea_series, element_wise

from .support import Form, draw, error, rounding, tracked

SERIES = Form("ea-series", "eager", {})
EXACT = Form("element-wise", "eager", {})
EPSILON = torch.finfo(torch.float64).eps

even_orders = pytest.mark.parametrize("order", [0, 2, 4, 6, 8])
both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])


def series(order: int, scale: float = 1.0) -> Form:
    return Form("ea-series", "eager", {"order": order, "scale": scale})


def taylor(x: Tensor, order: int) -> Tensor:
    """T_t(x), summed term by term."""
    return sum((x**n / math.factorial(n) for n in range(order + 1)), torch.zeros_like(x))


@even_orders
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_moments_give_what_the_direct_weights_give(order: int, scale: float) -> None:
    query, key, value = draw()
    weights = torch.exp(-scale * key**2)[:, :, None] * taylor(
        2 * scale * query[:, :, :, None] * key[:, :, None], order
    )
    direct = (weights * value[:, :, None]).sum(3) / weights.sum(3)
    output = series(order, scale)(query, key, value)
    assert error(output, direct) <= rounding(SERIES, torch.float64, value)


def test_the_weight_of_a_key_is_a_poisson_probability() -> None:
    # For x > 0, T_t(x) exp(-x) = Pr[Poisson(x) <= t]. Against a key of 0, whose weight is 1, a key k has
    # odds exp(-k^2) T_t(2 q k); its value 1 against 0 shows them.
    q, k, order = 0.9, 1.3, 6
    x = 2 * q * k
    poisson = sum(math.exp(-x) * x**n / math.factorial(n) for n in range(order + 1))
    odds = math.exp(-(k**2) + x) * poisson
    query = torch.full((1, 1, 2, 1), q, dtype=torch.float64)
    key = torch.tensor([k, 0.0], dtype=torch.float64).view(1, 1, 2, 1)
    value = torch.tensor([1.0, 0.0], dtype=torch.float64).view(1, 1, 2, 1)
    output = series(order)(query, key, value)
    assert output[0, 0, 0, 0].item() == pytest.approx(odds / (1 + odds), rel=1e-14)


@both_masks
def test_order_40_is_the_exact_attention(causal: bool) -> None:
    inputs = draw()
    exact = EXACT(*inputs, causal=causal)
    # The series alternates for opposite signs: its condition is exp(2 |x|), |x| = 2 max|q| max|k|.
    largest = 2 * float(inputs[0].abs().max() * inputs[1].abs().max())
    assert error(series(40)(*inputs, causal=causal), exact) <= 8 * EPSILON * math.exp(2 * largest)


def test_a_higher_order_is_closer_where_products_are_small() -> None:
    inputs = draw(spread=0.25)
    exact = EXACT(*inputs)
    errors = [error(series(order)(*inputs), exact) for order in (2, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 1e-3


@even_orders
@both_masks
def test_output_lies_between_the_least_and_the_greatest_value(order: int, causal: bool) -> None:
    query, key, value = draw(spread=3.0)
    output = series(order)(query, key, value, causal=causal)
    slack = rounding(SERIES, torch.float64, value)
    assert (output <= value.amax(2, keepdim=True) + slack).all()
    assert (output >= value.amin(2, keepdim=True) - slack).all()


@both_masks
def test_negating_query_and_key_changes_nothing(causal: bool) -> None:
    query, key, value = draw()
    output = SERIES(query, key, value, causal=causal)
    assert torch.equal(SERIES(-query, -key, value, causal=causal), output)


@both_masks
def test_order_0_does_not_look_at_the_query(causal: bool) -> None:
    query, key, value = draw()
    output = series(0)(query, key, value, causal=causal)
    assert torch.equal(series(0)(50 * query, key, value, causal=causal), output)
    if not causal:
        weights = torch.softmax(-(key**2), 2)
        mean = (weights * value).sum(2, keepdim=True).expand_as(output)
        assert error(output, mean) <= rounding(SERIES, torch.float64, value)


def test_order_0_has_a_query_gradient_and_it_is_zero() -> None:
    query, key, value = tracked(*draw())
    (gradient,) = torch.autograd.grad(series(0)(query, key, value).sum(), [query])
    assert not gradient.any()


@pytest.mark.parametrize("form", [series(6, 0.5), Form("element-wise", "eager", {"scale": 0.5})], ids=str)
@both_masks
def test_the_scale_is_a_rescaling_of_query_and_key(form: Form, causal: bool) -> None:
    query, key, value = draw()
    root = math.sqrt(0.5)
    rescaled = Form(form.attention, "eager", {})(root * query, root * key, value, causal=causal)
    assert error(form(query, key, value, causal=causal), rescaled) <= rounding(form, torch.float64, value)


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_exact_attention_does_not_see_a_common_shift_but_the_series_does(backend: str) -> None:
    query, key, value = draw()
    shift = torch.tensor([1.0, -1.0, 0.5, 2.0], dtype=torch.float64)
    exact = Form("element-wise", backend, {})
    # The two-dimensional identity subtracts squares: the shift enters its rounding, squared.
    allowed = 10 * rounding(exact, torch.float64, value)
    assert error(exact(query + shift, key + shift, value), exact(query, key, value)) <= allowed
    assert error(SERIES(query + shift, key + shift, value), SERIES(query, key, value)) > 0.1


def test_a_channel_depends_on_no_other_channel() -> None:
    inputs = tracked(*draw())
    gradients = torch.autograd.grad(SERIES(*inputs)[..., 1].sum(), inputs)
    for gradient in gradients:
        assert not gradient[..., [0, 2, 3]].any()
        assert gradient[..., 1].any()


@both_masks
def test_row_0_of_the_causal_form_is_the_first_value(causal: bool) -> None:
    inputs = draw(2, 3, 1, 4)
    assert error(SERIES(*inputs, causal=causal), inputs[2]) <= rounding(SERIES, torch.float64, inputs[2])


@pytest.mark.parametrize("bad", [1, 3, 7, -2, -1, 66, 2.0, True, "6", None])
def test_an_order_that_is_not_even_or_out_of_range_is_refused(bad: object) -> None:
    with pytest.raises(InvalidArgument, match="ea-series: order="):
        attention_impls.get("ea-series").op(*draw(), order=bad)


def test_the_refusal_of_an_odd_order_says_why_and_what_to_use() -> None:
    with pytest.raises(InvalidArgument, match=r"order=5: .*real zero.*denominator can vanish; use 4 or 6"):
        attention_impls.get("ea-series").op(*draw(), order=5)


@pytest.mark.parametrize("order", [1, 3, 5])
def test_odd_polynomials_do_vanish_and_even_ones_do_not(order: int) -> None:
    x = torch.linspace(-20, 0, 20001, dtype=torch.float64)
    assert (taylor(x, order) <= 0).any()
    assert (taylor(x, order + 1) > 0).all()


@both_masks
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_channel_of_keys_so_great_that_every_weight_underflows(causal: bool, dtype: torch.dtype) -> None:
    query, key, value = draw(dtype=dtype)
    key[..., 0] = 10 + key[..., 0].abs() / 10
    key[..., 1] = -11.0
    output = SERIES(query, key, value, causal=causal)
    truth = SERIES.oracle(query, key, value, causal=causal)
    # exp(-k^2) at |k| = 10 turns the key's rounding into 2 k^2 roundings of the weight.
    assert error(output, truth) <= 200 * torch.finfo(torch.float32).eps * 8 + rounding(SERIES, dtype, value)


@pytest.mark.parametrize("great", [8.0, 12.0, 1e3])
def test_a_great_first_key_does_not_blind_the_rows_before_the_top_rises(great: float) -> None:
    query, key, value = draw(1, 1, 40, 2, dtype=torch.float32)
    key = torch.zeros_like(key)
    key[:, :, :7] = great
    output = SERIES(query, key, value, causal=True)
    # The first rows see only equal keys, so they are means of the values so far; at great keys the
    # polynomial is as great in numerator and denominator.
    means = value.double().cumsum(2)[:, :, :7] / torch.arange(1, 8)[:, None]
    assert error(output[:, :, :7], means) <= rounding(SERIES, torch.float32, value)
    truth = SERIES.oracle(query, key, value, causal=True)
    assert error(output, truth) <= rounding(SERIES, torch.float32, value)


def test_gradients_survive_a_great_first_key() -> None:
    inputs = tracked(*draw(1, 1, 40, 2, dtype=torch.float32))
    with torch.no_grad():
        inputs[1][:, :, 0] = 12.0
    gradients = torch.autograd.grad(SERIES(*inputs, causal=True).sum(), inputs)
    doubles = tracked(*(x.double() for x in inputs))
    truths = torch.autograd.grad(SERIES.oracle(*doubles, causal=True).sum(), doubles)
    for gradient, truth in zip(gradients, truths, strict=True):
        assert error(gradient, truth) <= 4 * rounding(SERIES, torch.float32, torch.cat(truths))


@both_masks
@pytest.mark.parametrize("great", [50.0, -50.0])
def test_a_great_query_weighs_by_the_highest_power(causal: bool, great: float) -> None:
    query, key, value = draw(dtype=torch.float32)
    output = SERIES(torch.full_like(query, great), key, value, causal=causal)
    truth = SERIES.oracle(torch.full_like(query, great), key, value, causal=causal)
    assert error(output, truth) <= rounding(SERIES, torch.float32, value)
    if not causal:
        weights = torch.exp(-(key.double() ** 2)) * key.double() ** 6
        limit = (weights * value).sum(2, keepdim=True) / weights.sum(2, keepdim=True)
        far = SERIES(torch.full_like(query, 1e4 * great), key, value)
        assert error(far, limit.expand_as(far)) < 1e-3


@both_masks
@pytest.mark.parametrize("length", [15, 16, 17, 31, 32, 33, 48])
def test_chunks_leave_no_trace_whatever_the_length(
    causal: bool, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = draw(1, 1, length, 3)
    whole = SERIES(*inputs, causal=causal)
    monkeypatch.setitem(chunks.CHUNK_ELEMENTS, "cpu", 1)
    assert error(SERIES(*inputs, causal=causal), whole) <= rounding(SERIES, torch.float64, inputs[2])


def test_equal_values_survive_a_million_tokens_in_float32() -> None:
    length = 2**20
    query, key, _ = draw(1, 1, length, 1, dtype=torch.float32)
    value = torch.ones_like(query)
    output = SERIES(query, key, value, causal=True)
    # Numerator and denominator sum the same numbers in the same order.
    assert error(output, torch.ones_like(output)) <= rounding(SERIES, torch.float32, value)


def test_moments_of_shards_add_up() -> None:
    _, key, value = draw()
    top = -key.square().amin(2, keepdim=True)
    whole = ea_series._moments(key, value, top, 6, 1.0)
    shards = [
        ea_series._moments(k, v, top, 6, 1.0)
        for k, v in zip(torch.split(key, [10, 23], 2), torch.split(value, [10, 23], 2), strict=True)
    ]
    for side in (0, 1):
        for power in range(7):
            total = shards[0][side][power] + shards[1][side][power]
            assert error(total, whole[side][power]) <= 33 * EPSILON * float(total.abs().max())


@both_masks
def test_the_two_exact_backends_agree_through_different_algebra(causal: bool) -> None:
    inputs = draw(1, 2, 300, 3, spread=1.0)
    blocked, identity = (Form("element-wise", name, {}) for name in ("eager", "sdpa"))
    allowed = 2 * rounding(EXACT, torch.float64, inputs[2])
    assert error(blocked(*inputs, causal=causal), identity(*inputs, causal=causal)) <= allowed


def test_each_causal_block_sees_all_keys_before_it() -> None:
    rows = element_wise.BLOCK_ROWS
    for length in (1, 2, rows - 1, rows, rows + 1, 3 * rows + 5):
        inputs = draw(1, 1, length, 2)
        output = EXACT(*inputs, causal=True)
        assert output.shape == inputs[0].shape
        assert error(output, EXACT.oracle(*inputs, causal=True)) <= rounding(EXACT, torch.float64, inputs[2])
