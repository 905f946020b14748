"""The VGG-like network that the element-wise-attention network is compared with. OURS: the paper gives none."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from elattn_bench.quality.nets.layers import channels_first, channels_last, he
from elattn_bench.quality.nets.sizes import VGG_HIDDEN, VGG_WIDTHS, need, vgg_features
from elattn_bench.quality.nouns import Form

DROPOUT = 0.5  # before the last layer, as in Simonyan & Zisserman 2015, section 3.1


class Vgg(nn.Module):
    """Pairs of 3x3 convolutions with a pool after each, then two dense layers: see ``vgg``."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        inputs = (form.shape[-1], *VGG_WIDTHS)
        self.features = nn.Sequential(
            *(he(_stage(*widths)) for widths in zip(inputs, VGG_WIDTHS, strict=False))
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            he(nn.Linear(vgg_features(form), VGG_HIDDEN)),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(VGG_HIDDEN, form.outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, height, width, channels] -> logits [B, outputs]."""
        return cast(Tensor, self.head(self.features(channels_first(x))))


def vgg(form: Form) -> nn.Module:
    """A VGG-like network: [B, height, width, channels] -> logits [B, outputs].

    Three pairs of 3x3 convolutions, of 32, 64 and 128 channels, ReLU after each and a 2x2 max-pool after each
    pair; then a dense layer of 512 with ReLU, dropout of 0.5, and a dense layer to the outputs. Parameters:
    881,898 on 28x28x1 and 1,341,226 on 32x32x3 with 10 classes (``counts.vgg``). Layers that a ReLU follows
    have He's initialisation; there is no batch norm.

    This network is ours. arXiv 2302.05488 compares with "a VGG-like" network of which no more is public: a ratio to
    this one is a ratio to this one.

    Paper: Simonyan & Zisserman 2015, arXiv 1409.1556 (the pattern); initialisation: He et al. 2015, arXiv 1502.01852.
    """
    need("vgg", form, "image")
    return channels_last(Vgg(form))


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
