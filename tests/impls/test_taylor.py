"""Attentions whose weights are polynomials of a dot product: what the papers say of them, and our own laws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import attention_impls
from attention_impls import AttentionLayer, InvalidArgument, Problem, blocks
from attention_impls.polynomial import Polynomial
from attention_impls.polynomial_attention import attend, attend_once, attend_onwards
from attention_impls.polynomial_direct import attend_directly

from .support import draw, error, tracked

both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])

LINEAR = Polynomial(5, (1.5, 0.7))
PACKED = Polynomial(5, (1.0, 0.5, 0.3))
QUARTIC = Polynomial(3, (1.0, 0.9, 0.5, 0.2, 0.1), epsilon=0.25)
OUTER = Polynomial(5, (1.0, 0.5, 0.3), packed=False)
CONSTANT = Polynomial(4, (2.0,))

every_polynomial = pytest.mark.parametrize(
    "polynomial",
    [CONSTANT, LINEAR, PACKED, QUARTIC, OUTER],
    ids=["constant", "linear", "packed", "quartic", "outer"],
)


@pytest.fixture(params=[1, 2**11, 2**18], ids=["one head", "some chunks", "all at once"])
def budget(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks of one short chunk of one head, of several chunks, and of everything."""
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", request.param)
    monkeypatch.setattr(blocks, "MIN_CHUNK_ROWS", 4)
    monkeypatch.setattr(blocks, "STRIP_ROWS", 4)
    return int(request.param)


def narrow(polynomial: Polynomial, length: int = 45) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys of the polynomial's width, wider values; the inputs of 2 entries of 3 heads."""
    query, key, value = draw(2, 3, length, 7)
    return query[..., : polynomial.width], key[..., : polynomial.width], value


def written_out(query: Tensor, key: Tensor, value: Tensor, polynomial: Polynomial, causal: bool) -> Tensor:
    """The weighted means by plain autograd."""
    scores = query @ key.mT
    weights = torch.stack([a * scores.pow(n) for n, a in enumerate(polynomial.coefficients)]).sum(0)
    weights = weights.tril() if causal else weights
    return weights @ value / (weights.sum(-1, keepdim=True) + polynomial.epsilon)


@every_polynomial
def test_features_multiply_to_the_polynomial(polynomial: Polynomial) -> None:
    query, key = (x[0].mT.contiguous() for x in narrow(polynomial)[:2])
    features = polynomial.features(key)
    assert features.shape == (3, polynomial.count, 45)
    products = polynomial.weigh(polynomial.features(query)).mT @ features
    assert error(products, polynomial.of(query.mT @ key)) < 1e-12


@every_polynomial
@both_masks
@pytest.mark.usefixtures("budget")
@pytest.mark.parametrize("form", [attend, attend_directly])
def test_outputs_and_gradients_are_those_written_out(polynomial: Polynomial, causal: bool, form: Any) -> None:
    inputs, upstream = narrow(polynomial), draw(2, 3, 45, 7, seed=1)[2]
    mine, theirs = tracked(*inputs), tracked(*inputs)
    output = form(*mine, polynomial, causal=causal)
    query, key, value = theirs
    truth = written_out(query, key, value, polynomial, causal)
    assert error(output, truth) < 1e-12
    gradients = torch.autograd.grad(output, mine, upstream)
    for gradient, expected in zip(gradients, torch.autograd.grad(truth, theirs, upstream), strict=True):
        assert error(gradient, expected) < 1e-10


@every_polynomial
@pytest.mark.usefixtures("budget")
def test_parts_and_steps_are_the_whole(polynomial: Polynomial) -> None:
    inputs = query, key, value = narrow(polynomial)
    state, parts = None, []
    for rows in (slice(0, 20), slice(20, 44)):
        output, state = attend_onwards(
            query[:, :, rows], key[:, :, rows], value[:, :, rows], state, polynomial
        )
        parts.append(output)
    assert state is not None
    last, _ = attend_once(query[:, :, 44], key[:, :, 44], value[:, :, 44], state, polynomial)
    whole = torch.cat((*parts, last[:, :, None]), 2)
    assert error(whole, attend(*inputs, polynomial, causal=True)) < 1e-12


@pytest.mark.parametrize("width", [1, 2, 16])
@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
def test_packed_features_are_one_for_every_multiset(width: int, order: int) -> None:
    assert Polynomial(width, (1.0,) * (order + 1)).count == math.comb(width + order, order)


def test_symmetric_packing_saves_what_the_reference_sheet_says() -> None:
    of_based = Polynomial(16, (1.0, 1.0, 1.0))
    assert (of_based.count, Polynomial(16, (1.0, 1.0, 1.0), packed=False).count) == (153, 273)


@both_masks
def test_the_two_forms_of_taylor_shift_are_the_same(causal: bool) -> None:
    spec, upstream = attention_impls.get("taylor-shift"), draw(2, 3, 70, 8, seed=1)[2]
    found = []
    for backend in ("efficient", "direct"):
        leaves = tracked(*draw(2, 3, 70, 8), torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64))
        query, key, value, temperature = leaves
        output = spec.backends[backend].op(query, key, value, causal=causal, temperature=temperature)
        found.append([output, *torch.autograd.grad(output, leaves, upstream)])
    for efficient, direct in zip(*found, strict=True):
        assert error(efficient, direct) < 1e-10


def test_taylor_shift_starts_at_temperature_one_and_wants_one_for_every_head() -> None:
    layer = AttentionLayer("taylor-shift", 12, 3)
    assert torch.equal(layer.parameters_of_core["temperature"], torch.ones(3))
    op = attention_impls.get("taylor-shift").op
    with pytest.raises(InvalidArgument, match=r"taylor-shift takes temperature, .* \[3\]; it is None"):
        op(*draw())
    with pytest.raises(InvalidArgument, match=r"\[3\]; it is \[2\]"):
        op(*draw(), temperature=torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("head_dim", [16, 32, 64])
def test_the_forms_of_taylor_shift_cost_the_same_at_the_paper_s_crossover(head_dim: int) -> None:
    spec, crossover = attention_impls.get("taylor-shift"), head_dim**2 + head_dim + 1
    assert crossover == {16: 273, 32: 1057, 64: 4161}[head_dim]
    for length, cheaper in ((crossover - 1, "direct"), (crossover, "efficient")):
        problem = Problem(1, 2, length, head_dim)
        costs = {name: spec.cost_of(name, problem).flops for name in spec.backends}
        assert min(costs, key=costs.__getitem__) == spec.best_backend(problem) == cheaper
    assert spec.best_backend(Problem(1, 2, 8, head_dim, decode=True)) == "efficient"
    assert (spec.growth_of("direct"), spec.growth_of("efficient")) == ("quadratic", "linear")


@both_masks
def test_taylor_linear_is_its_quadratic_form(causal: bool) -> None:
    query, key, value = draw(2, 3, 50, 6)
    cosines = torch.cosine_similarity(query[:, :, :, None], key[:, :, None], dim=-1)
    weights = (1 + 1e-4 + cosines).tril() if causal else 1 + 1e-4 + cosines
    assert weights.min() >= 0
    expected = weights @ value / weights.sum(-1, keepdim=True)
    assert error(attention_impls.get("taylor-linear").op(query, key, value, causal=causal), expected) < 1e-10


@both_masks
@pytest.mark.parametrize("name", ["taylor-linear", "taylor-shift"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_vectors_of_zeros_give_finite_outputs_and_gradients(
    name: str, causal: bool, dtype: torch.dtype
) -> None:
    query, key, value = draw(dtype=dtype)
    query[:, :, ::3] = 0
    key[:, :, ::2] = 0
    leaves = tracked(query, key, value)
    operands = {"temperature": torch.ones(3, dtype=dtype)} if name == "taylor-shift" else {}
    output = attention_impls.get(name).op(*leaves, causal=causal, **operands)
    for found in (output, *torch.autograd.grad(output.float().square().sum(), leaves)):
        assert found.isfinite().all()
    if not causal:  # a query without a direction weighs all keys alike
        assert error(output[:, :, 0], value.double().mean(2)) < 4 * torch.finfo(dtype).eps


def test_taylor_linear_stays_finite_where_every_key_points_away() -> None:
    query, key, value = draw(1, 1, 20, 4, dtype=torch.float32)
    key = -query[:, :, :1].expand_as(key)
    output = attention_impls.get("taylor-linear").op(query, key, value, causal=True)
    assert output.isfinite().all()
    assert error(output[:, :, 0], value[:, :, 0].double()) < 0.2  # the mean of one value is that value


@both_masks
def test_sata_tends_to_softmax_attention(causal: bool) -> None:
    query, key, value = draw(2, 3, 33, 4)
    exact = attention_impls.get("softmax").oracle(query, key, value, causal=causal)
    op = attention_impls.get("sata").op
    errors = [error(op(query, key, value, causal=causal, order=order), exact) for order in (2, 4, 8, 12)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1e-3
    # The first term left out, of the greatest |x| here, times the two sums that it enters.
    greatest = float((query @ key.mT).abs().max()) / 2
    assert errors[-1] < 4 * greatest**13 / math.factorial(13) * float(value.abs().max())


@pytest.mark.parametrize("power", [1, 2, 3, 4, 5])
def test_a_term_of_sata_is_the_power_of_the_dot_product(power: int) -> None:
    query, key = (x[0].mT.contiguous() for x in draw(1, 3, 20, 4)[:2])
    series = Polynomial(4, (1.0,) * (power + 1))
    start = Polynomial(4, (1.0,) * power).count
    weighted = series.weigh(series.features(query))[:, start:]
    term = weighted.mT @ series.features(key)[:, start:]
    assert error(term, (query.mT @ key).pow(power)) < 1e-11


@both_masks
@pytest.mark.parametrize("order", [2, 6])
def test_sata_of_single_channels_is_the_bridge_to_ea_series(order: int, causal: bool) -> None:
    query, key, value = draw(2, 5, 33, 1)
    # exp(-s k^2) weighs values and their count alike: SATA of [u v, u] with 2 s q has both sums of EA-series.
    weight = torch.exp(-key.square())
    op, mask = attention_impls.get("sata").op, {"causal": causal, "order": order}
    above = op(2 * query, key, weight * value, **mask)
    below = op(2 * query, key, weight, **mask)
    expected = attention_impls.get("ea-series").oracle(query, key, value, **mask)
    assert error(above / below, expected) < 1e-10


def test_sata_refuses_an_odd_order_and_too_many_features() -> None:
    spec = attention_impls.get("sata")
    with pytest.raises(InvalidArgument, match="odd Taylor polynomial of exp has a real zero"):
        spec.op(*draw(), order=3)
    wide = Problem(1, 1, 64, 64, hyperparameters={"order": 6})
    reason = (
        "order 6 at head_dim 64 has 131,115,985 features per key; "
        "at most 131,072: take a smaller order or more heads"
    )
    assert spec.unsupported_reasons("eager", wide) == [reason]
    with pytest.raises(InvalidArgument, match="131,115,985 features per key"):
        spec.op(*draw(1, 1, 2, 64), order=6)


@pytest.mark.parametrize(("head_dim", "numbers"), [(8, 1485), (16, 16473), (32, 215985), (64, 3113825)])
def test_the_sums_of_sata_s_four_terms_are_as_many_as_the_authors_count(head_dim: int, numbers: int) -> None:
    assert math.comb(head_dim + 3, 3) * (head_dim + 1) == numbers
    assert Polynomial(head_dim, (1.0,) * 4).count * (head_dim + 1) == numbers


def test_sata_says_where_its_series_is_off() -> None:
    band = attention_impls.get("sata").approximates
    assert band is not None
    x = torch.tensor([-0.5, -0.2, 0.1, 0.6]).view(1, 1, 4, 1)  # order 2 is right to 1 % in (-0.36, 0.44)
    ones = torch.ones_like(x)
    assert band.outside_band(x, ones) == 0.5
    assert band.outside_band(x, ones, causal=True) == (1 + 4) / 10
    assert band.outside_band(x, ones, order=4) == 0


@both_masks
def test_based_at_full_width_is_its_weights_written_out(causal: bool) -> None:
    query, key, value = draw(2, 3, 40, 8)
    x = query @ key.mT
    weights = 1 + x / math.sqrt(8) + x.square() / (2 * 8)
    assert weights.min() > 0
    weights = weights.tril() if causal else weights
    expected = weights @ value / weights.sum(-1, keepdim=True)
    assert error(attention_impls.get("based").op(query, key, value, causal=causal), expected) < 1e-10


def test_state_sizes_are_those_of_the_reference_sheet() -> None:
    def numbers(name: str, **knobs: Any) -> int:
        state_bytes = attention_impls.get(name).state_bytes
        assert state_bytes is not None
        return state_bytes(Problem(1, 8, 9, 64, hyperparameters=knobs)) // 4

    assert numbers("taylor-shift") == 8 * (64**2 + 64 + 1) * 65
    assert numbers("taylor-linear") == 8 * (64 * 64 + 64 + 64 + 1)
    assert numbers("based") == 8 * 153 * 65
    assert numbers("sata", order=2) == 8 * math.comb(66, 2) * 65
