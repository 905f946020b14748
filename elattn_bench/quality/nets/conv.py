"""A plain convolutional net of a given size: the floor that asks whether parameters were saved by attention."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from elattn_bench.quality.nets.conv_size import ConvSize, Stage, conv_size
from elattn_bench.quality.nets.layers import channels_first, channels_last, he
from elattn_bench.quality.nouns import Form


class ConvForImages(nn.Module):
    """Convolutions with batch norm and ReLU, a 2x2 max-pool between them, the mean of the map, a dense layer."""

    def __init__(self, size: ConvSize) -> None:
        super().__init__()
        first, *others = (_stage(stage, nn.Conv2d, nn.BatchNorm2d) for stage in size.stages)
        pooled = (nn.Sequential(nn.MaxPool2d(2), stage) for stage in others)
        self.stages = nn.Sequential(first, *pooled)
        self.head = nn.Linear(size.features, size.form.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, height, width, channels] -> logits [B, outputs]."""
        return cast(Tensor, self.head(self.stages(channels_first(x)).mean((-2, -1))))


class ConvForSeries(nn.Module):
    """Convolutions over steps with batch norm and ReLU, the mean over steps, a dense layer."""

    def __init__(self, size: ConvSize) -> None:
        super().__init__()
        self.stages = nn.Sequential(*(_stage(stage, nn.Conv1d, nn.BatchNorm1d) for stage in size.stages))
        self.head = nn.Linear(size.features, size.form.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Series [B, steps, channels] -> logits [B, outputs]."""
        return cast(Tensor, self.head(self.stages(x.transpose(1, 2)).mean(-1)))


class ConvForForecasts(nn.Module):
    """The same convolutions, then a dense layer per step and one from history to horizon, on x less its last value."""

    def __init__(self, size: ConvSize) -> None:
        super().__init__()
        self.stages = nn.Sequential(*(_stage(stage, nn.Conv1d, nn.BatchNorm1d) for stage in size.stages))
        self.head = nn.Linear(size.features, size.form.outputs)
        self.ahead = nn.Linear(size.form.shape[0], size.form.horizon)

    def forward(self, x: Tensor) -> Tensor:
        """Series [B, steps, channels] -> their future [B, horizon, channels]."""
        last = x[:, -1:]
        per_step = self.head(self.stages((x - last).transpose(1, 2)).transpose(1, 2))
        return last + cast(Tensor, self.ahead(per_step.transpose(1, 2))).transpose(1, 2)


def conv(form: Form, share: float) -> nn.Module:
    """A plain convolutional net with at most a share of a model's parameters, and as near to it as whole channels go.

    Images: four 3x3 convolutions of c, 2c, 4c and 8c channels, each with batch norm and ReLU, the image halved by a
    max-pool between them; the mean over the map; a dense layer. The share is of ``vgg``.

    Series and forecasts: three convolutions over 7, 5 and 3 steps, of c, 2c and c channels, with batch norm and ReLU;
    classes from the mean over steps; a forecast from a dense layer per step and one from history to horizon, which
    all channels share, on the history less its last value, as in ``nlinear``. The share is of about 70,000
    parameters, those of the small transformer.

    Raises:
        UsageError: the form is of language or forecasts other channels than it shows, or not one channel fits.

    Papers: batch norm: Ioffe & Szegedy 2015, arXiv 1502.03167; the mean before the last layer: Lin et al. 2014,
    arXiv 1312.4400; series: Wang et al. 2017, arXiv 1611.06455.
    """
    size = conv_size(form, share)
    if form.kind == "image":
        return channels_last(ConvForImages(size))
    return ConvForSeries(size) if form.kind == "series" else ConvForForecasts(size)


def _stage(
    stage: Stage,
    convolution: type[nn.Conv1d] | type[nn.Conv2d],
    norm: type[nn.BatchNorm1d] | type[nn.BatchNorm2d],
) -> nn.Sequential:
    inputs, outputs, kernel = stage
    kernels = he(convolution(inputs, outputs, kernel, padding=kernel // 2, bias=False))
    return nn.Sequential(kernels, norm(outputs), nn.ReLU())
