"""How wide the plain convolutional net is, and its parameters. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from elattn_bench.errors import UsageError
from elattn_bench.quality.nets.sizes import budget, convolution, dense, largest, need, need_same_channels
from elattn_bench.quality.nouns import Form

Stage = tuple[int, int, int]
"""Channels in, channels out, and pixels or steps of a kernel along an axis."""

IMAGE_STAGES = ((1, 3), (2, 3), (4, 3), (8, 3))
"""Of each stage: its channels over those of the first, and its kernel; images are halved between stages."""

SERIES_STAGES = ((1, 7), (2, 5), (1, 3))
"""The same of series, after the FCN of Wang et al. 2017, arXiv 1611.06455; kernels odd, so that steps stay."""


@dataclass(frozen=True, slots=True)
class ConvSize:
    """Sizes of the plain convolutional net: its stages and what is behind them."""

    form: Form
    width: int

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every convolution, from the input on."""
        of_kind = IMAGE_STAGES if self.form.kind == "image" else SERIES_STAGES
        outputs = [self.width * factor for factor, _ in of_kind]
        inputs = [self.form.shape[-1], *outputs]
        return tuple(zip(inputs, outputs, (kernel for _, kernel in of_kind), strict=False))

    @property
    def features(self) -> int:
        """Channels that the last stage leaves."""
        return self.stages[-1][1]

    @property
    def params(self) -> int:
        """Kernels without bias, gain and bias of a batch norm for each channel, and the dense layers behind."""
        axes = 2 if self.form.kind == "image" else 1
        kernels = sum(
            convolution(inputs, outputs, kernel**axes, bias=False) for inputs, outputs, kernel in self.stages
        )
        norms = sum(2 * outputs for _, outputs, _ in self.stages)
        ahead = dense(self.form.shape[0], self.form.horizon) if self.form.kind == "forecast" else 0
        return kernels + norms + dense(self.features, self.form.outputs) + ahead


def conv_size(form: Form, share: float) -> ConvSize:
    """The widest net within a share of VGG's parameters, or of the small transformer's where no image is read.

    Raises:
        UsageError: the form is of language or forecasts other channels than it shows, or not one channel fits.
    """
    need("conv", form, "image", "series", "forecast")
    if form.kind == "forecast":
        need_same_channels("conv", form)
    width = largest(lambda width: ConvSize(form, width).params, budget("conv", form, share))
    if not width:
        raise UsageError(
            f"conv cannot be built with a share of {share:g}: one channel is too many; give a larger share"
        )
    return ConvSize(form, width)
