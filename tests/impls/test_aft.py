"""The attention-free transformer: its three forms against each other, and keys and biases of any size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import attention_impls
from attention_impls import InvalidArgument, aft_full, aft_local, blocks, chunks
from attention_impls.aft_bias import FLOOR

from .support import SHAPE, Form, draw, error, rounding, tracked
from .test_memory import largest_in_training, saved_elements

LENGTH = SHAPE[2]
SIMPLE, FULL, LOCAL = (Form(f"aft-{name}", "eager", {}) for name in ("simple", "full", "local"))

every_aft = pytest.mark.parametrize(
    "form", [SIMPLE, FULL, LOCAL, Form("aft-local", "eager", {"window": 3})], ids=str
)
biased = pytest.mark.parametrize("window", [None, 1, 3, 12, 50], ids=lambda s: f"window={s}" if s else "full")
both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of rows, and several chunks in a block, the last one ragged."""
    monkeypatch.setitem(chunks.CHUNK_ELEMENTS, "cpu", 1)
    monkeypatch.setattr(aft_full, "MIN_BLOCK_ROWS", 5)
    monkeypatch.setattr(blocks, "MIN_CHUNK_ROWS", 4)
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 2 * 8 * 24)
    monkeypatch.setitem(blocks.LEAST_CAUSAL_BLOCKS, "cpu", 1)


def op(
    window: int | None, *inputs: Tensor, causal: bool, position_bias: Tensor, truth: bool = False
) -> Tensor:
    """AFT-full, or AFT-local with that window."""
    spec = attention_impls.get("aft-full" if window is None else "aft-local")
    knobs: dict[str, Any] = {} if window is None else {"window": window}
    function = spec.oracle if truth else spec.op
    return function(*inputs, causal=causal, position_bias=position_bias, **knobs)


def bias_of(window: int | None, spread: float = 1.0) -> Tensor:
    width = LENGTH if window is None else 2 * window - 1
    return spread * torch.randn(
        LENGTH, width, generator=torch.Generator().manual_seed(5), dtype=torch.float64
    )


@every_aft
@both_masks
def test_values_of_one_leave_the_gates(form: Form, causal: bool) -> None:
    query, key, value = draw()
    gates = torch.sigmoid(query)
    output = form(query, key, torch.ones_like(value), causal=causal)
    assert error(output, gates) <= rounding(form, torch.float64, gates)


@biased
@both_masks
def test_without_biases_all_forms_are_aft_simple(window: int | None, causal: bool) -> None:
    inputs = draw()
    zeros = torch.zeros_like(bias_of(window))
    output = op(window, *inputs, causal=causal, position_bias=zeros)
    assert error(output, SIMPLE(*inputs, causal=causal)) <= rounding(FULL, torch.float64, inputs[2])


@both_masks
@pytest.mark.parametrize("window", [1, 3, 12, 50])
def test_aft_local_is_aft_full_with_zeros_beyond_the_window(window: int, causal: bool) -> None:
    inputs, upstream, band = draw(), draw(seed=1)[2], bias_of(window)
    dense = torch.zeros(LENGTH, LENGTH, dtype=torch.float64)
    for i in range(LENGTH):
        for j in range(max(0, i - window + 1), min(LENGTH, i + window)):
            dense[i, j] = band[i, j - i + window - 1]
    results = []
    for form, bias in ((window, band), (None, dense)):
        leaves = tracked(*inputs, bias)
        output = op(form, *leaves[:3], causal=causal, position_bias=leaves[3])
        results.append((output, *torch.autograd.grad(output, leaves, upstream)))
    local, full = results
    for mine, theirs in zip(local[:4], full[:4], strict=True):
        assert error(mine, theirs) <= 4 * rounding(FULL, torch.float64, theirs.detach())
    for i in range(LENGTH):
        for offset in range(2 * window - 1):
            j = i + offset - window + 1
            expected = float(full[4][i, j]) if 0 <= j < LENGTH else 0.0
            assert abs(float(local[4][i, offset]) - expected) <= 1e-12


@pytest.mark.parametrize("window", [None, 1, 3, 6], ids=["full", "window=1", "window=3", "window=6"])
@both_masks
def test_gradients_are_those_of_finite_differences_the_bias_s_included(
    window: int | None, causal: bool
) -> None:
    leaves = tracked(*draw(1, 1, 5, 2), bias_of(window)[:5, :5] if window is None else bias_of(window)[:5])
    assert torch.autograd.gradcheck(lambda *x: op(window, *x[:3], causal=causal, position_bias=x[3]), leaves)


@biased
def test_what_lies_beyond_the_sequence_or_in_the_future_gets_no_gradient(window: int | None) -> None:
    inputs = draw(2, 3, 20, 4)
    (bias,) = tracked(bias_of(window))
    (gradient,) = torch.autograd.grad(
        op(window, *inputs, causal=True, position_bias=bias).square().sum(), bias
    )
    assert not gradient[20:].any()
    assert gradient[1:20].any() or window == 1
    assert not (gradient.triu(1).any() if window is None else gradient[:, window:].any())


@both_masks
def test_a_row_s_constant_added_to_all_its_biases_changes_nothing(causal: bool) -> None:
    inputs, bias = draw(), bias_of(None)
    shifts = 40 * torch.arange(LENGTH, dtype=torch.float64)[:, None] - 600
    output = op(None, *inputs, causal=causal, position_bias=bias + shifts)
    expected = op(None, *inputs, causal=causal, position_bias=bias)
    # Adding a constant of up to 700 rounds the biases to 2^-43 of one.
    assert error(output, expected) <= 1000 * rounding(FULL, torch.float64, inputs[2])


def steep_keys(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Keys of hundreds, up and down within a few tokens; whole numbers, so that their differences are exact."""
    query, key, value = draw(dtype=dtype)
    key = (10 * key).round()
    key[:, :, 3::5] += 250
    key[:, 0, 20:22] += 400
    key[:, 1] -= 300
    key[:, 2] += 20 * torch.arange(LENGTH, dtype=dtype)[:, None]
    return query, key, value


@every_aft
@both_masks
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_keys_of_hundreds_neither_overflow_nor_vanish(form: Form, causal: bool, dtype: torch.dtype) -> None:
    inputs = tracked(*steep_keys(dtype))
    doubles = tracked(*(x.double() for x in inputs))
    output, truth = form(*inputs, causal=causal), form.oracle(*doubles, causal=causal)
    # Biases are no whole numbers: relative to a key of 900 they round to 900 eps in the truth, too.
    allowed = 900 * rounding(form, dtype, inputs[2].detach())
    assert error(output, truth) <= allowed
    upstream = draw(dtype=dtype, seed=1)[2]
    gradients = torch.autograd.grad(output, inputs, upstream)
    truths = torch.autograd.grad(truth, doubles, upstream.double())
    for gradient, expected in zip(gradients, truths, strict=True):
        assert error(gradient, expected) <= 2 * allowed * (1 + float(expected.abs().max()))


def opposed(window: int | None, dtype: torch.dtype, size: float) -> tuple[list[Tensor], Tensor]:
    """Inputs and a bias, whole numbers, where the greatest keys meet the least biases and the reverse."""
    inputs = list(draw(dtype=dtype))
    inputs[1] = (3 * inputs[1]).round()
    inputs[1][:, 1:, ::2] -= size
    bias = (3 * bias_of(window)).round()
    if window is None:
        bias[:, ::2] += size + 1
        bias[:7] -= 2 * size  # and the same rows at another level
        bias[7] = 0  # and a row without any
    else:
        for i in range(LENGTH):
            places = torch.arange(i - window + 1, i + window)
            bias[i, places % 2 == 0] += size + 1
            bias[i, places % 2 == 1] -= size
    return inputs, bias.to(dtype)


@pytest.mark.parametrize("window", [None, 12, 50], ids=str)
@both_masks
@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 100.0), (torch.float64, 600.0)], ids=str)
def test_a_greatest_pair_far_below_both_maxima_is_found(
    window: int | None, causal: bool, dtype: torch.dtype, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, repaired = (aft_full if window is None else aft_local), []
    repair = module.repair

    def recorded(*arguments: Any) -> Tensor:
        rows: Tensor = repair(*arguments)
        repaired.append(rows)
        return rows

    monkeypatch.setattr(module, "repair", recorded)
    inputs, bias = opposed(window, dtype, size)
    leaves, doubles = tracked(*inputs, bias), tracked(*(x.double() for x in (*inputs, bias)))
    output = op(window, *leaves[:3], causal=causal, position_bias=leaves[3])
    truth = op(window, *doubles[:3], causal=causal, position_bias=doubles[3], truth=True)
    assert len(repaired[0]) > 0  # or this test would show nothing
    assert error(output, truth) <= 2 * rounding(FULL, dtype, inputs[2])
    upstream = draw(dtype=dtype, seed=1)[2]
    gradients = torch.autograd.grad(output, leaves, upstream)
    truths = torch.autograd.grad(truth, doubles, upstream.double())
    for gradient, expected in zip(gradients, truths, strict=True):
        assert error(gradient, expected) <= 8 * rounding(FULL, dtype, 1 + expected.abs())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_what_may_vanish_is_less_than_rounding_beside_a_trusted_sum(dtype: torch.dtype) -> None:
    finite = torch.finfo(dtype)
    most_positions = 2**20
    assert most_positions * finite.tiny < finite.eps * FLOOR[dtype]
    assert 1e10 / FLOOR[dtype] < finite.max  # gradients divide by a sum


def test_a_bias_that_masks_pairs_takes_them_out() -> None:
    query, key, value = draw()
    bias = bias_of(None)
    bias[:, 1::2] = -torch.inf
    (leaf,) = tracked(bias)
    output = op(None, query, key, value, causal=False, position_bias=leaf)
    seen = key[:, :, ::2], value[:, :, ::2]
    weights = torch.softmax(seen[0][:, :, None] + bias[:, ::2, None], 3)
    expected = torch.sigmoid(query) * torch.einsum("bhijd,bhjd->bhid", weights, seen[1])
    assert error(output, expected) <= rounding(FULL, torch.float64, value)
    (gradient,) = torch.autograd.grad(output.sum(), leaf)
    assert gradient.isfinite().all()
    assert not gradient[:, 1::2].any()


@pytest.mark.parametrize(
    ("form", "shape", "came"),
    [
        (FULL, None, "None"),
        (FULL, (LENGTH, LENGTH - 1), r"\[33, 32\]"),
        (FULL, (LENGTH,), r"\[33\]"),
        (LOCAL, None, "None"),
        (LOCAL, (LENGTH - 1, 63), r"\[32, 63\]"),
        (LOCAL, (LENGTH, 65), r"\[33, 65\]"),
    ],
    ids=str,
)
def test_a_bias_of_another_shape_is_refused(form: Form, shape: tuple[int, ...] | None, came: str) -> None:
    bias = None if shape is None else torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(
        InvalidArgument, match=rf"{form.attention}: position_bias must be \[length, .*{came}$"
    ):
        form.spec.op(*draw(), position_bias=bias)


def test_a_bias_of_another_dtype_is_taken_at_the_accuracy_of_sums() -> None:
    inputs = draw(dtype=torch.float32)
    for window in (None, 3):
        bias = bias_of(window)
        truth = op(window, *inputs, causal=True, position_bias=bias, truth=True)
        assert error(op(window, *inputs, causal=True, position_bias=bias), truth) <= rounding(
            FULL, torch.float32, inputs[2]
        )


@both_masks
@pytest.mark.parametrize("form", [SIMPLE, LOCAL], ids=str)
def test_the_linear_forms_hold_what_grows_with_length_alone(
    form: Form, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "MIN_CHUNK_ROWS", 64)
    short, long = (largest_in_training(form, length, causal) for length in (1024, 2048))
    assert long <= 2.1 * short
    # A chunk of 64 rows by the 126 positions around it; gradients of key and value side by side.
    assert short <= (1024 + 64) * (126 if form is LOCAL else 16)
    kept, twice = (saved_elements(form, length, causal) for length in (1024, 2048))
    assert 1.9 < twice / kept < 2.1


@both_masks
def test_aft_full_makes_nothing_larger_than_its_bias(causal: bool) -> None:
    assert largest_in_training(FULL, 512, causal) == 512 * 512
    inputs, bias = 2 * 512 * 8, 512 * 512
    # Query, key, value, the bias, means twice (with their totals, and by channel), and gates.
    assert saved_elements(FULL, 512, causal) <= bias + 7.1 * inputs
