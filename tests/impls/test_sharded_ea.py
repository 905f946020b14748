"""EA-series over real ranks: the single process's results, whatever the cut, and a traffic that no length changes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import attention_impls
from attention_impls import Problem
from attention_impls.sharded import Exchange, attend

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
    output = attend("ea-series", *leaves, exchange, backend=backend, **knobs)
    output.backward(upstream)
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
    (found, received), = ranks.run(1, shards, inputs, [23], backend, {"causal": causal})
    assert received == 0
    expected = alone(inputs, backend, {"causal": causal})
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@each_backend
@both_masks
@pytest.mark.parametrize("knobs", [{"order": 0}, {"order": 2, "scale": 0.3}, {"order": 8}, {"stabiliser": False}], ids=str)
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
    inputs = inputs_of(dtype=torch.float32)
    inputs[1][:, :, 12:, 0] = 1e30
    found = joined(ranks.run(2, shards, inputs, [12, 11], backend, {"causal": causal}))
    ours = [x[..., 1:] for x in found]
    truth = [x[..., 1:] for x in truths(inputs, {"causal": causal})]
    form = Form("ea-series", backend, {})
    assert error(ours[0], truth[0]) <= rounding(form, torch.float32, inputs[2])
    without = truths([x[:, :, :12] if n else x for n, x in enumerate(inputs)], {}) if False else None
    assert without is None
    assert found[0][..., 0].isfinite().all()
