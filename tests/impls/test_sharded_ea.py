"""EA-series over real ranks: the single process's results, whatever the cut, and a traffic that no length changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

import attention_impls
from attention_impls import Problem, Unsupported
from attention_impls.kernels import ea_cpu
from attention_impls.sharded import Exchange, attend
from attention_impls.sharding import shard_lengths

from . import ranks
from .support import Form, draw, error, rounding

BACKENDS = ["fused", "eager"]
SHAPE = (2, 2, 23, 3)
LONG = (1, 1, 700, 5)  # some blocks of the kernels, several parts
CUTS: dict[int, list[list[int]]] = {
    1: [[23]],
    2: [[12, 11], [1, 22]],
    3: [[8, 8, 7], [1, 1, 21]],
    4: [[6, 6, 6, 5], [20, 1, 1, 1]],
    5: [[5, 5, 5, 4, 4]],
}

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")

both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
each_backend = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(scope="module", autouse=True)
def ended() -> Iterator[None]:
    yield
    ranks.end()


def shard_of(tensor: Tensor, cut: Sequence[int], rank: int) -> Tensor:
    return torch.split(tensor, list(cut), 2)[rank].clone()


def shards(
    exchange: Exchange, inputs: Sequence[Tensor], cut: Sequence[int], backend: str, knobs: dict[str, Any]
) -> tuple[list[Tensor], int]:
    """Output and gradients of this rank's shard, and what it has received."""
    query, key, value, upstream = (shard_of(x, cut, exchange.rank) for x in inputs)
    leaves = [x.requires_grad_() for x in (query, key, value)]
    output = attend("ea-series", query, key, value, exchange, backend=backend, **knobs)
    torch.autograd.backward(output, upstream)
    return [output.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)], (
        exchange.traffic.received_bytes
    )


def joined(found: Sequence[tuple[list[Tensor], int]]) -> list[Tensor]:
    return [torch.cat(parts, 2) for parts in zip(*(tensors for tensors, _ in found), strict=True)]


def inputs_of(
    *shape: int, dtype: torch.dtype = torch.float64, spread: float = 0.7
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, key, value and the gradient of the output."""
    upstream = draw(*(shape or SHAPE), dtype=dtype, seed=1)[2]
    return *draw(*(shape or SHAPE), dtype=dtype, spread=spread), upstream


def alone(inputs: Sequence[Tensor], backend: str, knobs: dict[str, Any]) -> list[Tensor]:
    """Output and gradients of one process with all tokens."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs[:3]]
    output = attention_impls.get("ea-series").backends[backend].op(*leaves, **knobs)
    return [output.detach(), *torch.autograd.grad(output, leaves, inputs[3])]


def truths(inputs: Sequence[Tensor], knobs: dict[str, Any]) -> list[Tensor]:
    """The same from the oracle, in float64."""
    knobs = {name: knob for name, knob in knobs.items() if name != "stabiliser"}
    leaves = [x.detach().double().requires_grad_() for x in inputs[:3]]
    output = attention_impls.get("ea-series").oracle(*leaves, **knobs)
    return [output.detach(), *torch.autograd.grad(output, leaves, inputs[3].double())]


def assert_close(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 1e-10) -> None:
    for result, truth in zip(found, expected, strict=True):
        assert error(result, truth) <= tolerance * float(truth.abs().max())


@each_backend
@both_masks
@pytest.mark.parametrize("world", [1, 2, 3, 4, 5])
def test_every_world_and_every_cut_gives_what_one_process_gives(
    world: int, causal: bool, backend: str
) -> None:
    inputs = inputs_of()
    expected = alone(inputs, backend, {"causal": causal})
    for cut in CUTS[world]:
        found = joined(ranks.run(world, shards, inputs, cut, backend, {"causal": causal}))
        assert_close(found, expected)


@each_backend
@both_masks
def test_in_a_world_of_one_the_bits_are_those_of_the_ordinary_backend(causal: bool, backend: str) -> None:
    inputs = inputs_of(dtype=torch.float32)
    ((found, received),) = ranks.run(1, shards, inputs, [23], backend, {"causal": causal})
    assert received == 0
    expected = alone(inputs, backend, {"causal": causal})
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@each_backend
@both_masks
@pytest.mark.parametrize(
    "knobs", [{"order": 0}, {"order": 2, "scale": 0.3}, {"order": 8}, {"stabiliser": False}], ids=str
)
def test_every_order_and_either_stabiliser(causal: bool, backend: str, knobs: dict[str, Any]) -> None:
    inputs, knobs = inputs_of(), {"causal": causal, **knobs}
    found = joined(ranks.run(3, shards, inputs, [9, 1, 13], backend, knobs))
    assert_close(found, alone(inputs, backend, knobs))


@each_backend
@both_masks
def test_shards_of_many_blocks_give_what_one_process_gives(causal: bool, backend: str) -> None:
    inputs = inputs_of(*LONG)
    found = joined(ranks.run(3, shards, inputs, [300, 129, 271], backend, {"causal": causal}))
    assert_close(found, alone(inputs, backend, {"causal": causal}))


@each_backend
@both_masks
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_other_dtypes_are_as_exact_as_in_one_process(causal: bool, backend: str, dtype: torch.dtype) -> None:
    inputs = inputs_of(dtype=dtype)
    found = joined(ranks.run(2, shards, inputs, [10, 13], backend, {"causal": causal}))
    expected = truths(inputs, {"causal": causal})
    form = Form("ea-series", backend, {})
    assert error(found[0], expected[0]) <= rounding(form, dtype, inputs[2])
    for gradient, truth in zip(found[1:], expected[1:], strict=True):
        assert gradient.dtype == dtype
        assert error(gradient, truth) <= 2 * rounding(form, dtype, torch.cat(expected[1:]))


@each_backend
@both_masks
@pytest.mark.parametrize("great", [0, 1, 2], ids="great keys on rank {}".format)
def test_keys_of_very_different_size_neither_under_nor_overflow(
    causal: bool, backend: str, great: int
) -> None:
    """One rank's log-weights are 10^4 below the others', and in a channel of its own far below what exp can hold."""
    inputs = inputs_of()
    cut = [8, 8, 7]
    first = sum(cut[:great])
    inputs[1][:, :, first : first + cut[great], 0] = 100.0
    inputs[1][:, :, first : first + cut[great], 1] *= 60.0
    knobs = {"causal": causal}
    found = joined(ranks.run(3, shards, inputs, cut, backend, knobs))
    expected = alone(inputs, backend, knobs)
    assert all(result.isfinite().all() for result in found)
    for result, truth in zip(found, expected, strict=True):
        for channel in range(SHAPE[-1]):  # each on its own scale
            of_channel = truth[..., channel]
            assert error(result[..., channel], of_channel) <= 1e-9 * float(of_channel.abs().max())


@each_backend
@both_masks
def test_keys_beyond_every_weight_have_none_beside_another_rank_s(causal: bool, backend: str) -> None:
    inputs, knobs = inputs_of(dtype=torch.float32), {"causal": causal}
    inputs[1][:, :, 12:, 0] = 1e30
    found = joined(ranks.run(2, shards, inputs, [12, 11], backend, knobs))
    inputs[1][:, :, 12:, 0] = 100.0  # whose square is finite, and exp(-10^4) still nothing
    expected = truths(inputs, knobs)
    assert error(found[0], expected[0]) <= rounding(Form("ea-series", backend, {}), torch.float32, inputs[2])


def threaded_shards(exchange: Exchange, *arguments: Any) -> tuple[list[Tensor], int]:
    """As ``shards``, on several threads that split the rows of even short shards."""
    with mock.patch.multiple(ea_cpu, FEWEST_TERMS=0, FEWEST_BLOCKS=1):
        torch.set_num_threads(3)
        ea_cpu._plan.cache_clear()
        try:
            found = shards(exchange, *arguments)
        finally:
            torch.set_num_threads(1)
            ea_cpu._plan.cache_clear()
    return found


@both_masks
@pytest.mark.parametrize("stabiliser", [True, False], ids=["stabilised", "plain"])
def test_shards_whose_rows_are_split_among_threads_give_the_same(causal: bool, stabiliser: bool) -> None:
    inputs, knobs = inputs_of(*LONG), {"causal": causal, "stabiliser": stabiliser}
    found = joined(ranks.run(2, threaded_shards, inputs, [500, 200], "fused", knobs))
    assert_close(found, alone(inputs, "fused", knobs))


@each_backend
def test_no_rank_s_output_or_gradient_knows_of_later_tokens_and_upstreams(backend: str) -> None:
    """What only the last shard holds reaches no earlier output, an upstream of the first no later gradient."""
    inputs, cut, knobs = inputs_of(), [8, 8, 7], {"causal": True}
    before = joined(ranks.run(3, shards, inputs, cut, backend, knobs))
    changed = [torch.cat((x[:, :, :16], x[:, :, 16:] + 1.0), 2) for x in inputs[:3]]
    after = joined(ranks.run(3, shards, (*changed, inputs[3]), cut, backend, knobs))
    assert torch.equal(before[0][:, :, :16], after[0][:, :, :16])
    upstream = torch.cat((inputs[3][:, :, :8] + 1.0, inputs[3][:, :, 8:]), 2)
    after = joined(ranks.run(3, shards, (*inputs[:3], upstream), cut, backend, knobs))
    for gradient, other in zip(before[1:], after[1:], strict=True):
        assert torch.equal(gradient[:, :, 8:], other[:, :, 8:])
        assert not torch.equal(gradient[:, :, :8], other[:, :, :8])


def on_one_rank_alone(exchange: Exchange, inputs: Sequence[Tensor], backend: str, causal: bool) -> Any:
    """Gradients of the middle rank's keys, the only tensor of all that requires any."""
    query, key, value, upstream = (shard_of(x, [8, 8, 7], exchange.rank) for x in inputs)
    key.requires_grad_(exchange.rank == 1)
    output = attend("ea-series", query, key, value, exchange, backend=backend, causal=causal)
    if exchange.rank == 1:
        return torch.autograd.grad(output, key, upstream)[0]
    torch.autograd.backward(output, upstream)
    return key.grad


@each_backend
@both_masks
def test_a_rank_without_gradients_of_its_own_takes_part_in_those_of_others(
    causal: bool, backend: str
) -> None:
    inputs = inputs_of()
    first, middle, last = ranks.run(3, on_one_rank_alone, inputs, backend, causal)
    assert first is None
    assert last is None
    assert_close([middle], [alone(inputs, backend, {"causal": causal})[2][:, :, 8:16]])


def traffics(exchange: Exchange, backend: str, problems: Sequence[Problem]) -> list[int]:
    """What this rank receives in the calls that the problems describe."""
    received = []
    for problem in problems:
        lengths = shard_lengths(problem.seq_len, exchange.size)
        shape = (problem.batch, problem.heads, lengths[exchange.rank], problem.head_dim)
        zeros = torch.zeros(shape, dtype=getattr(torch, problem.dtype))
        before = exchange.traffic.received_bytes
        with torch.set_grad_enabled(problem.backward):
            output = attend(
                "ea-series",
                zeros,
                zeros,
                zeros,
                exchange,
                backend=backend,
                causal=problem.causal,
                **problem.hyperparameters,
            )
            if problem.backward:
                torch.autograd.backward(output, torch.ones_like(output))
        received.append(exchange.traffic.received_bytes - before)
    return received


def problems_of(backend: str) -> list[Problem]:
    """All kinds of calls; of the kernels, each of whose forms every rank would compile, some."""
    problems = [
        Problem(2, 1, 11, 3, dtype, causal=causal, backward=backward, hyperparameters=knobs)
        for dtype in ("float32", "float64", "bfloat16")
        for causal in (False, True)
        for backward in (False, True)
        for knobs in ({}, {"stabiliser": False}, {"order": 2})
    ]
    return problems if backend == "eager" else [*problems[0:12:3], problems[-5], problems[-2]]


@each_backend
@pytest.mark.parametrize("world", [2, 3, 4, 5])
def test_what_is_received_is_the_formula_s_and_no_length_changes_it(world: int, backend: str) -> None:
    problems = problems_of(backend)
    sharding = attention_impls.get("ea-series").backends[backend].sharding
    assert sharding is not None
    expected = [sharding.received(problem, world) for problem in problems]
    found = ranks.run(world, traffics, backend, problems)
    assert [max(each) for each in zip(*found, strict=True)] == expected
    longer = [replace(problem, seq_len=47) for problem in problems]
    assert ranks.run(world, traffics, backend, longer) == found


def test_the_formula_counts_what_is_sent_and_nothing_in_a_world_of_one() -> None:
    sharding = attention_impls.get("ea-series").backends["fused"].sharding
    assert sharding is not None
    received = sharding.received
    problem = Problem(8, 8, 2**20, 128)  # order 6: 14 sums and a reference for each of 8 * 1024 channels
    assert received(problem, 1) == 0
    assert received(problem, 2) == received(problem, 64) == 15 * 8 * 1024 * 4
    train = replace(problem, backward=True)
    assert received(train, 4) == (15 + 14) * 8 * 1024 * 4
    assert received(replace(problem, causal=True), 64) == 6 * 15 * 8 * 1024 * 4
    assert received(replace(train, causal=True), 2) == 15 * 8 * 1024 * 4
    # Of four ranks the second receives one state from before and two from after, the first two from after.
    assert received(replace(train, causal=True), 4) == 3 * 15 * 8 * 1024 * 4


def test_a_backend_without_a_form_for_ranks_is_refused_and_those_with_one_are_named() -> None:
    with pytest.raises(
        Unsupported, match="ea-series/compile has no form for ranks; those with one: fused, eager"
    ):
        attend("ea-series", *draw(*SHAPE), Exchange(), backend="compile")
