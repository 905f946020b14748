"""Attentions whose state fades: what the papers promise, and what their chunks must survive."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attention_impls import decay, gated_delta, gla, mamba2, retention
from attention_impls.blocks import causal_blocks

from .support import Form, draw, error, rounding, tracked
from .test_memory import largest_in_training, saved_elements

GATED = ["mamba-2", "gla", "gated-delta"]
ALL = ["retention", *GATED]

LONG = (1, 2, 150, 4)  # two whole chunks of the usual size and a short one

every_one = pytest.mark.parametrize("name", ALL)


def gates(like: Tensor, value: float) -> Tensor:
    return torch.full(like.shape[:3], value, dtype=like.dtype)


def sums_without_a_normaliser(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.mT).tril() @ value


@every_one
def test_chunks_of_the_usual_size_give_the_oracle_s_numbers_and_gradients(name: str) -> None:
    form, inputs = Form(name, "eager", {}), draw(*LONG)
    assert len(causal_blocks(inputs[0])) > 1
    mine, theirs = tracked(*inputs), tracked(*inputs)
    output, truth = form(*mine, causal=True), form.oracle(*theirs, causal=True)
    # Twice the length of ``SHAPE``: the sums of |weights| of retention are up to 84, not 39.
    assert error(output, truth) <= 2.2 * rounding(form, torch.float64, inputs[2])
    upstream = draw(*LONG, seed=1)[2]
    gradients = torch.autograd.grad(output, mine, upstream)
    for gradient, expected in zip(gradients, torch.autograd.grad(truth, theirs, upstream), strict=True):
        assert error(gradient, expected) <= 5 * rounding(form, torch.float64, expected)


def test_without_forgetting_mamba_2_and_gla_are_linear_attention_without_a_normaliser() -> None:
    query, key, value = draw()
    expected = sums_without_a_normaliser(query, key, value)
    form = Form("retention", "eager", {})  # its bound: nothing is forgotten, so sums are as long
    for found in (
        mamba2.eager(query, key, value, causal=True, gate=gates(query, 0.0)),
        gla.eager(query, key, value, causal=True, scale=1.0, gate=torch.zeros_like(query)),
    ):
        assert error(found, expected) <= rounding(form, torch.float64, value)


def test_a_gate_that_closes_leaves_every_token_alone() -> None:
    query, key, value = draw()
    own = (query * key).sum(-1, keepdim=True) * value
    closed = gates(query, -1e3)
    assert error(mamba2.eager(query, key, value, causal=True, gate=closed), own) < 1e-12
    of_channels = closed[..., None].expand_as(query)
    assert error(gla.eager(query, key, value, causal=True, scale=1.0, gate=of_channels), own) < 1e-12


@pytest.mark.parametrize("name", GATED)
def test_gates_of_any_strength_give_finite_numbers_and_gradients_near_the_oracle_s(name: str) -> None:
    form, inputs = Form(name, "eager", {}), draw(1, 2, 96, 4, dtype=torch.float32)
    operands = form.operands(inputs[2], causal=True)
    # From hardly forgetting to forgetting all, and back, within one chunk.
    strength = torch.logspace(-4, 3, 48).repeat(2)
    operands["gate"] = -strength.view(1, 1, 96, *[1] * (operands["gate"].dim() - 3)).expand_as(
        operands["gate"]
    )
    leaves = tracked(*inputs, operands["gate"])
    op, others = form.spec.op, {k: v for k, v in operands.items() if k != "gate"}
    output = op(*leaves[:3], causal=True, gate=leaves[3], **others)
    truth = form.spec.oracle(*inputs, causal=True, **operands)
    # A weight is right within eps |G|: the gates of a chunk of 64 sum up to 4500.
    reached = float(strength[:64].sum())
    assert error(output, truth) <= reached * torch.finfo(torch.float32).eps * 10 * float(truth.abs().max())
    for gradient in torch.autograd.grad(output.sum(), leaves):
        assert gradient.isfinite().all()


def test_retention_is_mamba_2_with_the_paper_s_rate_in_every_head() -> None:
    query, key, value = draw()
    gamma = torch.tensor([31 / 32, 63 / 64, 127 / 128], dtype=torch.float64)
    gate = gamma.log()[None, :, None].expand(query.shape[:3])
    expected = mamba2.eager(query, key, value, causal=True, scale=0.5, gate=gate)
    form = Form("retention", "eager", {})
    assert error(form(query, key, value, causal=True), expected) <= rounding(form, torch.float64, value)


def test_what_retention_keeps_of_one_token_shrinks_by_the_rate_both_ways() -> None:
    value = torch.zeros(1, 2, 200, 3, dtype=torch.float64)
    value[:, :, 80] = 1
    ones = torch.ones_like(value)
    output = retention.eager(ones, ones, value, scale=1 / 3)
    age = (torch.arange(200) - 80).abs()
    for head, gamma in enumerate((31 / 32, 63 / 64)):
        assert error(output[0, head, :, 0], gamma ** age.double()) < 1e-13
    assert not retention.eager(ones, ones, value, causal=True)[:, :, :80].any()


def test_retention_that_is_not_causal_reads_the_same_backwards() -> None:
    inputs, form = draw(), Form("retention", "eager", {})
    backwards = form(*(x.flip(2) for x in inputs))
    assert error(backwards.flip(2), form(*inputs)) <= rounding(form, torch.float64, inputs[2])


def test_gla_with_equal_gates_in_all_channels_is_mamba_2() -> None:
    query, key, value = draw()
    gate = Form("mamba-2", "eager", {}).operands(value, causal=True)["gate"]
    one = mamba2.eager(query, key, value, causal=True, scale=0.5, gate=gate)
    other = gla.eager(query, key, value, causal=True, gate=gate[..., None].expand_as(query))
    assert error(one, other) <= rounding(Form("mamba-2", "eager", {}), torch.float64, value)


def orthonormal(width: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    basis, _ = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))
    assert isinstance(basis, Tensor)
    return basis


def recalled(keys: Tensor, values: Tensor, asked: Tensor) -> Tensor:
    """What a gated delta rule that never forgets and overwrites in full answers after writing all values."""
    nothing = torch.zeros_like(asked)
    key, value, query = torch.cat((keys, asked)), torch.cat((values, nothing)), torch.cat((keys, asked))
    beta = torch.cat((torch.ones(len(keys)), torch.zeros(len(asked)))).double()[None, None]
    tensors = (x[None, None] for x in (query, key, value))
    output = gated_delta.eager(*tensors, causal=True, scale=1.0, gate=torch.zeros_like(beta), beta=beta)
    return output[0, 0, len(keys) :]


def test_the_delta_rule_recalls_every_value_of_orthonormal_keys() -> None:
    keys, values = orthonormal(8), torch.randn(8, 8, dtype=torch.float64)
    # The length of a key is sqrt(1 + 1e-6), and the answer divides by it twice.
    assert error(recalled(keys, values, keys) * (1 + gated_delta.EPSILON), values) < 1e-12


def test_the_delta_rule_overwrites_where_linear_attention_adds() -> None:
    keys, values = orthonormal(8), torch.randn(16, 8, dtype=torch.float64)
    answer = recalled(torch.cat((keys, keys)), values, keys)
    assert error(answer, values[8:]) < 1e-5  # of what was written first, one part in a million stays


def test_the_length_of_keys_and_queries_of_the_delta_rule_does_not_matter() -> None:
    query, key, value = draw(spread=5.0)
    form = Form("gated-delta", "eager", {})
    assert error(form(3 * query, 7 * key, value, causal=True), form(query, key, value, causal=True)) < 1e-4


@every_one
def test_nothing_made_is_much_larger_than_a_chunk(name: str) -> None:
    length = 1024
    assert largest_in_training(Form(name, "eager", {}), length, causal=True) <= 2 * length * 64


@every_one
def test_what_waits_for_backward_doubles_with_length_and_is_little_more_than_the_inputs(name: str) -> None:
    short, long = (saved_elements(Form(name, "eager", {}), length, True) for length in (512, 1024))
    assert 1.9 < long / short < 2.1
    inputs = (4 if name == "gla" else 3) * 2 * 1024 * 8
    assert inputs <= long <= 1.2 * inputs


def test_states_between_chunks_are_those_of_the_recurrence() -> None:
    generator = torch.Generator().manual_seed(5)
    sums, state = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((2, 5, 3, 3), (2, 3, 3))
    )
    ends = -torch.rand(2, 5, generator=generator, dtype=torch.float64)
    before, after = decay.states_between(sums, ends, state)
    for chunk in range(5):
        assert error(before[:, chunk], state) < 1e-14
        state = torch.exp(ends[:, chunk, None, None]) * state + sums[:, chunk]
    assert error(after, state) < 1e-14
