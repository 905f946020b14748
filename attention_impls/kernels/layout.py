"""How the kernels' tensors lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor


def rows_of_channels(tensor: Tensor) -> Tensor:
    """The tensor, copied if its channels do not lie side by side."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def result_like(tensor: Tensor) -> Tensor:
    """An uninitialised tensor of the same shape and dtype, and of the same layout if its channels lie side by side."""
    return torch.empty_like(rows_of_channels(tensor))
