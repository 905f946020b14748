"""Softmax, efficient and linear attention: the identities that tell them from look-alikes."""

from __future__ import annotations

import math

import pytest
import torch

from attention_impls import blocks, chunks, linear

from .support import Form, draw, error, rounding, tracked

SOFTMAX = Form("softmax", "eager", {})
EFFICIENT = Form("efficient", "eager", {})
SCALING = Form("efficient", "eager", {"normalisation": "scaling"})
LINEAR = Form("linear", "eager", {})
ROUNDED = [LINEAR, EFFICIENT, SCALING]  # by autocast


def test_softmax_scales_by_the_root_of_head_dim() -> None:
    query, key, value = draw()
    explicit = Form("softmax", "eager", {"scale": 1 / math.sqrt(query.shape[-1])})
    assert torch.equal(SOFTMAX(query, key, value), explicit(query, key, value))


def test_softmax_in_float32_survives_great_scores() -> None:
    query, key, value = draw(dtype=torch.float32)
    output = SOFTMAX(100 * query, 100 * key, value)
    assert output.isfinite().all()
    assert output.abs().max() <= value.abs().max() * (1 + 1e-6)


def test_scaling_normalisation_is_the_mean_of_the_products() -> None:
    query, key, value = draw()
    direct = (query @ key.transpose(-1, -2)) @ value / query.shape[2]
    assert error(SCALING(query, key, value), direct) <= rounding(SCALING, torch.float64, direct)


def test_efficient_weights_are_positive_and_sum_to_one() -> None:
    query, key, _ = draw(1, 1, 6, 6)
    # With the identity as value the output is the matrix of weights.
    weights = EFFICIENT(query, key, torch.eye(6, dtype=torch.float64)[None, None])
    assert (weights > 0).all()
    assert error(weights.sum(-1), torch.ones(1, 1, 6)) <= 8 * torch.finfo(torch.float64).eps


def test_efficient_normalises_queries_over_channels_and_keys_over_positions() -> None:
    query, key, value = draw()
    expected = EFFICIENT(query, key, value)
    # A constant per position cancels in a softmax over channels, a constant per channel over positions.
    per_position, per_channel = torch.randn(2, 3, 33, 1), torch.randn(2, 3, 1, 4)
    allowed = 4 * rounding(EFFICIENT, torch.float64, value)
    assert error(EFFICIENT(query + per_position, key, value), expected) <= allowed
    assert error(EFFICIENT(query, key + per_channel, value), expected) <= allowed
    assert error(EFFICIENT(query + per_channel, key, value), expected) > 0.01
    assert error(EFFICIENT(query, key + per_position, value), expected) > 0.01


def test_efficient_is_not_softmax_attention() -> None:
    inputs = draw()
    assert error(EFFICIENT(*inputs), SOFTMAX(*inputs)) > 0.01


def test_causal_efficient_ends_in_the_full_form() -> None:
    inputs = draw()
    for form in (EFFICIENT, SCALING):
        last = form(*inputs, causal=True)[:, :, -1]
        assert error(last, form(*inputs)[:, :, -1]) <= rounding(form, torch.float64, inputs[2])


@pytest.mark.parametrize("rise", [25.0, 50.0, 100.0, 500.0])
def test_causal_efficient_survives_keys_that_rise_steeply(rise: float) -> None:
    query, key, value = draw(1, 2, 40, 3, dtype=torch.float32)
    key[:, :, 5:] += rise
    key[:, 1, 9:] += rise
    leaves = tracked(query, key, value)
    output = EFFICIENT(*leaves, causal=True)
    # The oracle shares no running maximum: give it keys without the part that a row cannot see.
    centred = key.double() - key.double().cummax(2).values.amax(2, keepdim=True)
    early = EFFICIENT(query[:, :, :5].double(), key[:, :, :5].double(), value[:, :, :5].double(), causal=True)
    allowed = rounding(EFFICIENT, torch.float32, value)
    assert error(output[:, :, :5], early) <= allowed
    full = EFFICIENT(query.double(), centred, value.double())
    # Great keys round coarsely themselves, in float32 as given; the shift in float64 is exact.
    assert error(output[:, :, -1], full[:, :, -1]) <= allowed
    assert all(x.isfinite().all() for x in torch.autograd.grad(output.sum(), leaves))


def test_linear_is_the_normalised_lower_triangle_of_feature_products() -> None:
    query, key, value = draw()
    query_features, key_features = (torch.nn.functional.elu(x) + 1 for x in (query, key))
    weights = (query_features @ key_features.transpose(-1, -2)).tril()
    direct = weights @ value / (weights.sum(-1, keepdim=True) + linear.EPSILON)
    assert error(LINEAR(query, key, value, causal=True), direct) <= rounding(LINEAR, torch.float64, value)


@pytest.mark.parametrize("form", [LINEAR, EFFICIENT, SCALING], ids=str)
@pytest.mark.parametrize("length", [1, 63, 64, 65, 127, 128, 129, 200])
def test_causal_chunks_leave_no_trace_whatever_the_length(form: Form, length: int) -> None:
    assert blocks.MIN_CHUNK_ROWS == 64
    inputs = draw(1, 2, length, 3)
    truth = form.oracle(*inputs, causal=True)
    assert error(form(*inputs, causal=True), truth) <= rounding(form, torch.float64, inputs[2])


def test_a_steep_chunk_is_cut_where_the_top_rises_and_others_are_left_whole() -> None:
    weights = torch.zeros(1, 1, 12, 1)
    weights[:, :, 6:] = 31.0
    plan = chunks.plan_chunks(weights, 4, lambda chunk: chunk)
    assert plan.sizes == [4, 2, 2, 4]
    assert [float(top) for top in plan.tops] == [0.0, 0.0, 31.0, 31.0]


def test_a_rise_spread_over_channels_and_chunks_cuts_nothing() -> None:
    weights = torch.arange(12.0).view(1, 1, 12, 1) * 9
    plan = chunks.plan_chunks(weights, 4, lambda chunk: chunk)
    assert plan.sizes == [4, 4, 4]


def test_a_rise_at_a_chunk_s_first_row_needs_no_cut() -> None:
    # The carried sums are rescaled there; no row of the chunk needs the lower top.
    weights = torch.zeros(1, 1, 8, 1)
    weights[:, :, 4:] = 1000.0
    assert chunks.plan_chunks(weights, 4, lambda chunk: chunk).sizes == [4, 4]


def test_what_came_before_the_first_row_counts_as_seen() -> None:
    weights = torch.zeros(1, 1, 8, 1)
    weights[:, :, 2:] = 31.0
    low, high = (torch.full((1, 1, 1, 1), top) for top in (5.0, 40.0))
    steep, flat = (chunks.plan_chunks(weights, 4, lambda chunk: chunk, before) for before in (-low, high))
    assert steep.sizes == [2, 2, 4]
    assert [float(top) for top in steep.tops] == [0.0, 31.0, 31.0]
    assert chunks.plan_chunks(weights, 4, lambda chunk: chunk, low).sizes == [4, 4]  # a rise by 26 only
    assert flat.sizes == [4, 4]
    assert [float(top) for top in flat.tops] == [40.0, 40.0]


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("form", ROUNDED, ids=str)
def test_autocast_rounds_the_inputs_as_those_of_a_product_and_nothing_within(
    form: Form, causal: bool
) -> None:
    inputs = draw(1, 2, 150, 8, dtype=torch.float32)
    halves = tracked(*(x.bfloat16() for x in inputs))
    expected = form(*halves, causal=causal)
    leaves = tracked(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        output = form(*leaves, causal=causal)
        assert torch.equal(output, expected)
        assert output.dtype == torch.bfloat16
        if causal:  # what is called for in the same context
            torch.autograd.backward(output, halves[0].detach())
    if not causal:  # or after it, as PyTorch advises
        torch.autograd.backward(output, halves[0].detach())
    gradients = torch.autograd.grad(expected, halves, halves[0].detach())
    for leaf, gradient in zip(leaves, gradients, strict=True):
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, gradient.float())


@pytest.mark.parametrize("form", ROUNDED, ids=str)
def test_autocast_leaves_float64_as_it_is(form: Form) -> None:
    inputs = draw(1, 2, 150, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = [form(*inputs, causal=causal) for causal in (False, True)]
    for output, causal in zip(found, (False, True), strict=True):
        assert torch.equal(output, form(*inputs, causal=causal))
