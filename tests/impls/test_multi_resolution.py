"""Linear attention at several resolutions: our stand-in for AdaMRA."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import attention_impls
from attention_impls import InvalidArgument, Problem, blocks, multi_resolution

from .support import SHAPE, Form, draw, error, rounding, tracked
from .test_memory import largest_in_training, saved_elements

LINEAR = Form("linear", "eager", {})
SEVERAL = Form("multi-resolution", "eager", {})

both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])


def choosing(level: int, levels: int, query: Tensor) -> tuple[Tensor, Tensor]:
    """Queries whose first channel is 1, and a router that gives one resolution all of the share."""
    query = query.clone()
    query[..., 0] = 1
    router = torch.zeros(query.shape[1], query.shape[3], levels, dtype=query.dtype)
    router[:, 0, level] = 1000
    return query, router


@both_masks
def test_one_resolution_is_linear_attention(causal: bool) -> None:
    inputs = draw()
    router = draw(1, 3, 4, 1)[0][0]
    output = multi_resolution.eager(*inputs, causal=causal, resolutions=1, router=router)
    assert error(output, LINEAR(*inputs, causal=causal)) <= rounding(LINEAR, torch.float64, inputs[2])


@both_masks
def test_a_router_that_always_chooses_the_finest_gives_linear_attention(causal: bool) -> None:
    query, key, value = draw()
    query, router = choosing(0, 3, query)
    output = multi_resolution.eager(query, key, value, causal=causal, router=router)
    expected = LINEAR(query, key, value, causal=causal)
    assert error(output, expected) <= rounding(LINEAR, torch.float64, value)


@pytest.mark.parametrize(("level", "length"), [(1, 32), (2, 32), (1, 33), (2, 33), (2, 3)])
def test_a_router_that_always_chooses_one_gives_linear_attention_to_means(level: int, length: int) -> None:
    query, key, value = draw(2, 3, length, 4)
    query, router = choosing(level, 3, query)
    means = [
        torch.cat([part.mean(2, keepdim=True) for part in torch.split(x, 2**level, 2)], 2)
        for x in (key, value)
    ]
    features = [torch.nn.functional.elu(x) + 1 for x in (query, means[0])]
    weights = features[0] @ features[1].mT
    expected = weights @ means[1] / (weights.sum(-1, keepdim=True) + 1e-6)
    output = multi_resolution.eager(query, key, value, router=router)
    assert error(output, expected) <= rounding(LINEAR, torch.float64, value)


def test_a_causal_block_is_seen_from_its_last_position_on() -> None:
    query, key, value = draw(1, 2, 32, 4)
    query, router = choosing(2, 3, query)
    output = multi_resolution.eager(query, key, value, causal=True, router=router)
    far = torch.cat((value[:, :, :9], value[:, :, 9:10] + 100, value[:, :, 10:]), 2)
    changed = multi_resolution.eager(query, key, far, causal=True, router=router)
    moved = (changed - output).abs().amax((0, 1, 3)) > 1e-6
    assert moved.nonzero().flatten().tolist() == list(range(11, 32))  # the block of 8, 9, 10 and 11


def test_a_resolution_that_sees_nothing_gets_no_share() -> None:
    query, key, value = draw(1, 2, 8, 4)
    query, router = choosing(2, 3, query)  # all the share to blocks of four
    router[:, 0, 1] = 500  # then to pairs
    output = multi_resolution.eager(query, key, value, causal=True, router=router)
    pair = value[:, :, :2].mean(2)
    allowed = 3e-5  # as for the mean of equal values: 1e-6 over a denominator above 0.1
    assert error(output[:, :, 0], value[:, :, 0]) <= allowed
    assert error(output[:, :, 1], pair) <= allowed
    assert error(output[:, :, 2], pair) <= allowed
    assert error(output[:, :, 3], value[:, :, :4].mean(2)) <= allowed


@pytest.mark.parametrize("resolutions", [1, 2, 4, 8])
@pytest.mark.parametrize("length", [1, 5, 64, 129, 200, 260])
@both_masks
def test_blocks_leave_no_trace_whatever_the_length(
    length: int, resolutions: int, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert blocks.MIN_CHUNK_ROWS == 64
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 2 * 64 * 2 * 3)  # two chunks of 64 in a block
    form = Form("multi-resolution", "eager", {"resolutions": resolutions})
    inputs, upstream = draw(1, 2, length, 3), draw(1, 2, length, 3, seed=1)[2]
    mine, theirs = tracked(*inputs), tracked(*inputs)
    output, truth = form(*mine, causal=causal), form.oracle(*theirs, causal=causal)
    assert error(output, truth) <= rounding(form, torch.float64, inputs[2])
    gradients = torch.autograd.grad(output, mine, upstream)
    truths = torch.autograd.grad(truth, theirs, upstream)
    for gradient, exact in zip(gradients, truths, strict=True):
        assert error(gradient, exact) <= 2 * rounding(form, torch.float64, torch.cat(truths))


@both_masks
def test_the_router_s_gradient_is_that_of_finite_differences(causal: bool) -> None:
    query, key, value = draw(1, 2, 5, 2)
    (router,) = tracked(draw(1, 2, 2, 3)[0][0])

    def output(router: Tensor) -> Tensor:
        return multi_resolution.eager(query, key, value, causal=causal, router=router)

    assert torch.autograd.gradcheck(output, router)


@both_masks
def test_nothing_is_much_larger_than_a_chunk_s_products(causal: bool) -> None:
    length = 1024
    # 64 rows of a chunk meet 64 + 32 + 16 pooled keys: 112 per position.
    assert largest_in_training(SEVERAL, length, causal) <= 2 * length * 112


@both_masks
def test_what_waits_for_backward_doubles_with_length_at_most(
    causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 4096)
    short, long = (saved_elements(SEVERAL, length, causal) for length in (512, 1024))
    assert 1.7 < long / short < 2.1


def test_the_router_is_asked_for_by_its_shape() -> None:
    with pytest.raises(InvalidArgument, match=r"router must be .*here \[3, 4, 3\]; it is None"):
        multi_resolution.eager(*draw())
    with pytest.raises(InvalidArgument, match=r"here \[3, 4, 2\]; it is of shape \[3, 4, 3\]"):
        multi_resolution.eager(*draw(), resolutions=2, router=torch.ones(3, 4, 3))


@pytest.mark.parametrize("resolutions", [0, 9, 2.0, True])
def test_a_number_of_resolutions_outside_its_range_is_refused(resolutions: object) -> None:
    with pytest.raises(InvalidArgument, match=f"resolutions={resolutions}: it is a whole number from 1 to 8"):
        attention_impls.get("multi-resolution").check_hyperparameters({"resolutions": resolutions})


def test_work_is_a_product_for_every_pooled_key_and_one_for_every_answer() -> None:
    problem = Problem(*SHAPE)  # 33 tokens: 33, 17 and 9 pooled keys
    answers, sums, router = 3 * 33 * 2 * 4 * 4, (33 + 17 + 9) * 2 * 4 * 4, 33 * 2 * 4 * 3
    assert attention_impls.get("multi-resolution").cost(problem).flops == 2 * 3 * (answers + sums + router)
