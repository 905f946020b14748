"""Attentions that are written for one dtype at a time, under ``torch.autocast``, which mixes them.

Autocast turns the products of float32 sums into half precision, which the blocks' products in place do not take
and which the sums are kept wide to avoid. So inputs are rounded as those of a product are, and what is computed
from them is as if these had come in half precision: in float32, with autocast off.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def under_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the dtype of autocast, where that is enabled and they are not in float64."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device) or tensors[0].dtype == torch.float64:
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)


def as_written(phase: Callable[P, R]) -> Callable[P, R]:
    """The phase of an attention in the dtypes that it names, autocast or not; backward passes may run under it.

    Not ``torch.amp.custom_fwd``, which is for one kind of device, named beforehand.

    Args:
        phase: its first argument is a tensor, on the device that it computes on.
    """

    @wraps(phase)
    def without_autocast(*arguments: P.args, **named: P.kwargs) -> R:
        device = arguments[0].device.type  # type: ignore[attr-defined]
        if not torch.is_autocast_enabled(device):
            return phase(*arguments, **named)
        with torch.autocast(device, enabled=False):
            return phase(*arguments, **named)

    return without_autocast
