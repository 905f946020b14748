"""ea-series/fused: what its kernels owe beyond the contract of every backend. On the CPU; Triton's have their own."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

import attention_impls
from attention_impls import InvalidArgument, Problem, Unsupported, ea_fused, workspaces
from attention_impls.ea_series import State as EagerState
from attention_impls.ea_series import step as eager_step
from elattn_bench import memory

from .support import DTYPES, Form, draw, error, rounding, tracked

REASONS = attention_impls.get("ea-series").unsupported_reasons("fused", Problem(1, 1, 8, 4))
pytestmark = pytest.mark.skipif(bool(REASONS), reason="; ".join(REASONS))

if not REASONS:
    from attention_impls.kernels import ea_cpu, ea_cpu_code
    from attention_impls.kernels.ea_cpu_code import BLOCK, TILE
    from attention_impls.kernels.vectors import Lanes

FUSED = Form("ea-series", "fused", {})
both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])


def fused(order: int, stabiliser: bool = True) -> Form:
    return Form("ea-series", "fused", {"order": order, "stabiliser": stabiliser})


def gradients(form: Form, inputs: tuple[Tensor, ...], causal: bool) -> tuple[Tensor, ...]:
    """Output and gradients, the upstream gradient drawn."""
    leaves = tracked(*inputs)
    output = form(*leaves, causal=causal)
    upstream = draw(*output.shape, dtype=output.dtype, seed=5)[2]
    return (output.detach(), *torch.autograd.grad(output, leaves, upstream))


def true_gradients(form: Form, inputs: tuple[Tensor, ...], causal: bool) -> tuple[Tensor, ...]:
    leaves = tracked(*(x.double() for x in inputs))
    truth = form.oracle(*leaves, causal=causal)
    upstream = draw(*truth.shape, dtype=inputs[0].dtype, seed=5)[2].double()
    return (truth.detach(), *torch.autograd.grad(truth, leaves, upstream))


def assert_right(form: Form, inputs: tuple[Tensor, ...], causal: bool) -> None:
    """Output and gradients are the oracle's within rounding."""
    truths = true_gradients(form, inputs, causal)
    for found, truth in zip(gradients(form, inputs, causal), truths, strict=True):
        assert error(found, truth) <= 2 * rounding(form, inputs[0].dtype, torch.cat(truths))


@pytest.fixture
def many_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """More threads than units of channels, and rows that are split however few they are."""
    monkeypatch.setattr(ea_cpu, "FEWEST_TERMS", 1)
    monkeypatch.setattr(ea_cpu, "FEWEST_BLOCKS", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(threads)


@both_masks
@pytest.mark.parametrize("extra", [-1, 0, 1, TILE, TILE + 1, BLOCK + TILE - 1] if not REASONS else [])
def test_blocks_and_tiles_leave_no_trace_whatever_the_length(causal: bool, extra: int) -> None:
    assert_right(FUSED, draw(1, 2, BLOCK + extra, 3), causal)


@both_masks
@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_a_few_tokens_are_as_good_as_many(causal: bool, length: int) -> None:
    assert_right(FUSED, draw(2, 1, length, 8), causal)


@both_masks
@pytest.mark.parametrize("head_dim", [1, 2, 3, 4, 5, 7, 8, 9, 16, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_channels_need_not_fill_a_vector(causal: bool, head_dim: int, dtype: torch.dtype) -> None:
    assert_right(FUSED, draw(2, 2, 9, head_dim, dtype=dtype), causal)


@both_masks
@pytest.mark.parametrize("order", [0, 2, 4, 8, 12, 16, 40])
def test_every_even_order_is_specialised_rightly(causal: bool, order: int) -> None:
    inputs = draw(1, 1, 7, 5, spread=0.5)
    assert_right(fused(order), inputs, causal)


@both_masks
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_without_the_stabiliser_moderate_inputs_give_the_same(causal: bool, dtype: torch.dtype) -> None:
    inputs = draw(2, 2, 20, 8, dtype=dtype)
    truths = true_gradients(FUSED, inputs, causal)
    for found, truth in zip(gradients(fused(6, stabiliser=False), inputs, causal), truths, strict=True):
        assert error(found, truth) <= 2 * rounding(FUSED, dtype, torch.cat(truths))


def test_the_stabiliser_is_what_saves_a_channel_of_great_keys() -> None:
    query, key, value = draw(dtype=torch.float32)
    key = key.sign() * 12
    assert not fused(6, stabiliser=False)(query, key, value).isfinite().any()
    assert fused(6)(query, key, value).isfinite().all()


@both_masks
@pytest.mark.parametrize("width_bytes", [16, 32, 64])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
def test_the_width_of_a_vector_changes_nothing(
    causal: bool, width_bytes: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lanes(double: bool, channels: int) -> Lanes:
        return Lanes(double, width_bytes // (8 if double else 4))

    inputs = draw(1, 2, 20, 9, dtype=dtype)
    expected = gradients(FUSED, inputs, causal)
    monkeypatch.setattr(ea_cpu, "_lanes", lanes)
    for found, usual in zip(gradients(FUSED, inputs, causal), expected, strict=True):
        assert torch.equal(found, usual)


# Sharing the work


@pytest.mark.usefixtures("many_parts")
@both_masks
@pytest.mark.parametrize("stabiliser", [True, False])
@pytest.mark.parametrize("length", [3 * 128, 3 * 128 + 1, 5 * 128 - 1])
def test_rows_shared_among_threads_give_what_one_thread_gives(
    causal: bool, length: int, stabiliser: bool
) -> None:
    form = fused(2, stabiliser)
    inputs = draw(1, 1, length, 8)
    found = gradients(form, inputs, causal)
    torch.set_num_threads(1)
    alone = gradients(form, inputs, causal)
    for one, other in zip(found, alone, strict=True):
        # Other sums of the same terms: as many more roundings as there are parts.
        assert error(one, other) <= 4 * rounding(form, torch.float64, torch.cat(alone))


@both_masks
@pytest.mark.parametrize("threads", [1, 2, 3, 5, 8])
def test_planes_and_channels_shared_among_threads_give_the_same_bits(
    causal: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ea_cpu, "FEWEST_TERMS", 1)
    inputs = draw(1, 3, 40, 40, dtype=torch.float32)
    expected = gradients(FUSED, inputs, causal)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = gradients(FUSED, inputs, causal)
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, found, expected))


@pytest.mark.usefixtures("many_parts")
@both_masks
def test_the_same_inputs_give_the_same_bits(causal: bool) -> None:
    inputs = draw(1, 1, 4 * 128, 8, dtype=torch.float32)
    first = gradients(FUSED, inputs, causal)
    for _ in range(3):
        assert all(map(torch.equal, gradients(FUSED, inputs, causal), first))


def test_calls_from_several_threads_at_once_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ea_cpu, "FEWEST_TERMS", 1)
    inputs = [draw(1, 2, 300, 16, dtype=torch.float32, seed=seed) for seed in range(8)]
    expected = [FUSED(*each, causal=True) for each in inputs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: FUSED(*each, causal=True), inputs))
    assert all(map(torch.equal, found, expected))


def test_a_forked_child_gets_threads_of_its_own() -> None:
    code = (
        "import os, torch\n"
        "from attention_impls import get\n"
        "from attention_impls.kernels import ea_cpu\n"
        "ea_cpu.FEWEST_TERMS = 1\n"
        "inputs = torch.randn(3, 1, 4, 200, 16).unbind()\n"
        "op = get('ea-series').backends['fused'].op\n"
        "expected = op(*inputs)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if torch.equal(op(*inputs), expected) else 1)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)


# Extreme inputs


@both_masks
@pytest.mark.parametrize("which", [0, 1, 2], ids=["query", "key", "value"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bad_number_touches_its_channel_alone_and_causally_no_earlier_row(
    causal: bool, which: int, bad: float
) -> None:
    inputs = draw(2, 2, BLOCK + 40, 9, dtype=torch.float32)
    clean = gradients(FUSED, inputs, causal)
    row, channel = BLOCK + 7, 5
    inputs[which][1, 0, row, channel] = bad
    output, *grads = gradients(FUSED, inputs, causal)
    touched = torch.zeros_like(output, dtype=torch.bool)
    touched[1, 0, row if causal or which == 0 else 0 :, channel] = True
    if which == 0:
        touched[1, 0, row + 1 :, channel] = False
    assert torch.equal(output[~touched], clean[0][~touched])
    touched[1, 0, :, channel] = True  # gradients run from later rows to earlier ones
    for found, usual in zip(grads, clean[1:], strict=True):
        assert torch.equal(found[~touched], usual[~touched])


@both_masks
def test_a_nan_key_is_seen(causal: bool) -> None:
    inputs = draw(1, 1, 20, 4, dtype=torch.float32)
    inputs[1][0, 0, 7, 2] = torch.nan
    assert FUSED(*inputs, causal=causal)[0, 0, 7:, 2].isnan().all()


@both_masks
@pytest.mark.parametrize("great", [8.0, 12.0, 1e3, 1e15])
def test_great_first_keys_do_not_blind_the_rows_before_the_top_rises(causal: bool, great: float) -> None:
    query, key, value = draw(1, 2, 40, 9, dtype=torch.float32)
    key[:, :, :7] = great
    key[:, :, 20:] /= 100
    query[:, :, :7] /= great
    assert_right(fused(2), (query, key, value), causal)


def test_keys_whose_squares_overflow_spoil_only_rows_that_see_nothing_else() -> None:
    query, key, value = draw(1, 1, 40, 4, dtype=torch.float32)
    key[:, :, :3, 1] = 1e30
    output = FUSED(query, key, value, causal=True)
    alone = FUSED(query[:, :, 3:], key[:, :, 3:], value[:, :, 3:], causal=True)
    assert output[:, :, :3, 1].isnan().all()
    assert error(output[:, :, 3:, 1], alone[..., 1].double()) <= rounding(FUSED, torch.float32, value)
    assert output[..., [0, 2, 3]].isfinite().all()


@both_masks
@pytest.mark.parametrize("spread", [1e-30, 1e-6, 1e2, 1e4])
def test_inputs_of_any_magnitude_give_an_average_of_the_values(causal: bool, spread: float) -> None:
    query, key, value = draw(2, 1, BLOCK + 3, 8, dtype=torch.float32, spread=spread)
    output = fused(2)(query, key, value, causal=causal)
    slack = rounding(FUSED, torch.float32, value)
    assert (output <= value.amax(2, keepdim=True) + slack).all()
    assert (output >= value.amin(2, keepdim=True) - slack).all()


def test_equal_values_survive_a_million_tokens() -> None:
    query, key, value = draw(1, 1, 2**20, 1, dtype=torch.float32)
    for causal in (False, True):
        output = FUSED(query, key, torch.ones_like(value), causal=causal)
        assert error(output, torch.ones_like(value)) <= rounding(FUSED, torch.float32, torch.ones(1))


def test_a_sum_of_a_million_terms_is_as_exact_as_its_blocks_allow() -> None:
    query, key, value = draw(1, 1, 2**18, 2, dtype=torch.float32)
    truth = attention_impls.get("ea-series").op(query.double(), key.double(), value.double(), causal=True)
    # One rounding in sequence per token, each to either side: the square root of their number.
    assert error(FUSED(query, key, value, causal=True), truth) <= 2**9 * torch.finfo(torch.float32).eps


# The recurrent form


@pytest.mark.parametrize(
    "pieces", [[1, 2, 30], [BLOCK, BLOCK], [BLOCK - 1, 1, BLOCK + 1]] if not REASONS else []
)
def test_a_context_filled_in_piece_by_piece_is_the_whole(pieces: list[int]) -> None:
    inputs = draw(2, 2, sum(pieces), 5, dtype=torch.float32)
    whole, state, outputs = FUSED(*inputs, causal=True), None, []
    for query, key, value in zip(*(torch.split(x, pieces, 2) for x in inputs), strict=True):
        output, state = ea_fused.prefill(query, key, value, state)
        outputs.append(output)
    assert error(torch.cat(outputs, 2), whole.double()) <= rounding(FUSED, torch.float32, inputs[2])


@pytest.mark.usefixtures("many_parts")
def test_a_context_filled_in_by_several_threads_is_the_whole() -> None:
    inputs = draw(1, 1, 4 * 128, 8)
    query, key, value = (x[:, :, :100] for x in inputs)
    _, state = ea_fused.prefill(query, key, value)
    query, key, value = (x[:, :, 100:] for x in inputs)
    output, _ = ea_fused.prefill(query, key, value, state)
    expected = FUSED(*inputs, causal=True)[:, :, 100:]
    assert error(output, expected) <= rounding(FUSED, torch.float64, inputs[2])


@pytest.mark.parametrize("then", [True, False], ids=["then-stabilised", "then-not"])
@pytest.mark.parametrize("first", [True, False], ids=["first-stabilised", "first-not"])
@pytest.mark.parametrize("parts", ["one-part", "many-parts"])
def test_a_state_means_the_same_with_and_without_the_stabiliser(
    first: bool, then: bool, parts: str, request: pytest.FixtureRequest
) -> None:
    if parts == "many-parts":
        request.getfixturevalue("many_parts")
    inputs = draw(1, 1, 6 * 128, 8)
    expected = FUSED(*inputs, causal=True)
    state, outputs = None, []
    for stabiliser, query, key, value in zip(
        (first, then, not then), *(torch.split(x, [300, 467, 1], 2) for x in inputs), strict=True
    ):
        output, state = ea_fused.prefill(query, key, value, state, stabiliser=stabiliser)
        outputs.append(output)
    assert error(torch.cat(outputs, 2), expected) <= 4 * rounding(FUSED, torch.float64, inputs[2])


@pytest.mark.parametrize("later", [True, False])
@pytest.mark.parametrize("earlier", [True, False])
def test_states_merge_whether_stabilised_or_not(earlier: bool, later: bool) -> None:
    inputs = draw(1, 2, 40, 5)
    pieces = zip(*(torch.split(x, [15, 20], 2) for x in (y[:, :, :35] for y in inputs)), strict=True)
    first, second = (
        ea_fused.prefill(query, key, value, stabiliser=stabiliser)[1]
        for (query, key, value), stabiliser in zip(pieces, (earlier, later), strict=True)
    )
    query, key, value = (x[:, :, 35:] for x in inputs)
    output, _ = ea_fused.prefill(query, key, value, ea_fused.merge(first, second))
    expected = FUSED(*inputs, causal=True)[:, :, 35:]
    assert error(output, expected) <= rounding(FUSED, torch.float64, inputs[2])


def test_a_step_is_the_eager_step_and_a_batch_of_sequences_is_one_call() -> None:
    problem = Problem(5, 2, 1, 9)
    state, eager_state = ea_fused.init_state(problem), None
    for position in range(4):
        query, key, value = (x[:, :, 0] for x in draw(5, 2, 1, 9, dtype=torch.float32, seed=position))
        output, state = ea_fused.step(query, key, value, state)
        if eager_state is None:
            eager_state = attention_impls.get("ea-series").init_state(problem)
        assert isinstance(eager_state, EagerState)
        expected, eager_state = eager_step(query, key, value, eager_state)
        assert error(output, expected.double()) <= rounding(FUSED, torch.float32, value)


@pytest.mark.parametrize(
    "changed",
    [{"hyperparameters": {"order": 2}}, {"dtype": "float64"}, {"heads": 3}, {"head_dim": 5}],
    ids=str,
)
def test_a_state_of_another_problem_is_refused_rather_than_read_beyond_its_end(
    changed: dict[str, Any],
) -> None:
    query, key, value = (x[:, :, 0] for x in draw(1, 2, 1, 4, dtype=torch.float32))
    state = ea_fused.init_state(dataclasses.replace(Problem(1, 2, 1, 4), **changed))
    with pytest.raises(InvalidArgument, match="the state must be of shape"):
        ea_fused.step(query, key, value, state)


def test_a_state_may_lie_anyhow_in_memory() -> None:
    query, key, value = (x[:, :, 0] for x in draw(2, 2, 1, 4, dtype=torch.float32))
    _, state = ea_fused.prefill(*draw(2, 2, 5, 4, dtype=torch.float32))
    expected, after = ea_fused.step(query, key, value, state)
    scattered = ea_fused.State(state.sums.transpose(0, 3).contiguous().transpose(0, 3))
    output, same = ea_fused.step(query, key, value, scattered)
    assert torch.equal(output, expected)
    assert torch.equal(same.sums, after.sums)


# An operator of torch's


@both_masks
@pytest.mark.parametrize("requires_grad", [False, True])
def test_torch_finds_no_fault_with_the_operators(causal: bool, requires_grad: bool) -> None:
    inputs = [x.requires_grad_(requires_grad) for x in draw(1, 2, 9, 3)]
    torch.library.opcheck(ea_fused._forward, (*inputs, causal, 2, 1.0, True, requires_grad))
    plain = draw(1, 2, 9, 3)
    output, moments = ea_fused._forward(*plain, causal, 2, 1.0, True, True)
    torch.library.opcheck(ea_fused._backward, (*plain, output, moments, causal, 2, 1.0, True))


def test_torch_finds_no_fault_with_the_recurrent_operator() -> None:
    plain = draw(1, 2, 9, 3)
    sums = ea_fused.init_state(Problem(1, 2, 9, 3, "float64", hyperparameters={"order": 2})).sums
    torch.library.opcheck(ea_fused._extend, (*plain, sums, 2, 1.0, True))


@pytest.mark.parametrize("layout", ["channel-major", "token-major", "broadcast"])
def test_what_torch_expects_of_the_layout_is_what_it_gets(layout: str) -> None:
    query, key, value = draw()
    views = {
        "channel-major": query.transpose(2, 3).contiguous().transpose(2, 3),
        "token-major": query.transpose(1, 2).contiguous().transpose(1, 2),
        "broadcast": query[:, :1].expand_as(query),
    }
    torch.library.opcheck(ea_fused._forward, (views[layout], key, value, True, 2, 1.0, True, True))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@both_masks
def test_torch_compile_sees_one_graph_with_the_same_numbers(causal: bool) -> None:
    compiled = torch.compile(
        lambda q, k, v: ea_fused.fused(q, k, v, causal=causal) * 2, fullgraph=True, backend="aot_eager"
    )
    leaves, plain = tracked(*draw()), tracked(*draw())
    output, expected = compiled(*leaves), 2 * FUSED(*plain, causal=causal)
    assert torch.equal(output, expected)
    found, usual = (
        torch.autograd.grad(out.sum(), inputs) for out, inputs in ((output, leaves), (expected, plain))
    )
    assert all(map(torch.equal, found, usual))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_torch_export_keeps_the_length_open() -> None:
    class Model(torch.nn.Module):
        def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return ea_fused.fused(query, key, value, causal=True)

    exported = torch.export.export(Model(), draw(), dynamic_shapes=({2: torch.export.Dim("length")},) * 3)
    shorter = draw(2, 3, 7, 4)
    assert torch.equal(exported.module()(*shorter), FUSED(*shorter, causal=True))


def test_autocast_rounds_the_inputs_as_those_of_a_product() -> None:
    inputs = draw(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        output = FUSED(*inputs)
        mixed = ea_fused.fused(inputs[0].bfloat16(), *inputs[1:])
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, FUSED(*(x.bfloat16() for x in inputs)))
    assert torch.equal(output, mixed)


def test_gradients_of_gradients_are_refused_with_a_way_out() -> None:
    leaves = tracked(*draw())
    (first, *_) = torch.autograd.grad(FUSED(*leaves).sum(), leaves, create_graph=True)
    with pytest.raises(Unsupported, match=r"first gradients only.*ea-series/eager"):
        torch.autograd.grad(first.sum(), leaves)


def test_gradients_through_a_step_are_refused_with_a_way_out() -> None:
    query, key, value = tracked(*(x[:, :, 0] for x in draw()))
    with pytest.raises(Unsupported, match=r"no gradients.*ea-series/eager"):
        ea_fused.step(query, key, value, ea_fused.init_state(Problem(2, 3, 1, 4, "float64")))


# Memory


def peak(form: Form, inputs: tuple[Tensor, ...], causal: bool, train: bool) -> int:
    def call() -> object:
        if train:
            return torch.autograd.grad(form(*leaves, causal=causal), leaves, upstream)
        with torch.no_grad():
            return form(*inputs, causal=causal)

    leaves, upstream = tracked(*inputs), torch.ones_like(inputs[0])
    call()
    return memory.measure(call, "cpu").above_inputs


@both_masks
def test_forward_holds_its_output_and_little_more(causal: bool) -> None:
    inputs = draw(1, 4, 4096, 64, dtype=torch.float32)
    sums = 15 * 4 * 64 * 4  # 2 (t + 1) + 1 per channel
    assert peak(FUSED, inputs, causal, train=False) <= inputs[0].nbytes + 2**20 + 4 * sums


@both_masks
def test_training_holds_the_output_three_gradients_and_a_tenth_more(causal: bool) -> None:
    inputs = draw(1, 4, 4096, 64, dtype=torch.float32)
    assert peak(FUSED, inputs, causal, train=True) <= 1.1 * 4 * inputs[0].nbytes


def test_the_block_of_the_formula_is_the_kernel_s() -> None:
    assert workspaces.FUSED_BLOCK == ea_cpu_code.BLOCK
