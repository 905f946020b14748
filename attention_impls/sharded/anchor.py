"""What has every rank take part in backward: gradients are exchanged there, and a rank that stays away stops all."""

from __future__ import annotations

import torch
from torch import Tensor


def anchor(query: Tensor) -> Tensor:
    """An input that requires gradients on every rank, where they are enabled, whatever the rank's own tensors do.

    To be passed to the one node of autograd that exchanges, through which query, key and value all pass: then
    each rank's backward pass runs it, whichever of its tensors it asks for.
    """
    return query.new_zeros((), requires_grad=torch.is_grad_enabled())
