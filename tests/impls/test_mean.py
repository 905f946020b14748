"""Mean attention: the floor is a mean, and nothing else."""

from __future__ import annotations

import pytest
import torch

import attention_impls
from attention_impls import AttentionLayer, InvalidArgument

from .support import Form, draw, error, rounding, tracked
from .test_memory import largest_in_training, saved_elements

MEAN = Form("mean", "eager", {})
both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])


def test_every_position_gets_the_mean_of_all_values_or_of_those_so_far() -> None:
    value = torch.tensor([1.0, 3.0, 8.0, 0.0]).view(1, 1, 4, 1)
    query = torch.randn_like(value)
    assert MEAN(query, query, value).flatten().tolist() == [3, 3, 3, 3]
    assert MEAN(query, query, value, causal=True).flatten().tolist() == [1, 2, 4, 3]


@both_masks
def test_queries_and_keys_change_no_bit_even_where_they_are_no_numbers(causal: bool) -> None:
    query, key, value = draw()
    nothing = torch.full_like(query, torch.nan)
    assert torch.equal(MEAN(nothing, nothing, value, causal=causal), MEAN(query, key, value, causal=causal))


@both_masks
def test_the_gradients_of_queries_and_keys_are_zero_and_hold_one_number(causal: bool) -> None:
    inputs = tracked(*draw())
    gradients = torch.autograd.grad(MEAN(*inputs, causal=causal).square().sum(), inputs)
    for gradient in gradients[:2]:
        assert gradient.shape == inputs[0].shape
        assert not gradient.any()
        assert gradient.untyped_storage().nbytes() == gradient.element_size()
    assert gradients[2].any()


@both_masks
def test_float16_sums_neither_overflow_nor_stall(causal: bool) -> None:
    value = torch.full((1, 1, 4096, 1), 40.0, dtype=torch.float16)  # the sum, 163840, fits no float16
    assert (MEAN(value, value, value, causal=causal) == 40).all()


def test_it_is_linear_attention_with_a_constant_feature_map() -> None:
    inputs = draw(dtype=torch.float32)
    nothing = torch.zeros_like(inputs[0])
    linear = Form("linear", "eager", {})(
        nothing, nothing, inputs[2]
    )  # elu(0) + 1 = 1, four of them in a head
    assert error(MEAN(*inputs), linear.double()) <= 1e-6 + rounding(MEAN, torch.float32, inputs[2])


def test_the_layer_projects_values_and_outputs_alone() -> None:
    layer = AttentionLayer("mean", 12, 3, dtype=torch.float64)
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    assert set(layer.projections) == {"value", "output"}
    expected = layer.projections["output"](layer.projections["value"](x.mean(1, keepdim=True))).expand_as(x)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", attention_impls.QK_NORMS[1:])
@pytest.mark.parametrize("build", [attention_impls.AttentionLayer, attention_impls.TransformerBlock])
def test_there_is_no_query_to_normalise(kind: str, build: type[torch.nn.Module]) -> None:
    with pytest.raises(InvalidArgument, match="mean projects value, output; leave qk_norm at 'none'"):
        build("mean", 8, 2, qk_norm=kind)


@both_masks
def test_nothing_is_larger_than_the_inputs_and_nothing_waits_for_backward(causal: bool) -> None:
    assert largest_in_training(MEAN, 1024, causal) == 2 * 1024 * 8
    assert saved_elements(MEAN, 1024, causal) == 0
