"""TransformerBlock: an attention in a real model's block, with the parameters, work and memory it claims."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import attention_impls
from attention_impls import InvalidArgument, Problem, TransformerBlock
from attention_impls.costs.layers import (
    GELU,
    NORM,
    RESIDUAL,
    block_cost,
    block_params,
    projection_cost,
)
from elattn_bench import memory, workload
from elattn_bench.cases import Case

every_name = pytest.mark.parametrize("name", attention_impls.names())

PROBLEM = Problem(2, 3, 33, 4)


def normalised(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    scaled: Tensor = (x - mean) / torch.sqrt(variance + 1e-5) * norm.weight
    return scaled if norm.bias is None else scaled + norm.bias


@every_name
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("expansion", [1, 4])
def test_parameters_are_as_many_as_the_formula_says(name: str, bias: bool, expansion: int) -> None:
    block = TransformerBlock(name, 12, 3, expansion=expansion, bias=bias, seq_len=9)
    parameters = sum(parameter.numel() for parameter in block.parameters())
    spec = attention_impls.get(name)
    assert parameters == block_params(spec, Problem(1, 3, 9, 4), expansion, bias)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_block_is_its_formula_written_out(causal: bool, bias: bool) -> None:
    torch.manual_seed(0)
    block = TransformerBlock("softmax", 12, 3, bias=bias, dtype=torch.float64)
    for parameter in block.parameters():  # norms start as the identity, which hides their place
        nn.init.normal_(parameter)
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    attended = x + block.attention(normalised(x, block.attention_norm), causal=causal)
    up, down = block.mlp[0], block.mlp[2]
    assert isinstance(up, nn.Linear)
    assert isinstance(down, nn.Linear)
    hidden = normalised(attended, block.mlp_norm) @ up.weight.T + (up.bias if bias else 0)
    active = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    expected = attended + active @ down.weight.T + (down.bias if bias else 0)
    assert active.shape[-1] == 48
    torch.testing.assert_close(block(x, causal=causal), expected, rtol=1e-10, atol=1e-10)


@every_name
@pytest.mark.parametrize("causal", [False, True])
def test_the_shape_stays_and_every_used_parameter_has_a_gradient(name: str, causal: bool) -> None:
    if not causal and attention_impls.get(name).causal_only:
        pytest.skip(f"{name} is causal only")
    block = TransformerBlock(name, 12, 3, bias=True, seq_len=9, dtype=torch.float64)
    x = torch.randn(2, 7, 12, dtype=torch.float64, requires_grad=True)
    output = block(x, causal=causal)
    assert output.shape == x.shape
    used = block.used_parameters(causal)
    gradients = torch.autograd.grad(output.square().sum(), [x, *used])
    assert all(gradient.isfinite().all() for gradient in gradients)
    unused = {id(each) for each in block.parameters()} - {id(each) for each in used}
    of_core = {id(each) for each in block.attention.parameters_of_core.values()}
    assert unused <= of_core


def test_a_causal_block_ignores_what_comes_after() -> None:
    block = TransformerBlock("softmax", 12, 3, dtype=torch.float64)
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    changed = x.clone()
    changed[:, 5:] += 1
    before, after = block(x, causal=True), block(changed, causal=True)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5:], after[:, 5:])
    assert not torch.equal(block(x)[:, :5], block(changed)[:, :5])


def test_hyperparameters_and_backend_reach_the_attention() -> None:
    block = TransformerBlock("ea-series", 12, 3, backend="eager", order=2)
    assert block.attention.backend == "eager"
    assert block.attention.hyperparameters == {"order": 2}
    with pytest.raises(InvalidArgument, match="odd order"):
        TransformerBlock("ea-series", 12, 3, order=3)


def test_what_makes_no_block_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="expansion must be a positive whole number; it is 0"):
        TransformerBlock("softmax", 12, 3, expansion=0)
    with pytest.raises(InvalidArgument, match=r"x must be \[batch, seq_len, 12\]"):
        TransformerBlock("softmax", 12, 3)(torch.randn(2, 7, 11))


def counted(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("expansion", [2, 4])
def test_the_work_is_the_products_that_torch_counts_and_the_small_terms(expansion: int) -> None:
    spec = attention_impls.get("linear")
    block = TransformerBlock("linear", 12, 3, expansion=expansion)
    x = torch.randn(2, 33, 12, requires_grad=True)
    both = dataclasses.replace(PROBLEM, backward=True)
    forward, train = (
        spec.cost(problem).flops + block_cost(spec, problem, expansion).flops for problem in (PROBLEM, both)
    )
    small = [(2 * NORM[i] + 2 * RESIDUAL[i] + expansion * GELU[i]) * PROBLEM.elements for i in (0, 1)]
    assert forward - small[0] == counted(lambda: block(x.detach()))
    assert train - sum(small) == counted(lambda: block(x).sum().backward())


def test_the_mlp_does_sixteen_dim_squared_operations_a_token() -> None:
    spec, wide = attention_impls.get("softmax"), Problem(1, 8, 100, 512)
    mlp = block_cost(spec, wide).flops - projection_cost(spec, wide).flops
    assert mlp == pytest.approx(100 * 16 * wide.dim**2, rel=0.001)


def test_traffic_is_what_was_counted_by_hand() -> None:
    """Forward: two norms 2 each, two residuals 1 each, the MLP's ends 2 and its hidden layer 2 x 4."""
    spec, weights = attention_impls.get("softmax"), 2 * 4 * 12**2 + 2 * 12
    around = block_cost(spec, PROBLEM).bytes - projection_cost(spec, PROBLEM).bytes
    assert around == 4 * (16 * PROBLEM.elements + weights)
    both = dataclasses.replace(PROBLEM, backward=True)
    around = block_cost(spec, both).bytes - projection_cost(spec, both).bytes
    assert around == 4 * ((16 + 23) * PROBLEM.elements + 3 * weights)


TOLERANCE = 0.25  # as tests/impls/test_workspaces.py


def case(impl: str, **axes: Any) -> Case:
    usual: dict[str, Any] = {
        "level": "block", "mode": "forward", "dtype": "float32", "device": "cpu", "causal": False,
        "batch": 2, "heads": 4, "seq_len": 600, "dim": 256, "order": 6 if "series" in impl else None,
    }  # fmt: skip
    attention, backend = impl.split("/")
    return Case(attention, backend, **{**usual, **axes})


@pytest.mark.parametrize("impl", ["softmax/eager", "linear/eager", "ea-series/eager", "hadamard/eager"])
@pytest.mark.parametrize(
    "axes",
    [{}, {"causal": True, "dtype": "bfloat16"}, {"batch": 1, "seq_len": 2048, "dim": 64}],
    ids=["usual", "bfloat16-causal", "long"],
)
def test_the_memory_formula_is_what_a_call_holds(impl: str, axes: dict[str, Any]) -> None:
    of = case(impl, **axes)
    call = workload.build(of).call
    call()  # first calls allocate more
    measured = memory.measure(call, "cpu").above_inputs
    assert measured >= 2**20
    assert of.analytic_memory_bytes is not None
    assert of.analytic_memory_bytes / measured == pytest.approx(1, abs=TOLERANCE)


def test_in_training_no_formula_says_what_a_block_holds() -> None:
    assert case("linear/eager", mode="train").analytic_memory_bytes is None
    assert case("ea-series/compile").analytic_memory_bytes is None


@every_name
def test_the_harness_calls_a_block_in_both_modes(name: str) -> None:
    backend, causal = attention_impls.get(name).plain, attention_impls.get(name).causal_only
    order = 2 if "order" in attention_impls.get(name).hyperparameters else None
    for mode in ("forward", "train"):
        of = case(f"{name}/{backend}", mode=mode, causal=causal, seq_len=16, dim=32, order=order)
        made = workload.build(of)
        versions = made.versions()
        assert made.broken(made.call(), versions) is None
        # A parameter of the other form alone is no input of this one.
        assert of.params is not None
        assert sum(each.numel() for each in made.inputs[1:]) <= of.params + 2 * 16 * 32


def test_a_block_has_more_parameters_and_work_than_its_layer() -> None:
    op, layer, block = (case("softmax/eager", level=level) for level in ("op", "layer", "block"))
    assert (op.params, layer.params, block.params) == (0, 4 * 256**2, 12 * 256**2 + 2 * 256)
    assert op.cost.flops < layer.cost.flops < block.cost.flops
    assert op.cost.bytes < layer.cost.bytes < block.cost.bytes
