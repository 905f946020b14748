"""Cost formulas: against torch's own counter where it sees something, against hand counts elsewhere."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import attention_impls
from attention_impls import Cost, Problem
from attention_impls.costs.layers import projection_cost

from .support import draw, tracked

every_name = pytest.mark.parametrize("name", attention_impls.names())

PROBLEM = Problem(2, 3, 33, 4)

VALUES_ALONE = ("mean",)  # nobody needs its queries and keys, and their gradients are known

ENDS = ("s2",)  # work grows by the same with every group, but the groups at the ends differ
OWN_CAUSAL_WORK = ("perceiver", "s2")  # linear in seq_len, yet a causal mask changes it


def counted(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("name", ["softmax", "efficient", "linear"])
def test_matrix_products_are_what_torch_counts(name: str) -> None:
    spec = attention_impls.get(name)
    inputs = draw(dtype=torch.float32)
    assert counted(lambda: spec.op(*inputs)) == spec.cost(PROBLEM).flops
    leaves = tracked(*inputs)
    with_gradients = dataclasses.replace(PROBLEM, backward=True)
    assert (
        counted(lambda: torch.autograd.grad(spec.op(*leaves).sum(), leaves))
        == spec.cost(with_gradients).flops
    )


def test_matrix_projections_are_what_torch_counts() -> None:
    layer = attention_impls.AttentionLayer("linear", 12, 3)
    spec = attention_impls.get("linear")
    x = torch.randn(2, 33, 12)
    assert counted(lambda: layer(x)) == (spec.cost(PROBLEM) + projection_cost(spec, PROBLEM)).flops
    x.requires_grad_()
    both = dataclasses.replace(PROBLEM, backward=True)
    assert counted(lambda: layer(x).sum().backward()) == (spec.cost(both) + projection_cost(spec, both)).flops


@every_name
def test_traffic_is_four_tensors_forward_and_eleven_with_gradients(name: str) -> None:
    spec = attention_impls.get(name)
    one_tensor = 2 * 3 * 33 * 4 * 4
    operands = 4 * sum(math.prod(each.shape) for each in spec.operands(PROBLEM).values())
    forward, train = (2, 4) if name in VALUES_ALONE else (4, 11)
    assert spec.cost(PROBLEM).bytes == forward * one_tensor + operands
    assert spec.cost(dataclasses.replace(PROBLEM, backward=True)).bytes == train * one_tensor + 3 * operands
    half = dataclasses.replace(PROBLEM, dtype="bfloat16")
    assert spec.cost(half).bytes == (forward * one_tensor + operands) // 2


@every_name
@pytest.mark.parametrize("backward", [False, True])
def test_work_grows_with_length_as_the_spec_says(name: str, backward: bool) -> None:
    if name in ENDS:
        pytest.skip("its last groups are shorter: see its own tests")
    spec = attention_impls.get(name)
    short, long = (
        spec.cost(dataclasses.replace(PROBLEM, seq_len=length, backward=backward)) for length in (100, 200)
    )
    assert long.flops == {"linear": 2, "quadratic": 4}[spec.growth] * short.flops
    assert isinstance(short.flops, int)
    assert isinstance(short.bytes, int)


@every_name
def test_a_causal_mask_halves_quadratic_work_only(name: str) -> None:
    if name in OWN_CAUSAL_WORK:
        pytest.skip("its causal form has pairs of its own: see its own tests")
    spec = attention_impls.get(name)
    full, causal = (spec.cost(dataclasses.replace(PROBLEM, causal=causal)).flops for causal in (False, True))
    if "window" in spec.hyperparameters:  # of 2 s - 1 positions around a row, s are not in the future
        assert full < 2 * causal < 1.1 * full
        return
    if spec.growth == "linear" and spec.full_form == "extension":
        assert causal <= full <= 2 * causal  # a recurrence that looks ahead sweeps once more
        return
    assert causal * 33 * 2 == full * 34 if spec.growth == "quadratic" else causal == full


@pytest.mark.parametrize(("order", "forward", "backward"), [(2, 24, 57), (6, 60, 141)])
def test_ea_series_costs_per_element_what_its_recurrences_count(
    order: int, forward: int, backward: int
) -> None:
    cost = attention_impls.get("ea-series").cost
    problem = dataclasses.replace(PROBLEM, hyperparameters={"order": order})
    assert cost(problem).flops == forward * PROBLEM.elements
    train = dataclasses.replace(problem, backward=True)
    assert cost(train).flops == (forward + backward) * PROBLEM.elements
    assert cost(dataclasses.replace(train, causal=True)).flops > cost(train).flops


def test_array_projections_cost_no_matrix_product() -> None:
    spec = attention_impls.get("hadamard")
    assert projection_cost(spec, PROBLEM).flops == 3 * PROBLEM.elements
    assert projection_cost(spec, PROBLEM) + Cost(1, 0) == Cost(
        3 * PROBLEM.elements + 1, 4 * (4 * PROBLEM.elements + 3 * 12)
    )


@pytest.mark.parametrize("order", [2, 6])
def test_the_state_of_ea_series_at_dim_512_is_as_small_as_claimed(order: int) -> None:
    problem = Problem(1, 8, 4096, 64, hyperparameters={"order": order})
    state_bytes = attention_impls.get("ea-series").state_bytes
    assert state_bytes is not None
    moments = {2: 12 * 1024, 6: 28 * 1024}[order]
    assert state_bytes(problem) == moments + 512 * 4  # and one stabiliser per channel
    assert state_bytes(dataclasses.replace(problem, seq_len=2**20)) == state_bytes(problem)


def decode_cost(name: str, **changes: Any) -> Cost:
    cost = attention_impls.get(name).decode_cost
    assert cost is not None
    return cost(dataclasses.replace(PROBLEM, **changes))


every_decoder = pytest.mark.parametrize(
    "name", [name for name in attention_impls.names() if attention_impls.get(name).has_decode]
)


@every_decoder
def test_a_step_costs_the_same_after_any_context_unless_the_state_grows(name: str) -> None:
    short, long = decode_cost(name, seq_len=2**10), decode_cost(name, seq_len=2**20)
    if attention_impls.get(name).state_grows:
        assert 1000 < long.flops / short.flops < 1024
        assert 1000 < long.bytes / short.bytes < 1024
    else:
        assert short == long


@every_decoder
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_reads_its_token_and_its_state_and_writes_what_is_new(name: str, dtype: str) -> None:
    spec = attention_impls.get(name)
    assert spec.state_bytes is not None
    problem = dataclasses.replace(PROBLEM, dtype=dtype)
    token = 2 * 3 * 4 * problem.element_size
    gates = [each for each in spec.operands(problem).values() if not each.learned]
    of_token = sum(math.prod(each.shape) for each in gates) // 33 * problem.element_size
    state = spec.state_bytes(problem)
    written = 2 * token if spec.state_grows else state  # of a cache one row of keys and one of values
    tokens = (2 if name in VALUES_ALONE else 4) * token
    assert decode_cost(name, dtype=dtype).bytes == tokens + of_token + state + written


@pytest.mark.parametrize(("name", "per_channel"), [("softmax", 4), ("element-wise", 8)])
def test_a_step_on_a_cache_meets_every_token_and_its_own(name: str, per_channel: int) -> None:
    tokens = PROBLEM.seq_len + 1
    assert decode_cost(name).flops == per_channel * tokens * 2 * 3 * 4
    # So a causal call is its steps, one after each prefix.
    cost = attention_impls.get(name).cost(dataclasses.replace(PROBLEM, causal=True))
    assert cost.flops == sum(decode_cost(name, seq_len=n).flops for n in range(PROBLEM.seq_len))


@pytest.mark.parametrize(
    ("name", "hyperparameters", "per_element"),
    [
        ("linear", {}, 4 * 4),
        ("mean", {}, 2),
        ("efficient", {}, 5 * 4),
        ("efficient", {"normalisation": "scaling"}, 4 * 4),
        ("ea-series", {"order": 2}, 32),
        ("ea-series", {"order": 6}, 76),
        ("hadamard", {}, 11),
        ("hadamard", {"axis": "channels"}, 8),
        ("retention", {}, 5 * 4),
        ("mamba-2", {}, 5 * 4),
        ("gla", {}, 5 * 4),
        ("gated-delta", {}, 7 * 4),
    ],
    ids=str,
)
def test_a_step_does_so_many_operations_per_element(
    name: str, hyperparameters: dict[str, Any], per_element: int
) -> None:
    assert decode_cost(name, hyperparameters=hyperparameters).flops == per_element * 2 * 3 * 4
