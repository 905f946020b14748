"""AttentionLayer: the same projections around any attention, and exactly the parameters it claims."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import attention_impls
from attention_impls import AttentionLayer, InvalidArgument, Problem, UnknownAttention, Unsupported
from attention_impls.layer import squashed

from .support import eager_forms

every_name = pytest.mark.parametrize("name", attention_impls.names())


@every_name
@pytest.mark.parametrize("bias", [False, True])
def test_parameters_are_as_many_as_the_formula_says(name: str, bias: bool) -> None:
    layer = AttentionLayer(name, 12, 3, bias=bias, seq_len=9)
    parameters = sum(parameter.numel() for parameter in layer.parameters())
    assert parameters == attention_impls.get(name).layer_params(Problem(1, 3, 9, 4), bias)


@every_name
@pytest.mark.parametrize("causal", [False, True])
def test_output_has_the_input_s_shape_and_every_parameter_a_gradient(name: str, causal: bool) -> None:
    if attention_impls.get(name).causal_only and not causal:
        pytest.skip(f"{name} is causal only")
    layer = AttentionLayer(name, 12, 3, bias=True, seq_len=9, dtype=torch.float64)
    x = torch.randn(2, 7, 12, dtype=torch.float64, requires_grad=True)
    output = layer(x, causal=causal)
    assert output.shape == x.shape
    output.square().sum().backward()
    for tensor in (x, *layer.used_parameters(causal)):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@every_name
def test_the_layer_is_its_projections_around_the_attention(name: str) -> None:
    layer = AttentionLayer(name, 12, 3, seq_len=9, dtype=torch.float64)
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    assert set(layer.spec.projections.names) <= set(layer.projections)

    def projected(name: str, x: Tensor) -> Tensor:
        return layer.projections[name](x) if name in layer.projections else x

    query, key, value = (projected(n, x).view(2, 7, 3, -1).transpose(1, 2) for n in ("query", "key", "value"))
    operands = {
        name: layer.parameters_of_core[name]
        if operand.learned
        else squashed(operand, projected(name, x).view(2, 7, 3, -1).transpose(1, 2).reshape(operand.shape))
        for name, operand in layer.spec.operands(Problem(2, 3, 7, 4)).items()
    }
    causal = layer.spec.causal_only
    attended = (
        layer.spec.oracle(query, key, value, causal=causal, **operands).transpose(1, 2).reshape(2, 7, 12)
    )
    expected = projected("output", attended)
    if layer.gains is not None:
        expected = layer.gains[0] * expected + layer.gains[1] * x
    torch.testing.assert_close(layer(x, causal=causal), expected, rtol=1e-10, atol=1e-10)


def test_array_projections_hold_far_fewer_parameters() -> None:
    matrix, array = (
        attention_impls.get(name).layer_params(Problem(1, 8, 64, 64)) for name in ("softmax", "hadamard")
    )
    assert (matrix, array) == (4 * 512**2, 3 * 512)


def shapes(layer: AttentionLayer) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in layer.named_parameters()}


@pytest.mark.parametrize("form", [f for f in eager_forms() if f.hyperparameters], ids=str)
def test_hyperparameters_reach_the_attention(form: object) -> None:
    torch.manual_seed(0)
    assert isinstance(form, type(eager_forms()[0]))
    layer = AttentionLayer(form.attention, 12, 3, backend=form.backend, seq_len=9, **form.hyperparameters)
    plain = AttentionLayer(form.attention, 12, 3, backend=form.backend, seq_len=9)
    x = 2 * torch.randn(2, 7, 12)
    causal = layer.spec.causal_only
    if shapes(layer) != shapes(plain):
        # The op refuses a parameter that its hyperparameter does not fit.
        assert layer(x, causal=causal).shape == x.shape
        return
    plain.load_state_dict(layer.state_dict())
    assert not torch.equal(layer(x, causal=causal), plain(x, causal=causal))


@pytest.mark.parametrize(("dim", "heads"), [(10, 3), (0, 1), (8, 0), (-8, 2)])
def test_dim_must_be_a_multiple_of_heads(dim: int, heads: int) -> None:
    with pytest.raises(InvalidArgument, match=f"dim is {dim}, heads is {heads}"):
        AttentionLayer("softmax", dim, heads)


def test_what_is_asked_for_and_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(UnknownAttention, match="did you mean 'linear'"):
        AttentionLayer("lineer", 8, 2)
    with pytest.raises(InvalidArgument, match="linear has no backend 'sdpa'"):
        AttentionLayer("linear", 8, 2, backend="sdpa")
    with pytest.raises(InvalidArgument, match="linear has no hyperparameter 'order'"):
        AttentionLayer("linear", 8, 2, order=2)
    with pytest.raises(InvalidArgument, match="odd order is refused"):
        AttentionLayer("ea-series", 8, 2, order=3)


def test_a_backend_that_cannot_run_here_is_an_error_not_another_backend() -> None:
    layer = AttentionLayer("softmax", 8, 2, backend="cudnn")
    with pytest.raises(Unsupported, match="softmax/cudnn cannot run here: the cuDNN kernel runs on cuda"):
        layer(torch.randn(1, 4, 8))


@pytest.mark.parametrize("shape", [(4, 8), (1, 4, 7), (1, 1, 4, 8)])
def test_an_input_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match=r"x must be \[batch, seq_len, 8\]"):
        AttentionLayer("linear", 8, 2)(torch.randn(shape))
