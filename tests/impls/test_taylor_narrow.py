"""``based`` with queries and keys narrower than its values: op, recurrent form, layer and harness."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

import attention_impls
from attention_impls import AttentionLayer, InvalidArgument, Problem
from elattn_bench import gate, workload
from elattn_bench.cases import Case

from .support import draw, error, tracked

both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])

SPEC = attention_impls.get("based")


def narrow(length: int = 70) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys of 16 channels, values of 24."""
    query, key, value = draw(2, 3, length, 24)
    return query[..., :16], key[..., :16], value


@both_masks
def test_output_and_gradients_are_the_oracle_s(causal: bool) -> None:
    inputs, upstream = narrow(), draw(2, 3, 70, 24, seed=1)[2]
    mine, theirs = tracked(*inputs), tracked(*inputs)
    output, truth = SPEC.op(*mine, causal=causal), SPEC.oracle(*theirs, causal=causal)
    assert output.shape == inputs[2].shape
    assert error(output, truth) < 1e-12
    gradients = torch.autograd.grad(output, mine, upstream)
    for gradient, expected in zip(gradients, torch.autograd.grad(truth, theirs, upstream), strict=True):
        assert error(gradient, expected) < 1e-10


def test_steps_are_the_causal_form() -> None:
    inputs = query, key, value = narrow()
    _, state = SPEC.prefill(query[:, :, :69], key[:, :, :69], value[:, :, :69])
    assert state.sums.shape == (2, 3, 153, 25)
    output, _ = SPEC.step(query[:, :, 69], key[:, :, 69], value[:, :, 69], state)
    assert error(output, SPEC.op(*inputs, causal=True)[:, :, 69]) < 1e-12


def test_keys_of_another_width_are_refused() -> None:
    query, key, value = narrow()
    with pytest.raises(InvalidArgument, match=r"query must be \[batch, heads, seq_len, 16\]; it has shape"):
        SPEC.op(value, key, value)
    with pytest.raises(InvalidArgument, match=r"key must be \[batch, heads, seq_len, 8\]"):
        SPEC.op(query[..., :8], key, value, feature_dim=8)
    with pytest.raises(InvalidArgument, match="based: feature_dim=0"):
        SPEC.op(query, key, value, feature_dim=0)


@pytest.mark.parametrize(("feature_dim", "width"), [(16, 16), (8, 8), (64, 24)])
def test_a_layer_projects_to_narrow_keys(feature_dim: int, width: int) -> None:
    layer = AttentionLayer("based", 72, 3, feature_dim=feature_dim)
    problem = Problem(1, 3, 9, 24, hyperparameters={"feature_dim": feature_dim})
    parameters = sum(parameter.numel() for parameter in layer.parameters())
    assert parameters == SPEC.layer_params(problem) == 2 * 72 * 3 * width + 2 * 72**2
    assert layer(torch.randn(2, 9, 72), causal=True).shape == (2, 9, 72)


def test_traffic_is_that_of_narrow_keys() -> None:
    problem = Problem(2, 3, 33, 24)
    rows = 2 * 3 * 33 * 4
    assert SPEC.cost(problem).bytes == rows * (2 * 16 + 2 * 24)
    assert SPEC.cost(dataclasses.replace(problem, backward=True)).bytes == rows * (6 * 16 + 5 * 24)
    assert SPEC.decode_cost is not None
    assert SPEC.state_bytes is not None
    step = SPEC.decode_cost(problem)
    assert step.bytes == 2 * 3 * 4 * (2 * 16 + 2 * 24) + 2 * SPEC.state_bytes(problem)


def case(**changes: Any) -> Case:
    wanted: dict[str, Any] = {
        "attention": "based",
        "backend": "eager",
        "level": "op",
        "mode": "forward",
        "dtype": "float32",
        "device": "cpu",
        "causal": True,
        "batch": 1,
        "heads": 3,
        "seq_len": 70,
        "dim": 72,
    }
    return Case(**{**wanted, **changes})


@pytest.mark.parametrize(
    ("level", "mode"),
    [("op", "forward"), ("op", "train"), ("op", "decode"), ("layer", "forward"), ("layer", "train")],
)
def test_the_harness_passes_and_runs_it(level: str, mode: str) -> None:
    wanted = case(mode=mode, level=level)
    assert gate.Gate().refusal(wanted) is None
    built = workload.build(wanted)
    assert built.broken(built.call(), built.versions()) is None
