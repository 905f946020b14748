"""What several networks have in common: the layout of images and the initialisation of layers."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Layers = TypeVar("Layers", bound=nn.Module)


def channels_first(x: Tensor) -> Tensor:
    """Images [B, height, width, channels] as convolutions want them: [B, channels, height, width].

    The memory stays as it is, which torch calls channels_last: no copy, and a quarter faster on a CPU than the
    other layout (measured on VGG-like networks with oneDNN).
    """
    return x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def he(layers: Layers) -> Layers:
    """The layers, with biases of 0 and weights as suits a ReLU after each: normal with variance 2 / inputs.

    Paper: He et al. 2015, arXiv 1502.01852.
    """
    for layer in layers.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return layers


def channels_last(network: nn.Module) -> nn.Module:
    """The network, its kernels laid out as ``channels_first`` lays out images."""
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.data = layer.weight.contiguous(memory_format=torch.channels_last)
    return network
