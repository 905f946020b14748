"""What a layer does to its queries and keys after their projections, before the attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attention_impls.nouns import QK_NORMS, InvalidArgument, QkNorm, nearest

EPSILON = 1e-5  # added to a mean square before its root; nn.LayerNorm's default


class QueryKeyNorm(nn.Module):
    """A norm of a query or a key, [..., groups * width] -> the same shape, every group by itself.

    ``layer``: (x - mean(x)) / sqrt(var(x) + 1e-5) * gain. ``rms``: x / sqrt(mean(x^2) + 1e-5) * gain. Their
    gain, [width], is learned, shared by all groups and starts at one, so that every group starts at a root
    mean square of one; there is no bias. ``tanh``: tanh(x), which learns nothing and whose every number lies in
    [-1, 1]: the only one of the three that bounds each channel whatever is learned.

    Args:
        kind: ``layer``, ``rms`` or ``tanh``.
        width: channels that are normalised together.
        device, dtype: of the gain.

    Paper: ``layer`` of queries and keys: Dehghani et al. 2023, *Scaling Vision Transformers to 22 Billion
    Parameters*, arXiv 2302.05442; LayerNorm: Ba et al. 2016, arXiv 1607.06450. ``rms``: Zhang & Sennrich 2019,
    *Root Mean Square Layer Normalization*, arXiv 1910.07467; of queries and keys it is Henry et al. 2020,
    *Query-Key Normalization for Transformers*, arXiv 2010.04245 (l2 norm and one learned scale in all), with a
    gain per channel instead. ``tanh`` is ours.
    """

    def __init__(
        self,
        kind: QkNorm,
        width: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.width = width
        self.norm: nn.Module = nn.Tanh()
        if kind == "layer":
            self.norm = nn.LayerNorm(width, eps=EPSILON, bias=False, **made)
        elif kind == "rms":
            self.norm = nn.RMSNorm(width, eps=EPSILON, **made)

    def forward(self, x: Tensor) -> Tensor:
        """The norm of every group of ``width`` channels of x, [..., groups * width]."""
        normalised: Tensor = self.norm(torch.unflatten(x, -1, (-1, self.width)))
        return normalised.flatten(-2)


def check_qk_norm(attention: str, projected: tuple[str, ...], kind: str) -> None:
    """Refuse a norm that nobody knows, or one of queries and keys that are the layer's input itself.

    Raises:
        InvalidArgument: with the rule and what came.
    """
    if kind not in QK_NORMS:
        raise InvalidArgument(
            f"qk_norm must be one of {', '.join(QK_NORMS)}; it is '{kind}'{nearest(kind, list(QK_NORMS))}"
        )
    if kind != "none" and not {"query", "key"} <= set(projected):
        raise InvalidArgument(
            f"qk_norm normalises projected queries and keys, and {attention} projects "
            f"{', '.join(projected)}; leave qk_norm at 'none'"
        )
