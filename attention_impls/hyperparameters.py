"""The knobs of the attentions, and the rule that each value must keep. No torch."""

from __future__ import annotations

import math
from typing import Any

from attention_impls.nouns import Hyperparameter, InvalidArgument

MAX_RESOLUTIONS = 8  # the coarsest block has 128 positions, which a causal chunk must hold
MAX_ORDER = 64  # the largest key moment, max_k |k|^n exp(-k^2) = (n / 2e)^(n/2), leaves float32 at n = 70


def check(attention: str, knob: Hyperparameter, value: Any) -> None:
    """Refuse a value that breaks the knob's rule.

    Raises:
        InvalidArgument: with the rule and what came.
    """
    if reason := knob.refusal(value):
        raise InvalidArgument(f"{attention}: {knob.name}={value!r}: {reason}")


def dot_scale(head_dim: int, scale: float | None) -> float:
    """The factor of dot products: ``scale``, and 1 / sqrt(head_dim) where it is None."""
    return 1 / math.sqrt(head_dim) if scale is None else scale


def refuse_order(value: Any) -> str | None:
    """Why a Taylor order is refused, or None when it is fine."""
    if not _is_whole(value):
        return f"the order is an even whole number from 0 to {MAX_ORDER}, for example 6"
    if value < 0:
        return "the order is the highest power of the Taylor polynomial: 0 or more, for example 6"
    if value % 2:
        return (
            "an odd order is refused: the odd Taylor polynomial of exp has a real zero and is negative "
            f"below it, so weights turn negative and the denominator can vanish; "
            f"use {value - 1} or {value + 1}"
        )
    if value > MAX_ORDER:
        return f"orders above {MAX_ORDER} are refused: the key moments would leave the range of float32"
    return None


def refuse_scale(value: Any) -> str | None:
    """Why a scale is refused, or None when it is fine."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        return "the scale is a finite number above 0, for example 1.0"
    return None


def refuse_width(value: Any) -> str | None:
    """Why a width is refused, or None when it is fine."""
    if not _is_whole(value) or value < 1:
        return "the width is a whole number from 1, for example 16"
    return None


def refuse_non_bool(value: Any) -> str | None:
    """Why a switch is refused, or None when it is fine."""
    return None if isinstance(value, bool) else "it is True or False"


def refuse_optional_scale(value: Any) -> str | None:
    """Why a scale that may be None is refused, or None when it is fine."""
    return None if value is None else refuse_scale(value)


def refuse_normalisation(value: Any) -> str | None:
    """Why a normalisation is refused, or None when it is fine."""
    return _refuse_choice(value, ("softmax", "scaling"))


def refuse_axis(value: Any) -> str | None:
    """Why an axis is refused, or None when it is fine."""
    return _refuse_choice(value, ("positions", "channels"))


def refuse_window(value: Any) -> str | None:
    """Why a window is refused, or None when it is fine."""
    if not _is_whole(value) or value < 1:
        return "the window is a whole number of positions, 1 or more, for example 32"
    return None


def refuse_latents(value: Any) -> str | None:
    """Why a number of latents is refused, or None when it is fine."""
    return None if _is_whole(value) and value >= 1 else "it is a whole number, 1 or more, for example 64"


def refuse_resolutions(value: Any) -> str | None:
    """Why a number of resolutions is refused, or None when it is fine."""
    if _is_whole(value) and 1 <= value <= MAX_RESOLUTIONS:
        return None
    return f"it is a whole number from 1 to {MAX_RESOLUTIONS}: level n pools blocks of 2^n positions"


def refuse_group(value: Any) -> str | None:
    """Why a size of groups is refused, or None when it is fine."""
    if _is_whole(value) and value >= 2 and value % 2 == 0:
        return None
    return "it is an even whole number, 2 or more, for half of the heads shift by half a group"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse_choice(value: Any, choices: tuple[str, ...]) -> str | None:
    return None if value in choices else f"it is one of: {', '.join(choices)}"


ORDER = Hyperparameter("order", 6, "highest power t of the Taylor polynomial, even", refuse_order)
SERIES_ORDER = Hyperparameter("order", 2, "highest power of the Taylor series of exp, even", refuse_order)
FEATURE_DIM = Hyperparameter(
    "feature_dim", 16, "widest that a query and a key are; of a narrower head as wide as that", refuse_width
)
DISTANCE_SCALE = Hyperparameter("scale", 1.0, "s in the weights exp(-s (q - k)^2)", refuse_scale)
STABILISER = Hyperparameter(
    "stabiliser", True, "weigh keys relative to the greatest weight, so that none underflows", refuse_non_bool
)
DOT_SCALE = Hyperparameter(
    "scale", None, "factor of the dot products; None is 1 / sqrt(head_dim)", refuse_optional_scale
)
PRODUCT_SCALE = Hyperparameter("scale", 1.0, "factor of the products q * k", refuse_scale)
OUTPUT_SCALE = Hyperparameter("scale", 1.0, "factor of the output", refuse_scale)
NORMALISATION = Hyperparameter(
    "normalisation",
    "softmax",
    "softmax (queries over channels, keys over positions) or scaling (both / sqrt(seq_len))",
    refuse_normalisation,
)
AXIS = Hyperparameter("axis", "positions", "what the softmax runs over: positions or channels", refuse_axis)
BIAS_WINDOW = Hyperparameter("window", 32, "s: pairs with |i - j| < s have a learned bias", refuse_window)
LATENTS = Hyperparameter(
    "latents", 64, "M: latents that pool the tokens; causal: last rows that have an output", refuse_latents
)
RESOLUTIONS = Hyperparameter(
    "resolutions", 3, "levels R of pooling: blocks of 1, 2, 4 .. 2^(R - 1) positions", refuse_resolutions
)
GROUP = Hyperparameter("group", 256, "positions of a group, even", refuse_group)
