"""EA-series in Triton: the laws of the attention, on a GPU where there is one, else in Triton's interpreter.

The interpreter takes about 50 us for an operation on a block, and a row of order 6 has a hundred of
them: lengths and orders are small here, and so are the chunks.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from attention_impls import Problem, ea_series, workspaces

from .support import DTYPES, Form, draw, error, rounding

pytest.importorskip("triton")

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
PARTS = ("_launch", "_rows", "_scans", "_forward", "_backward", "_causal_backward", "")
NAMES = [f"attention_impls.kernels.ea_triton{part}" for part in PARTS]
LAUNCH = NAMES[0]
CHUNK = 8
SHAPE = (1, 2, 2 * CHUNK + 1, 3)  # three chunks, the last one ragged
SERIES = Form("ea-series", "eager", {})

# Lanes without a channel compute 0 / 0, as threads of a GPU do. Only NumPy warns of it.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")

both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])


@pytest.fixture(scope="module")
def loaded() -> Iterator[ModuleType]:
    """The kernels, bound to the interpreter where there is no GPU: that happens as they are imported."""
    if ON_GPU:
        yield importlib.import_module(NAMES[-1])
        return
    before = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        module = importlib.import_module(NAMES[-1])
    with quicker_interpreter():
        yield module
    for name in NAMES:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture
def triton_series(loaded: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The same with chunks so small that every scan has several, and some are ragged."""
    monkeypatch.setattr(sys.modules[LAUNCH], "MIN_CHUNK_ROWS", CHUNK)
    return loaded


def quicker_interpreter() -> Any:
    """Triton's interpreter patches its language anew for each helper that a kernel calls: once will do."""
    from triton import language
    from triton.runtime import interpreter

    patch = interpreter._patch_lang

    def once(function: Any) -> Any:
        patched = not language.core.is_builtin(language.load)
        ours = function.__module__ in NAMES
        return interpreter._LangPatchScope() if patched and ours else patch(function)

    return mock.patch.object(interpreter, "_patch_lang", once)


def inputs_of(
    *shape: int, dtype: torch.dtype = torch.float32, spread: float = 0.7
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, key, value and the gradient of the output."""
    query, key, value = draw(*(shape or SHAPE), dtype=dtype, spread=spread)
    upstream = draw(*(shape or SHAPE), dtype=dtype, seed=1)[2]
    return query.to(DEVICE), key.to(DEVICE), value.to(DEVICE), upstream.to(DEVICE)


def results(
    module: ModuleType,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    upstream: Tensor,
    *,
    causal: bool,
    order: int = 2,
    scale: float = 1.0,
    stabiliser: bool = True,
) -> tuple[Tensor, ...]:
    """The output and the gradients of query, key and value."""
    knobs: dict[str, Any] = {"causal": causal, "order": order, "scale": scale, "stabiliser": stabiliser}
    output, moments = module.forward(query, key, value, **knobs, keep=True)
    return output, *module.backward(query, key, value, upstream, moments, **knobs)


def truths(query: Tensor, key: Tensor, value: Tensor, upstream: Tensor, **knobs: Any) -> tuple[Tensor, ...]:
    """The same from the oracle, in float64."""
    leaves = [x.detach().double().requires_grad_() for x in (query, key, value)]
    output = ea_series.oracle(*leaves, **knobs)
    return output.detach(), *torch.autograd.grad(output, leaves, upstream.double())


def assert_true(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], value: Tensor) -> None:
    """Output and gradients are the oracle's, as closely as test_contract.py asks of every form."""
    assert error(found[0], expected[0]) <= rounding(SERIES, value.dtype, value)
    for gradient, truth in zip(found[1:], expected[1:], strict=True):
        assert gradient.dtype == value.dtype
        assert error(gradient, truth) <= 2 * rounding(SERIES, value.dtype, torch.cat(expected[1:]))


@both_masks
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_output_and_gradients_are_the_oracle_s_in_every_dtype(
    triton_series: ModuleType, causal: bool, dtype: torch.dtype
) -> None:
    inputs = inputs_of(dtype=dtype)
    # 0.3 has no exact float32: in float64 it must not pass through it.
    found = results(triton_series, *inputs, causal=causal, scale=0.3)
    assert_true(found, truths(*inputs, causal=causal, order=2, scale=0.3), inputs[2])


@both_masks
@pytest.mark.parametrize(("order", "scale"), [(0, 1.0), (6, 0.5)])
def test_output_and_gradients_are_the_oracle_s_at_every_order(
    triton_series: ModuleType, causal: bool, order: int, scale: float
) -> None:
    inputs = inputs_of(1, 1, CHUNK + 3, 3)
    found = results(triton_series, *inputs, causal=causal, order=order, scale=scale)
    assert_true(found, truths(*inputs, causal=causal, order=order, scale=scale), inputs[2])


@both_masks
@pytest.mark.parametrize("length", [1, CHUNK // 2 + 1, CHUNK - 1, CHUNK, CHUNK + 1])
def test_edges_of_chunks_and_groups_of_rows_leave_no_trace(
    triton_series: ModuleType, causal: bool, length: int
) -> None:
    inputs = inputs_of(1, 1, length, 2)
    assert_true(
        results(triton_series, *inputs, causal=causal),
        truths(*inputs, causal=causal, order=2),
        inputs[2],
    )


@both_masks
@pytest.mark.parametrize("head_dim", [1, 16, 33])
def test_channels_that_fill_no_program_are_as_good_as_others(
    triton_series: ModuleType, causal: bool, head_dim: int
) -> None:
    inputs = inputs_of(2, 1, CHUNK + 1, head_dim)
    assert_true(
        results(triton_series, *inputs, causal=causal),
        truths(*inputs, causal=causal, order=2),
        inputs[2],
    )


@both_masks
def test_strides_of_the_inputs_do_not_matter_and_results_keep_them(
    triton_series: ModuleType, causal: bool
) -> None:
    query, key, value, upstream = inputs_of()
    expected = results(triton_series, query, key, value, upstream, causal=causal)
    token_major = query.transpose(1, 2).contiguous().transpose(1, 2)
    channel_major = key.transpose(2, 3).contiguous().transpose(2, 3)
    strided = torch.stack((value, value), -1)[..., 0]
    found = results(triton_series, token_major, channel_major, strided, upstream, causal=causal)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert found[0].stride() == found[1].stride() == token_major.stride()
    assert found[2].stride() == channel_major.stride()


@both_masks
def test_broadcast_inputs_count_as_their_copies(triton_series: ModuleType, causal: bool) -> None:
    whole = inputs_of(2, 2, CHUNK + 1, 3)
    views = (whole[0][:, :, :1], whole[1][:, :1], whole[2][:1], whole[3][..., :1])
    broadcast = [view.expand_as(whole[0]) for view in views]
    copies = [view.clone(memory_format=torch.contiguous_format) for view in broadcast]
    found = results(triton_series, *broadcast, causal=causal)
    expected = results(triton_series, *copies, causal=causal)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert all(x.is_contiguous() for x in found)


@both_masks
def test_no_number_stays_in_its_channel_and_reaches_no_earlier_row(
    triton_series: ModuleType, causal: bool
) -> None:
    query, key, value, upstream = inputs_of()
    row = 2 * CHUNK - 1  # the last of its chunk, whose top earlier rows of the chunk share
    clean, _ = triton_series.forward(
        query, key, value, causal=causal, order=2, scale=1.0, stabiliser=True, keep=False
    )
    key[:, :, row, 1], key[:, :, row, 2] = math.nan, math.inf
    found = results(triton_series, query, key, value, upstream, causal=causal)
    first = row if causal else 0
    assert found[0][:, :, first:, 1:].isnan().all()
    assert torch.equal(found[0][:, :, :first], clean[:, :, :first])
    assert torch.equal(found[0][..., 0], clean[..., 0])
    assert all(result[..., 0].isfinite().all() for result in found)


@both_masks
def test_great_keys_and_queries_neither_under_nor_overflow(triton_series: ModuleType, causal: bool) -> None:
    query, key, value, upstream = inputs_of(1, 1, 2 * CHUNK + 3, 6)
    key = (4 * key).round() / 4  # -k^2 exact in float32, so that great keys cost no precision
    key[:, :, 0, 0] = 12.0  # until the next row, the only weight
    key[:, :, : CHUNK + 3, 1] = 11.0  # a chunk that ends 121 above where it begins
    key[..., 2] = 10 * key[..., 2].sign() + (key[..., 2] == 0)
    key[:, :, ::2, 3] = -10.0
    query[:, :, ::2, 4], query[:, :, 1::2, 4] = 50.0, -50.0
    key[:, :, CHUNK, 5] = 9.0
    inputs = (query, key, value, upstream)
    found = results(triton_series, *inputs, causal=causal)
    expected = truths(*inputs, causal=causal, order=2)
    assert error(found[0], expected[0]) <= rounding(SERIES, torch.float32, value)
    for number, (gradient, truth) in enumerate(zip(found[1:], expected[1:], strict=True)):
        # A key's gradient is a difference of terms that are 2 s k times a value's.
        magnitude = torch.cat((truth, 2 * key.abs().max() * expected[3])) if number == 1 else truth
        assert error(gradient, truth) <= 2 * rounding(SERIES, torch.float32, magnitude)


@both_masks
def test_wide_keys_are_as_exact_in_float64_as_others(triton_series: ModuleType, causal: bool) -> None:
    inputs = inputs_of(1, 1, 2 * CHUNK + 3, 4, dtype=torch.float64, spread=6.0)
    found = results(triton_series, *inputs, causal=causal)
    expected = truths(*inputs, causal=causal, order=2)
    exponent = float(inputs[1].square().max())  # a rounding of k^2 is that much in the weight
    for result, truth in zip(found, expected, strict=True):
        assert error(result, truth) <= 2 * exponent * rounding(SERIES, torch.float64, torch.cat(expected))


def test_keys_beyond_every_weight_cost_their_own_channel_alone(triton_series: ModuleType) -> None:
    query, key, value, upstream = inputs_of()
    key[..., 0] = 1e30
    key[:, :, : CHUNK + 1, 1] = 1e30  # weightless beside the keys that follow
    output, *gradients = results(triton_series, query, key, value, upstream, causal=False)
    assert output[..., 0].isnan().all()
    assert output[..., 1:].isfinite().all()
    assert all(gradient[..., 2].isfinite().all() for gradient in gradients)
    causal_output = results(triton_series, query, key, value, upstream, causal=True)[0]
    assert causal_output[:, :, CHUNK + 1 :, 1:].isfinite().all()


@both_masks
def test_an_average_of_equal_values_is_that_value(triton_series: ModuleType, causal: bool) -> None:
    query, key, value, upstream = inputs_of()
    output = results(triton_series, query, key, torch.full_like(value, 3.0), upstream, causal=causal)[0]
    assert error(output, torch.full_like(output, 3.0).double()) <= rounding(SERIES, torch.float32, output)


@both_masks
def test_the_same_inputs_give_the_same_bits_and_are_not_modified(
    triton_series: ModuleType, causal: bool
) -> None:
    inputs = inputs_of()
    before = [x.clone() for x in inputs]
    first = results(triton_series, *inputs, causal=causal)
    assert all(torch.equal(x, old) for x, old in zip(inputs, before, strict=True))
    second = results(triton_series, *inputs, causal=causal)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@both_masks
def test_moderate_inputs_need_no_stabiliser(triton_series: ModuleType, causal: bool) -> None:
    inputs = inputs_of()
    plain = results(triton_series, *inputs, causal=causal, stabiliser=False)
    assert_true(plain, truths(*inputs, causal=causal, order=2), inputs[2])
    moments = triton_series.forward(
        *inputs[:3], causal=causal, order=2, scale=1.0, stabiliser=False, keep=True
    )[1]
    assert not moments[:, -1].any()


@pytest.mark.parametrize("stabiliser", [True, False])
def test_pieces_of_any_length_extend_to_the_whole(triton_series: ModuleType, stabiliser: bool) -> None:
    query, key, value, _ = inputs_of()
    knobs: dict[str, Any] = {"order": 2, "scale": 1.0, "stabiliser": stabiliser}
    whole, _ = triton_series.forward(query, key, value, causal=True, keep=False, **knobs)
    state = torch.zeros(7, *query.shape[:2], query.shape[3], device=DEVICE)
    state[-1] = -math.inf
    outputs = []
    for part in zip(
        *(torch.split(x, [1, CHUNK + 2, 1, 1, CHUNK - 4], 2) for x in (query, key, value)), strict=True
    ):
        before = state.clone()
        output, new_state = triton_series.extend(*part, state, **knobs)
        assert torch.equal(state, before)
        state = new_state
        outputs.append(output)
    assert error(torch.cat(outputs, 2), whole.double()) <= rounding(SERIES, torch.float32, value)
    final = triton_series.forward(query, key, value, causal=False, keep=False, **knobs)[1][0]
    assert torch.equal(state[-1], final[-1])
    assert error(state[:-1], final[:-1].double()) <= rounding(SERIES, torch.float32, final[:-1])


def test_one_token_at_a_time_is_the_causal_form(triton_series: ModuleType) -> None:
    query, key, value, _ = inputs_of(1, 1, 5, 3, spread=4.0)
    state = torch.zeros(7, 1, 1, 3, device=DEVICE)
    state[-1] = -math.inf
    outputs = []
    for token in zip(*(torch.split(x, 1, 2) for x in (query, key, value)), strict=True):
        output, state = triton_series.extend(*token, state, order=2, scale=1.0, stabiliser=True)
        outputs.append(output)
    truth = ea_series.oracle(query, key, value, causal=True, order=2)
    exponent = float(key.square().max())
    assert error(torch.cat(outputs, 2), truth) <= exponent * rounding(SERIES, torch.float32, value)


def test_moments_are_what_they_are_said_to_be(triton_series: ModuleType) -> None:
    query, key, value, _ = inputs_of(2, 1, CHUNK + 2, 3, dtype=torch.float64)
    knobs: dict[str, Any] = {"order": 2, "scale": 0.5, "stabiliser": True}
    before = triton_series.forward(query, key, value, causal=True, keep=True, **knobs)[1]
    assert before.shape == (triton_series.blocks(query), 7, 2, 1, 3) == (2, 7, 2, 1, 3)
    assert triton_series.forward(query, key, value, causal=True, keep=False, **knobs)[1].shape[0] == 0
    after = triton_series.forward(query, key, value, causal=False, keep=False, **knobs)[1]
    for moments, rows in ((before[1], CHUNK), (after[0], CHUNK + 2)):
        seen, seen_values = key[:, :, :rows], value[:, :, :rows]
        top = (-0.5 * seen.square()).amax(2)
        assert torch.equal(moments[-1], top)
        weight = torch.exp(-0.5 * seen.square() - top[:, :, None])
        for n in range(3):
            for found, kept in ((moments[n], seen_values), (moments[3 + n], 1.0)):
                truth = (weight * seen**n * kept).sum(2)
                assert error(found, truth) <= rounding(SERIES, torch.float64, moments[:-1])


def test_the_number_of_blocks_follows_from_the_shape_alone(loaded: ModuleType) -> None:
    for shape in ((1, 8, 4096, 64), (1, 1, 2**22, 1), (64, 16, 2**17, 128), (1, 1, 1, 1)):
        tensor = torch.empty(shape, device="meta")
        rows = sys.modules[LAUNCH].chunk_rows(tensor)
        assert loaded.blocks(tensor) == -(-shape[2] // rows)
        # Scanned one after the other, chunks must not be many more than their rows.
        assert loaded.blocks(tensor) <= max(4 * rows, 1)
        assert workspaces.fused_gpu_rows(Problem(*shape, device="cuda")) == rows
