"""The networks beside the transformer: what they read and answer, how large they are, and that they learn."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elattn_bench.errors import UsageError
from elattn_bench.quality.data.nouns import IGNORED, Examples
from elattn_bench.quality.nets import conv, counts, floors, hadamard_net, untrained, vgg
from elattn_bench.quality.nets.conv_size import ConvSize, conv_size
from elattn_bench.quality.nets.hadamard_size import HadamardSize, hadamard_size
from elattn_bench.quality.nets.sizes import TRANSFORMER_PARAMS
from elattn_bench.quality.nouns import Form

GREY = Form("image", (28, 28, 1), 10)
COLOUR = Form("image", (32, 32, 3), 10)
VOWELS = Form("series", (29, 12), 9)
HOURS = Form("forecast", (96, 7), 7, horizon=192)
BYTES = Form("language", (16,), 11)

SHARES = (0.03, 0.5)
BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "vgg": vgg.vgg,
    "hadamard_net": hadamard_net.hadamard_net,
    "conv": conv.conv,
    "logistic": floors.logistic,
    "mlp": floors.mlp,
    "nlinear": floors.nlinear,
    "repeat_last": untrained.repeat_last,
    "bigram": untrained.bigram,
}

Built = tuple[str, Form, tuple[float, ...]]


def _networks() -> Iterator[Built]:
    for form in (GREY, COLOUR):
        yield from ((name, form, ()) for name in ("vgg", "logistic", "mlp"))
        yield from ((name, form, (share,)) for name in ("hadamard_net", "conv") for share in SHARES)
    yield from ((name, VOWELS, ()) for name in ("logistic", "mlp"))
    yield from ((name, HOURS, ()) for name in ("nlinear", "repeat_last"))
    yield from (("conv", form, (share,)) for form in (VOWELS, HOURS) for share in (0.5, 1.0))
    yield "bigram", BYTES, ()


NETWORKS = list(_networks())
IDS = [f"{name}-{form.kind}{form.shape[-1]}{list(shares) or ''}" for name, form, shares in NETWORKS]
every_network = pytest.mark.parametrize(("name", "form", "shares"), NETWORKS, ids=IDS)
trained = pytest.mark.parametrize(
    ("name", "form", "shares"),
    [each for each in NETWORKS if each[0] not in ("repeat_last", "bigram")],
    ids=[
        name
        for name, (network, *_) in zip(IDS, NETWORKS, strict=True)
        if network not in ("repeat_last", "bigram")
    ],
)


def _build(name: str, form: Form, shares: tuple[float, ...] = ()) -> nn.Module:
    torch.manual_seed(0)
    return BUILDERS[name](form, *shares)


def _inputs(form: Form, batch: int, steps: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, *form.shape) if steps is None else (batch, steps, *form.shape[1:])
    if form.kind == "language":
        return torch.randint(form.outputs, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def _answer_shape(form: Form, batch: int) -> tuple[int, ...]:
    """What ``Form`` promises."""
    ahead = {"image": (), "series": (), "forecast": (form.horizon,), "language": form.shape}[form.kind]
    return (batch, *ahead, form.outputs)


def _one_wider(size: HadamardSize | ConvSize) -> HadamardSize | ConvSize:
    if isinstance(size, HadamardSize):
        return replace(size, hidden=size.hidden + 1)
    return replace(size, width=size.width + 1)


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@every_network
def test_a_network_answers_in_the_shape_that_its_form_promises(
    name: str, form: Form, shares: tuple[float, ...]
) -> None:
    with torch.no_grad():
        answer = _build(name, form, shares)(_inputs(form, 3))
    assert answer.shape == _answer_shape(form, 3)
    assert answer.isfinite().all()


@every_network
def test_the_formula_of_its_parameters_counts_those_of_the_module(
    name: str, form: Form, shares: tuple[float, ...]
) -> None:
    assert getattr(counts, name)(form, *shares) == _size(_build(name, form, shares))


@trained
def test_gradients_reach_every_parameter(name: str, form: Form, shares: tuple[float, ...]) -> None:
    network = _build(name, form, shares)
    network(_inputs(form, 8)).square().sum().backward()
    unreached = [
        name for name, each in network.named_parameters() if each.grad is None or not each.grad.any()
    ]
    assert not unreached


@every_network
def test_the_same_seed_builds_the_same_network(name: str, form: Form, shares: tuple[float, ...]) -> None:
    first, again = (_build(name, form, shares).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)


@every_network
def test_an_example_is_answered_alike_alone_and_among_others(
    name: str, form: Form, shares: tuple[float, ...]
) -> None:
    network, x = _build(name, form, shares).eval(), _inputs(form, 4)
    with torch.no_grad():
        torch.testing.assert_close(network(x)[:1], network(x[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("form", "params"), [(GREY, 881_898), (COLOUR, 1_341_226)], ids=["28x28x1", "32x32x3"]
)
def test_vgg_has_the_parameters_that_the_documentation_names(form: Form, params: int) -> None:
    assert counts.vgg(form) == params


def test_counting_parameters_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from elattn_bench.quality import nouns; from elattn_bench.quality.nets import counts;"
        "print(counts.conv(nouns.Form('image', (28, 28, 1), 10), 0.03), {'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [str(counts.conv(GREY, 0.03)), "set()"]


@pytest.mark.parametrize("share", [0.03, 0.1, 0.5])
@pytest.mark.parametrize("form", [GREY, COLOUR], ids=["28x28x1", "32x32x3"])
@pytest.mark.parametrize("name", ["hadamard_net", "conv"])
def test_a_sized_network_fills_its_share_of_vgg_and_no_more(name: str, form: Form, share: float) -> None:
    filled = getattr(counts, name)(form, share) / (share * counts.vgg(form))
    assert 0.8 < filled <= 1


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("form", [VOWELS, HOURS], ids=["series", "forecast"])
def test_without_an_image_the_share_is_of_the_small_transformer(form: Form, share: float) -> None:
    filled = counts.conv(form, share) / (share * TRANSFORMER_PARAMS)
    assert 0.8 < filled <= 1


@pytest.mark.parametrize(
    ("form", "share", "pool", "hidden"),
    [(GREY, 0.03, 2, 118), (GREY, 0.5, 1, 544), (COLOUR, 0.03, 4, 186), (COLOUR, 0.5, 2, 848)],
)
def test_the_image_is_pooled_as_far_as_the_documentation_says(
    form: Form, share: float, pool: int, hidden: int
) -> None:
    size = hadamard_size(form, share)
    assert (size.pool, size.hidden) == (pool, hidden)


@pytest.mark.parametrize("form", [GREY, COLOUR], ids=["28x28x1", "32x32x3"])
def test_a_larger_share_never_pools_more(form: Form) -> None:
    pools = [hadamard_size(form, share).pool for share in (0.03, 0.1, 0.3, 0.5, 1.0)]
    assert pools == sorted(pools, reverse=True)


@pytest.mark.parametrize("name", ["hadamard_net", "conv"])
def test_one_unit_more_would_break_the_budget(name: str) -> None:
    allowed = 0.03 * counts.vgg(GREY)
    size = hadamard_size(GREY, 0.03) if name == "hadamard_net" else conv_size(GREY, 0.03)
    assert size.params <= allowed < _one_wider(size).params


@pytest.mark.parametrize("name", ["hadamard_net", "conv"])
@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_a_share_that_is_none_is_refused(name: str, share: float) -> None:
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        _build(name, GREY, (share,))


@pytest.mark.parametrize("name", ["hadamard_net", "conv"])
def test_a_share_that_nothing_fits_into_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="give a larger share"):
        _build(name, GREY, (1e-5,))


@pytest.mark.parametrize(
    ("name", "form", "shares"),
    [
        ("vgg", VOWELS, ()),
        ("hadamard_net", HOURS, (0.5,)),
        ("conv", BYTES, (0.5,)),
        ("logistic", HOURS, ()),
        ("mlp", BYTES, ()),
        ("nlinear", GREY, ()),
        ("repeat_last", BYTES, ()),
        ("bigram", VOWELS, ()),
    ],
)
def test_a_kind_that_a_network_cannot_read_is_refused_by_plan_and_network_alike(
    name: str, form: Form, shares: tuple[float, ...]
) -> None:
    for build in (BUILDERS[name], getattr(counts, name)):
        with pytest.raises(UsageError, match=f"the task is {form.kind}"):
            build(form, *shares)


@pytest.mark.parametrize("name", ["nlinear", "repeat_last", "conv"])
def test_a_forecast_of_channels_that_are_not_shown_is_refused(name: str) -> None:
    shares = (1.0,) if name == "conv" else ()
    with pytest.raises(UsageError, match="it sees 7 and should forecast 3"):
        _build(name, Form("forecast", (96, 7), 3, horizon=96), shares)


@pytest.mark.parametrize("name", ["logistic", "mlp", "conv"])
@pytest.mark.parametrize("steps", [7, 29])
def test_a_series_may_have_any_length(name: str, steps: int) -> None:
    shares = (1.0,) if name == "conv" else ()
    assert _build(name, VOWELS, shares)(_inputs(VOWELS, 2, steps)).shape == (2, 9)


@pytest.mark.parametrize("name", ["logistic", "mlp"])
def test_a_floor_of_series_ignores_the_order_of_steps(name: str) -> None:
    network, x = _build(name, VOWELS), _inputs(VOWELS, 2)
    torch.testing.assert_close(network(x), network(x.flip(1)))


def test_one_step_alone_has_a_finite_gradient_through_its_standard_deviation() -> None:
    x = _inputs(VOWELS, 2, 1).requires_grad_()
    _build("mlp", VOWELS)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_repeat_last_repeats_the_last_value_of_each_channel() -> None:
    x = _inputs(HOURS, 2)
    forecast = _build("repeat_last", HOURS)(x)
    assert torch.equal(forecast, x[:, -1:].repeat(1, HOURS.horizon, 1))


def test_nlinear_without_weights_repeats_the_last_value() -> None:
    network, x = _build("nlinear", HOURS), _inputs(HOURS, 2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(network(x), _build("repeat_last", HOURS)(x))


@pytest.mark.parametrize("name", ["nlinear", "conv"])
def test_what_is_added_to_a_whole_series_is_added_to_its_forecast(name: str) -> None:
    network = _build(name, HOURS, (0.5,) if name == "conv" else ()).eval()
    x, shift = _inputs(HOURS, 2), torch.linspace(-3, 3, 7)
    torch.testing.assert_close(network(x + shift), network(x) + shift, rtol=1e-4, atol=1e-5)


def test_nlinear_treats_all_channels_alike() -> None:
    network, x = _build("nlinear", HOURS), _inputs(HOURS, 2)
    torch.testing.assert_close(network(x.flip(-1)), network(x).flip(-1))


def test_an_element_wise_block_neither_swells_nor_vanishes_with_the_size_of_its_map() -> None:
    torch.manual_seed(0)
    for features in (16, 784, 3072):
        x = torch.randn(8, features)
        change = (hadamard_net.Block(features)(x) - x).std()
        assert 0.01 < change < 1


@pytest.fixture
def language() -> Examples:
    """Two texts of a few tokens; the start of the first is not asked for, nor the end of the second."""
    inputs = np.array([[0, 1, 0, 1], [2, 0, 1, 2]])
    targets = np.array([[IGNORED, 0, 1, 2], [0, 1, 2, IGNORED]])
    return Examples(inputs, targets)


def _fitted(language: Examples) -> Any:
    network = untrained.bigram(Form("language", (4,), 3))
    assert isinstance(network, untrained.Bigram)
    network.fit(language)
    return network


def test_bigram_counts_the_pairs_that_are_asked_for_and_one_of_each(language: Examples) -> None:
    counted = torch.tensor([[1.0, 3, 1], [2, 1, 3], [2, 1, 1]])  # 01 twice, 10 once, 12 twice, 20 once, and 1
    torch.testing.assert_close(_fitted(language).logits.exp(), counted / counted.sum(1, keepdim=True))


def test_bigram_answers_from_the_current_token_alone(language: Examples) -> None:
    network = _fitted(language)
    answer = network(torch.tensor([[0, 1, 2], [2, 1, 0]]))
    assert torch.equal(answer[0], answer[1].flip(0))
    assert torch.equal(answer[0], network.logits)


def test_no_other_table_of_pairs_predicts_the_training_text_better_but_for_the_added_ones() -> None:
    tokens = torch.randint(5, (1, 20_001), generator=torch.Generator().manual_seed(0)).numpy()
    examples = Examples(tokens[:, :-1], tokens[:, 1:])
    network = untrained.Bigram(5)
    network.fit(examples)
    logits = network.logits.detach().clone().requires_grad_()
    loss = F.cross_entropy(logits[examples.inputs[0]], torch.from_numpy(examples.targets[0]))
    torch.autograd.backward(loss)
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-3  # the gradient of the mean loss is about (1 - p tokens) / examples


@pytest.mark.parametrize(
    ("name", "form", "shares"),
    [
        ("vgg", Form("image", (8, 8, 1), 4), ()),
        ("hadamard_net", Form("image", (8, 8, 1), 4), (0.03,)),
        ("conv", Form("image", (8, 8, 1), 4), (0.01,)),
        ("logistic", Form("image", (8, 8, 1), 4), ()),
        ("mlp", Form("image", (8, 8, 1), 4), ()),
        ("mlp", VOWELS, ()),
        ("conv", VOWELS, (0.3,)),
    ],
)
def test_a_few_examples_can_be_learned_by_heart(name: str, form: Form, shares: tuple[float, ...]) -> None:
    network, x = _build(name, form, shares), _inputs(form, 12)
    wanted = torch.arange(12) % form.outputs
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(50):
        optimiser.zero_grad()
        torch.autograd.backward(F.cross_entropy(network(x), wanted))
        optimiser.step()
    assert torch.equal(network.eval()(x).argmax(-1), wanted)
