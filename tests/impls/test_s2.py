"""S2-attn (LongLoRA): softmax within groups, shifted by half a group in half of the heads."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

import attention_impls
from attention_impls import InvalidArgument, Problem, s2

from .support import SHAPE, Form, draw, error, rounding, tracked
from .test_memory import largest_in_training, saved_elements

SOFTMAX = Form("softmax", "eager", {})
S2 = Form("s2", "eager", {"group": 8})

both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])


def in_groups(inputs: tuple[Tensor, ...], ends: list[int], causal: bool) -> Tensor:
    """Softmax attention in each group by itself."""
    parts = zip(*(x.tensor_split(ends, 2) for x in inputs), strict=True)
    return torch.cat([SOFTMAX(*part, causal=causal) for part in parts], 2)


@both_masks
def test_every_head_is_softmax_attention_in_its_groups(causal: bool) -> None:
    inputs = draw()  # three heads: the first two are not shifted
    output = S2(*inputs, causal=causal)
    allowed = rounding(S2, torch.float64, inputs[2])
    straight = in_groups(inputs, [8, 16, 24, 32], causal)[:, :2]
    shifted = in_groups(inputs, [4, 12, 20, 28], causal)[:, 2:]
    assert error(output[:, :2], straight) <= allowed
    assert error(output[:, 2:], shifted) <= allowed
    assert error(straight[:, 1:], shifted) > 0.1


@both_masks
@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 11, 12, 16, 20, 23, 32])
@pytest.mark.parametrize("heads", [1, 2, 5])
def test_groups_leave_no_gap_whatever_the_length_and_the_heads(length: int, heads: int, causal: bool) -> None:
    inputs = draw(2, heads, length, 3)
    truth = S2.oracle(*inputs, causal=causal)
    assert error(S2(*inputs, causal=causal), truth) <= rounding(S2, torch.float64, inputs[2])


@both_masks
@pytest.mark.parametrize("group", [SHAPE[2] + 1, 64, 256])
def test_a_group_of_all_tokens_is_softmax_attention(group: int, causal: bool) -> None:
    inputs = draw()
    form = Form("s2", "eager", {"group": group})
    output, expected = form(*inputs, causal=causal), SOFTMAX(*inputs, causal=causal)
    allowed = rounding(form, torch.float64, inputs[2])
    assert error(output[:, :2], expected[:, :2]) <= allowed
    # A shifted head has one group only where half a group holds all tokens.
    assert (error(output[:, 2:], expected[:, 2:]) <= allowed) == (group // 2 >= SHAPE[2])


def test_the_wrapped_ends_never_meet() -> None:
    query, key, value = draw(1, 2, 32, 4)
    far = torch.cat((value[:, :, :28], value[:, :, 28:] + 100), 2)
    before, after = (S2(query, key, v) for v in (value, far))
    # A roll by half a group would put the first four and the last four tokens of head 1 together.
    assert torch.equal(before[:, 1, :4], after[:, 1, :4])
    assert error(before[:, 1, 28:], after[:, 1, 28:]) > 99


def test_only_shifted_heads_pass_a_border_between_groups() -> None:
    query, key, value = draw(1, 2, 32, 4)
    far = torch.cat((value[:, :, :8], value[:, :, 8:9] + 100, value[:, :, 9:]), 2)
    change = (S2(query, key, far) - S2(query, key, value)).abs().amax((0, 3))
    assert change[0].nonzero().flatten().tolist() == list(range(8, 16))
    assert change[1].nonzero().flatten().tolist() == list(range(4, 12))


@both_masks
def test_gradients_of_a_transposed_layout_are_the_oracle_s(causal: bool) -> None:
    inputs = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in draw(2, 4, 32, 4)]
    mine, theirs = tracked(*inputs), tracked(*inputs)
    gradients = torch.autograd.grad(S2(*mine, causal=causal).square().sum(), mine)
    truths = torch.autograd.grad(S2.oracle(*theirs, causal=causal).square().sum(), theirs)
    for gradient, truth in zip(gradients, truths, strict=True):
        assert error(gradient, truth) <= 2 * rounding(S2, torch.float64, torch.cat(truths))


@both_masks
def test_nothing_is_larger_than_a_tensor(causal: bool) -> None:
    assert largest_in_training(S2, 1024, causal) <= 2 * 1024 * 8


@both_masks
def test_what_waits_for_backward_doubles_with_length(causal: bool) -> None:
    short, long = (saved_elements(S2, length, causal) for length in (512, 1024))
    assert 1.9 < long / short < 2.1


@pytest.mark.parametrize("group", [0, 7, 8.0, True])
def test_a_group_that_is_not_even_is_refused(group: object) -> None:
    with pytest.raises(InvalidArgument, match=f"s2: group={group}: it is an even whole number"):
        s2.eager(*draw(), group=group)  # type: ignore[arg-type]


@both_masks
def test_work_is_that_of_the_pairs_in_all_groups(causal: bool) -> None:
    problem = Problem(2, 3, 33, 4, causal=causal, hyperparameters={"group": 8})
    allowed = s2._same_group(torch.empty(SHAPE), 8)
    pairs = int((allowed.tril() if causal else allowed).sum())
    assert attention_impls.get("s2").cost(problem).flops == 4 * 2 * 4 * pairs
    train = dataclasses.replace(problem, backward=True)
    assert attention_impls.get("s2").cost(train).flops == 3 * 4 * 2 * 4 * pairs


@both_masks
def test_work_grows_by_the_same_with_every_group(causal: bool) -> None:
    cost = attention_impls.get("s2").cost
    flops = [cost(Problem(1, 4, length, 4, causal=causal)).flops for length in (1024, 2048, 3072)]
    per_group = 256 * 257 // 2 if causal else 256**2
    assert flops[2] - flops[1] == flops[1] - flops[0] == 4 * 4 * 4 * 4 * per_group
    assert attention_impls.get("s2").cost_of("eager", Problem(1, 1, 256, 4)).flops == 4 * 4 * 256**2
