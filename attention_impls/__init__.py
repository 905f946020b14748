"""Attention mechanisms of linear and quadratic cost behind one interface. Importing it imports no torch.

``get("ea-series")`` returns everything there is to know of one attention, ``names()`` lists them, and
``AttentionLayer`` puts any of them between the same projections, ``TransformerBlock`` that layer into a block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attention_impls.nouns import (
    QK_NORMS,
    Cost,
    Hyperparameter,
    InvalidArgument,
    Paper,
    Problem,
    UnknownAttention,
    Unsupported,
)
from attention_impls.registry import get, names
from attention_impls.spec import AttentionSpec, Backend, Recurrence

if TYPE_CHECKING:
    from attention_impls.layer import AttentionLayer
    from attention_impls.transformer import TransformerBlock

__all__ = [
    "QK_NORMS",
    "AttentionLayer",
    "AttentionSpec",
    "Backend",
    "Cost",
    "Hyperparameter",
    "InvalidArgument",
    "Paper",
    "Problem",
    "Recurrence",
    "TransformerBlock",
    "UnknownAttention",
    "Unsupported",
    "get",
    "names",
]


def __getattr__(name: str) -> Any:
    """Import the layer or the block, and torch with it, when it is first asked for."""
    if name == "AttentionLayer":
        from attention_impls.layer import AttentionLayer

        return AttentionLayer
    if name == "TransformerBlock":
        from attention_impls.transformer import TransformerBlock

        return TransformerBlock
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
