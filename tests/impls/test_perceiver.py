"""Perceiver: pools through latents, and the causal rows of Perceiver AR."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import attention_impls
from attention_impls import InvalidArgument, Problem, perceiver

from .support import DTYPES, SHAPE, Form, draw, error, rounding, tracked
from .test_memory import largest_in_training, saved_elements

SOFTMAX = Form("softmax", "eager", {})
PERCEIVER = Form("perceiver", "eager", {})
FEW = Form("perceiver", "eager", {"latents": 5})

both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])


def test_latents_that_pick_one_token_each_give_softmax_attention() -> None:
    query, _, value = draw(2, 3, 4, 4)
    key = torch.linalg.qr(draw(2, 3, 4, 4, seed=3)[1]).Q[:1].expand(2, 3, 4, 4)
    # Token j's latent is along k_j, and the keys are orthogonal: its weights are one-hot up to exp(-500).
    output = perceiver.eager(query, key, value, latents=4, latent_query=1000 * key[0])
    assert error(output, SOFTMAX(query, key, value)) <= rounding(PERCEIVER, torch.float64, value)


def test_equal_latents_give_every_query_the_same_pool() -> None:
    query, key, value = draw()
    latent = draw(1, 3, 1, 4, seed=5)[0][0]
    output = perceiver.eager(query, key, value, latents=5, latent_query=latent.expand(3, 5, 4))
    weights = torch.softmax(latent @ key.mT / 2, -1)
    assert error(output, (weights @ value).expand(SHAPE)) <= rounding(PERCEIVER, torch.float64, value)


def test_latents_are_scaled_like_queries_and_the_pools_are_read_by_pooled_keys() -> None:
    query, key, value = draw()
    latents = draw(1, 3, 5, 4, seed=5)[0][0]
    inward = torch.softmax(latents @ key.mT / 2, -1)
    expected = torch.softmax(query @ (inward @ key).mT / 2, -1) @ (inward @ value)
    output = perceiver.eager(query, key, value, latents=5, latent_query=latents)
    assert error(output, expected) <= rounding(PERCEIVER, torch.float64, value)


@pytest.mark.parametrize("latents", [SHAPE[2], 64])
def test_causal_with_as_many_latents_as_tokens_is_causal_softmax(latents: int) -> None:
    inputs = draw()
    form = Form("perceiver", "eager", {"latents": latents})
    expected = SOFTMAX(*inputs, causal=True)
    assert error(form(*inputs, causal=True), expected) <= rounding(form, torch.float64, inputs[2])


@pytest.mark.parametrize("latents", [1, 5, 32])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_causal_gives_the_last_rows_of_causal_softmax_and_zeros_before(
    latents: int, dtype: torch.dtype
) -> None:
    inputs = draw(dtype=dtype)
    output = Form("perceiver", "eager", {"latents": latents})(*inputs, causal=True)
    assert (output.shape, output.dtype) == (torch.Size(SHAPE), dtype)
    assert not output[:, :, :-latents].any()
    expected = SOFTMAX.oracle(*inputs, causal=True)[:, :, -latents:]
    assert error(output[:, :, -latents:], expected) <= rounding(PERCEIVER, dtype, inputs[2])


def test_a_causal_row_before_the_last_ignores_later_tokens() -> None:
    inputs = draw()
    changed = [torch.cat((x[:, :, :30], 1e3 * x[:, :, 30:]), 2) for x in inputs]
    before, after = (FEW(*x, causal=True)[:, :, :30] for x in (inputs, changed))
    assert before[:, :, 28:].all()
    assert error(after, before) <= rounding(FEW, torch.float64, inputs[2])


def test_the_order_of_the_tokens_before_the_causal_rows_does_not_matter() -> None:
    query, key, value = draw()
    order = torch.cat((torch.randperm(28, generator=torch.Generator().manual_seed(2)), torch.arange(28, 33)))
    permuted = FEW(query, key[:, :, order], value[:, :, order], causal=True)
    assert error(permuted, FEW(query, key, value, causal=True)) <= rounding(FEW, torch.float64, value)


@both_masks
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_gradients_with_fewer_latents_than_tokens_are_the_oracle_s(causal: bool, dtype: torch.dtype) -> None:
    inputs, upstream = draw(dtype=dtype), draw(dtype=dtype, seed=1)[2]
    mine, theirs = tracked(*inputs), tracked(*(x.double() for x in inputs))
    gradients = torch.autograd.grad(FEW(*mine, causal=causal), mine, upstream)
    truths = torch.autograd.grad(FEW.oracle(*theirs, causal=causal), theirs, upstream.double())
    for gradient, truth in zip(gradients, truths, strict=True):
        assert truth.any()
        assert error(gradient, truth) <= 2 * rounding(FEW, dtype, torch.cat(truths))


@both_masks
def test_nothing_is_larger_than_a_tensor_or_the_mask_of_the_last_rows(causal: bool) -> None:
    length, latents = 1024, 16
    form = Form("perceiver", "eager", {"latents": latents})
    assert largest_in_training(form, length, causal) <= max(2 * length * 8, length * latents)


@both_masks
def test_what_waits_for_backward_doubles_with_length(causal: bool) -> None:
    short, long = (saved_elements(FEW, length, causal) for length in (512, 1024))
    assert 1.9 < long / short < 2.1


def test_the_latents_are_asked_for_by_their_shape() -> None:
    inputs = draw()
    with pytest.raises(InvalidArgument, match=r"latent_query must be .*here \[3, 64, 4\]; it is None"):
        perceiver.eager(*inputs)
    with pytest.raises(InvalidArgument, match=r"here \[3, 5, 4\]; it is of shape \[3, 4, 5\]"):
        perceiver.eager(*inputs, latents=5, latent_query=torch.ones(3, 4, 5))


def test_the_causal_form_refuses_latents_that_it_would_not_use() -> None:
    with pytest.raises(InvalidArgument, match="the causal form takes no latent_query"):
        perceiver.eager(*draw(), causal=True, latents=5, latent_query=torch.ones(3, 5, 4))


@pytest.mark.parametrize("latents", [0, 1.5, True])
def test_a_number_of_latents_that_is_none_is_refused(latents: object) -> None:
    with pytest.raises(InvalidArgument, match=f"latents={latents}"):
        attention_impls.get("perceiver").check_hyperparameters({"latents": latents})


def test_work_is_five_products_through_the_latents_or_the_pairs_of_the_causal_rows() -> None:
    cost = attention_impls.get("perceiver").cost
    problem = Problem(2, 3, 33, 4, hyperparameters={"latents": 5})
    assert cost(problem).flops == 5 * 2 * 2 * 3 * 33 * 5 * 4
    # Scores and outputs, each 2 per pair and channel; the last five rows see 29 to 33 positions.
    causal = dataclasses.replace(problem, causal=True)
    assert cost(causal).flops == 4 * 2 * 3 * 4 * (29 + 30 + 31 + 32 + 33)
    assert cost(dataclasses.replace(causal, backward=True)).flops == 3 * cost(causal).flops
    everyone = dataclasses.replace(causal, hyperparameters={"latents": 40})
    assert cost(everyone) == attention_impls.get("softmax").cost(everyone)


def test_causal_work_grows_by_the_same_with_every_token() -> None:
    cost = attention_impls.get("perceiver").cost
    flops = [cost(Problem(1, 2, length, 4, causal=True)).flops for length in (100, 200, 300)]
    assert flops[2] - flops[1] == flops[1] - flops[0] == 4 * 64 * 100 * 8
