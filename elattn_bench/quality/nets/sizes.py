"""How wide the networks are: the sizes of VGG, and the largest sizes within a share of its parameters. No torch."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from elattn_bench.errors import UsageError
from elattn_bench.quality.nouns import Form

VGG_WIDTHS = (32, 64, 128)
"""Channels of VGG's stages, each of two convolutions and a pool."""

VGG_HIDDEN = 512
"""Width of VGG's hidden dense layer."""

MLP_HIDDEN: dict[str, tuple[int, ...]] = {"image": (128, 128), "series": (64,)}
"""Widths of the MLP's hidden layers, by what it reads."""

SERIES_SUMMARIES = 4
"""What the MLP reads of each channel of a series: mean, standard deviation, minimum, maximum."""

TRANSFORMER_PARAMS = 70_000
"""Parameters of the small transformer on a series, roughly: what a share of a 1-d convolutional net is of."""


def need(network: str, form: Form, *kinds: str) -> None:
    """Refuse a form that the network has no reading for.

    Raises:
        UsageError: the form is of another kind; the message has those that the network reads.
    """
    if form.kind not in kinds:
        raise UsageError(f"{network} reads {' or '.join(kinds)}; the task is {form.kind}: take another model")


def need_same_channels(network: str, form: Form) -> None:
    """Refuse what is not a forecast of the very channels that are shown.

    Raises:
        UsageError: the form is of another kind or has other channels ahead than behind.
    """
    need(network, form, "forecast")
    if form.outputs != form.shape[-1]:
        raise UsageError(
            f"{network} forecasts the channels that it sees; it sees {form.shape[-1]} and should forecast "
            f"{form.outputs}: take another model"
        )


def dense(inputs: int, outputs: int) -> int:
    """Parameters of a dense layer with a bias."""
    return inputs * outputs + outputs


def convolution(inputs: int, outputs: int, positions: int, *, bias: bool = True) -> int:
    """Parameters of a convolution over so many positions: k of one axis, k^2 of two."""
    return positions * inputs * outputs + outputs * bias


def vgg_features(form: Form) -> int:
    """Numbers that VGG's convolutions leave of an image: each of its stages halves height and width."""
    height, width, _ = form.shape
    shrunk = 1 << len(VGG_WIDTHS)
    return (height // shrunk) * (width // shrunk) * VGG_WIDTHS[-1]


def vgg(form: Form) -> int:
    """Parameters of ``vgg``: the sum of k^2 C_in C_out + C_out, and of n_in n_out + n_out."""
    need("vgg", form, "image")
    total, inputs = 0, form.shape[-1]
    for width in VGG_WIDTHS:
        total += convolution(inputs, width, 9) + convolution(width, width, 9)
        inputs = width
    return total + dense(vgg_features(form), VGG_HIDDEN) + dense(VGG_HIDDEN, form.outputs)


def logistic_inputs(form: Form) -> int:
    """Numbers that logistic regression reads: every pixel, or the mean of each channel of a series."""
    return prod(form.shape) if form.kind == "image" else form.shape[-1]


def mlp_inputs(form: Form) -> int:
    """Numbers that the MLP reads: every pixel, or ``SERIES_SUMMARIES`` of each channel of a series."""
    return prod(form.shape) if form.kind == "image" else SERIES_SUMMARIES * form.shape[-1]


def budget(network: str, form: Form, share: float) -> int:
    """The parameters that a network sized by a share may have: of VGG's for images, else of the transformer's.

    Raises:
        UsageError: the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise UsageError(
            f"the share of {network} must be above 0 and at most 1; it is {share:g}: write 0.03 for 3 %"
        )
    return int(share * (vgg(form) if form.kind == "image" else TRANSFORMER_PARAMS))


def largest(params: Callable[[int], int], allowed: int) -> int:
    """The largest width whose parameters are allowed, 0 if there is none; params must grow with the width."""
    width = 0
    while params(width + 1) <= allowed:
        width += 1
    return width
