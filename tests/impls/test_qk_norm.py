"""What a layer does to queries and keys: shapes, bounds, parameters, and nothing at all when it is none."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import attention_impls
from attention_impls import QK_NORMS, AttentionLayer, InvalidArgument, Problem, TransformerBlock
from attention_impls.costs.layers import block_params
from attention_impls.nouns import QkNorm
from attention_impls.qk_norm import QueryKeyNorm, check_qk_norm

NORMS: tuple[QkNorm, ...] = QK_NORMS[1:]
NORMED = [
    name
    for name in attention_impls.names()
    if {"query", "key"} <= set(attention_impls.get(name).projections.names)
]

every_norm = pytest.mark.parametrize("kind", NORMS)
every_normed = pytest.mark.parametrize("name", NORMED)


def layer_of(name: str, kind: QkNorm = "none", heads: int = 3) -> AttentionLayer:
    torch.manual_seed(0)
    return AttentionLayer(name, 12, heads, seq_len=9, qk_norm=kind, dtype=torch.float64)


def tokens(scale: float = 1.0) -> Tensor:
    torch.manual_seed(1)
    return scale * torch.randn(2, 7, 12, dtype=torch.float64)


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@every_normed
@every_norm
def test_a_normed_layer_keeps_its_shape_and_every_parameter_a_gradient(name: str, kind: QkNorm) -> None:
    layer, causal = layer_of(name, kind), attention_impls.get(name).causal_only
    output = layer(tokens(), causal=causal)
    assert output.shape == (2, 7, 12)
    output.square().sum().backward()
    for parameter in layer.used_parameters(causal):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@every_normed
@pytest.mark.parametrize("kind", QK_NORMS)
@pytest.mark.parametrize("bias", [False, True])
def test_parameters_are_as_many_as_the_formulas_say(name: str, kind: QkNorm, bias: bool) -> None:
    spec, problem = attention_impls.get(name), Problem(1, 3, 9, 4)
    layer = AttentionLayer(name, 12, 3, bias=bias, seq_len=9, qk_norm=kind)
    block = TransformerBlock(name, 12, 3, bias=bias, seq_len=9, qk_norm=kind)
    assert parameters(layer) == spec.layer_params(problem, bias, kind)
    assert parameters(block) == block_params(spec, problem, bias=bias, qk_norm=kind)


def test_a_gain_is_per_channel_of_a_head_or_of_all_where_heads_mean_nothing() -> None:
    problem = Problem(1, 8, 64, 64)
    for name, channels in (("softmax", 64), ("ea-series", 512), ("element-wise", 512)):
        spec = attention_impls.get(name)
        for kind in ("layer", "rms"):
            assert spec.layer_params(problem, qk_norm=kind) == 4 * 512**2 + 2 * channels
        assert spec.layer_params(problem, qk_norm="tanh") == 4 * 512**2


@every_normed
def test_none_changes_no_bit_and_no_name(name: str) -> None:
    plain, asked = layer_of(name), layer_of(name, "none")
    normed, causal = layer_of(name, "rms"), attention_impls.get(name).causal_only
    assert not any("norm" in each for each in asked.state_dict())
    assert torch.equal(plain(tokens(), causal=causal), asked(tokens(), causal=causal))
    # Norms draw nothing, so that networks which differ in them alone start from the same weights.
    for each, tensor in plain.state_dict().items():
        assert torch.equal(normed.state_dict()[each], tensor)


@every_norm
def test_a_layer_norms_what_it_has_projected_head_by_head(kind: QkNorm) -> None:
    layer, x = layer_of("softmax", kind), tokens()
    for parameter in layer.norms.parameters():
        torch.nn.init.normal_(parameter)

    def normed(name: str) -> Tensor:
        heads: Tensor = layer.projections[name](x).view(2, 7, 3, 4)
        if kind == "tanh":
            return heads.tanh().transpose(1, 2)
        heads = heads - heads.mean(-1, keepdim=True) if kind == "layer" else heads
        root = (heads.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        gain: Tensor = next(layer.norms[name].parameters())
        return (heads / root * gain).transpose(1, 2)

    value = layer.projections["value"](x).view(2, 7, 3, 4).transpose(1, 2)
    attended = F.scaled_dot_product_attention(normed("query"), normed("key"), value)
    expected = layer.projections["output"](attended.transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-10)


@every_norm
@pytest.mark.parametrize("name", ["element-wise", "ea-series"])
def test_heads_go_on_meaning_nothing_to_a_per_channel_attention(name: str, kind: QkNorm) -> None:
    outputs = [layer_of(name, kind, heads)(tokens()) for heads in (1, 3, 12)]
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], rtol=1e-12, atol=1e-12)


@every_norm
def test_what_comes_in_larger_goes_out_as_large(kind: QkNorm) -> None:
    norm = QueryKeyNorm(kind, 4, dtype=torch.float64)
    small, large = norm(tokens(100.0)), norm(tokens(10000.0))
    assert large.abs().max() <= math.sqrt(4) + 1e-12  # one channel of four that has all of the mean square
    if kind == "tanh":
        assert large.abs().max() <= 1
    else:
        torch.testing.assert_close(large, small, rtol=1e-6, atol=1e-6)
        squares = large.view(-1, 4).square().mean(-1)
        torch.testing.assert_close(squares, torch.ones_like(squares), rtol=1e-6, atol=1e-6)


@every_norm
def test_a_query_of_zeros_has_finite_gradients(kind: QkNorm) -> None:
    x = torch.zeros(1, 2, 4, requires_grad=True)
    QueryKeyNorm(kind, 4)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_a_tanh_and_a_scale_keep_the_series_inside_its_band() -> None:
    """2 s = 1.4 is below 1.46, the near edge of order 6's 1 % band: no weights put a pair outside."""
    layer = AttentionLayer("ea-series", 12, 3, order=6, scale=0.7, qk_norm="tanh", dtype=torch.float64)
    with torch.no_grad():
        for projection in layer.projections.values():
            assert isinstance(projection, torch.nn.Linear)
            projection.weight.mul_(100)
    query, key = (
        layer.norms[name](layer.projections[name](tokens())).view(2, 7, 3, 4).transpose(1, 2)
        for name in ("query", "key")
    )
    outside = attention_impls.get("ea-series").approximates
    assert outside is not None
    assert outside.outside_band(query, key, causal=False, order=6, scale=0.7) == 0
    assert outside.outside_band(100 * query, 100 * key, causal=False, order=6, scale=0.7) > 0.5


@every_norm
def test_an_attention_without_projected_queries_refuses_a_norm(kind: QkNorm) -> None:
    check_qk_norm("linear", ("value", "output"), "none")
    with pytest.raises(InvalidArgument, match="linear projects value, output; leave qk_norm at 'none'"):
        check_qk_norm("linear", ("value", "output"), kind)


def test_a_norm_that_nobody_knows_is_refused_with_those_known() -> None:
    with pytest.raises(
        InvalidArgument, match=r"none, layer, rms, tanh; it is 'rsm' \(did you mean 'rms'\?\)"
    ):
        AttentionLayer("softmax", 8, 2, qk_norm="rsm")  # type: ignore[arg-type]
