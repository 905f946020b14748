"""The element-wise-attention network of arXiv 2302.05488 in OUR reading: of the paper, only an abstract is public."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_impls import AttentionLayer
from elattn_bench.quality.nets.hadamard_size import HadamardSize, hadamard_size
from elattn_bench.quality.nets.layers import channels_first
from elattn_bench.quality.nouns import Form

INITIAL_GAIN = 0.1
"""Scale of a block's arrays at initialisation, over the layer's own: see ``Block``."""


class Block(nn.Module):
    """One element-wise attention over a whole feature map: [B, features] -> the same shape.

    Formula: y = x + F attention(norm(x)), with F the number of features and attention(z) =
    softmax(q * k) * v over the features, q, k and v being arrays times z plus arrays; norm is a LayerNorm without
    parameters, which the arrays make up for. A softmax over F elements has weights of about 1 / F: the factor F
    keeps the scale of the value.

    The arrays start at a tenth of the layer's own initialisation. At that one, q * k grows with the square of z and
    a few pixels take the whole softmax: 6 to 13 points of accuracy less on held-out training images.

    Parameters: 6 F.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.norm = nn.LayerNorm(features, elementwise_affine=False)
        self.attention = AttentionLayer("hadamard", features, 1, bias=True, axis="channels")
        with torch.no_grad():
            for array in self.attention.parameters():
                array.mul_(INITIAL_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        """The block on x, [B, features]: the map is one token, its features the channels."""
        token = self.norm(x).unsqueeze(1)
        return x + self.features * cast(Tensor, self.attention(token)).squeeze(1)


class HadamardNet(nn.Module):
    """Average-pool -> flatten -> block -> dense -> GELU -> block -> dense: see ``hadamard_net``."""

    def __init__(self, size: HadamardSize) -> None:
        super().__init__()
        self.pool = size.pool
        self.layers = nn.Sequential(
            nn.Flatten(),
            Block(size.features),
            nn.Linear(size.features, size.hidden),
            nn.GELU(),
            Block(size.hidden),
            nn.Linear(size.hidden, size.outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, height, width, channels] -> logits [B, outputs]."""
        pooled = F.avg_pool2d(channels_first(x), self.pool) if self.pool > 1 else channels_first(x)
        return cast(Tensor, self.layers(pooled))


def hadamard_net(form: Form, share: float) -> nn.Module:
    """A network of element-wise attention: [B, height, width, channels] -> logits [B, outputs].

    OUR READING of arXiv 2302.05488, whose abstract alone is public: attention by "arrays multiplications" instead of
    matrix products, in a network with far fewer parameters than a VGG-like one. Layer and network are ours, so that
    it can check the claim (accuracy and parameters over those of ``vgg``), never the paper's exact network.

    The whole image is one token whose channels are its pixels, and a ``Block`` of attention weighs them; a dense
    layer brings it to h units, a GELU and a second block follow, and a dense layer to the outputs.

    The size is by rule: the image is averaged over squares of 1, 2 or 4 pixels to a side, the smallest that leaves at
    least one hidden unit for every four features; h is then the largest for which all parameters are at most
    ``share`` of those of ``vgg``. Fashion-MNIST: 14x14 and h = 118 at 3 %, 28x28 and h = 544 at 50 %. CIFAR-10: 8x8 and
    h = 186 at 3 %, 16x16 and h = 848 at 50 %. Initialisation and rule were chosen on held-out training images.

    Args:
        form: of images.
        share: of the parameters of ``vgg``, for example 0.03 and 0.5.

    Raises:
        UsageError: the form is not of images, or nothing fits into the share.

    Paper: Bacochina & de Souza 2023, arXiv 2302.05488 (interpreted).
    """
    return HadamardNet(hadamard_size(form, share))
