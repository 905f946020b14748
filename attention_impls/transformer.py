"""Any attention inside a transformer block, as a torch module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attention_impls.costs.layers import EXPANSION
from attention_impls.layer import AttentionLayer
from attention_impls.nouns import InvalidArgument, QkNorm


class TransformerBlock(nn.Module):
    """An attention in a pre-norm transformer block: [batch, seq_len, dim] -> the same shape.

    Formula: y = x + Attention(LayerNorm(x)), z = y + MLP(LayerNorm(y)), with Attention an
    ``AttentionLayer`` and MLP = Linear(dim, expansion dim) -> GELU -> Linear(expansion dim, dim). There is
    no dropout. What it costs beside the attention is linear in seq_len: 4 expansion dim^2 operations a token.

    Args:
        attention: a name of ``attention_impls.names()``.
        dim: features of a token, a multiple of ``heads``.
        heads: attention heads.
        expansion: width of the MLP's hidden layer over dim.
        backend: a backend of the attention, or None for the best that can run each call.
        bias: whether projections, MLP and norms have one.
        seq_len: the longest sequence; needed by attentions whose parameters grow with it.
        qk_norm: what is done to the projected queries and keys, as of ``AttentionLayer``.
        device, dtype: of the parameters.
        hyperparameters: the attention's own, for example ``order=6``.

    Parameters: ``costs.layers.block_params``, for most (4 + 2 expansion) dim^2 + 2 dim.

    Raises:
        UnknownAttention: no attention has the name.
        InvalidArgument: sizes, backend, hyperparameters or qk_norm break their rules.

    Paper: Vaswani et al. 2017, arXiv 1706.03762; norms before, not after: Xiong et al. 2020, *On Layer
    Normalization in the Transformer Architecture*, arXiv 2002.04745; GELU: Hendrycks & Gimpel 2016,
    arXiv 1606.08415.
    """

    def __init__(
        self,
        attention: str,
        dim: int,
        heads: int,
        *,
        expansion: int = EXPANSION,
        backend: str | None = None,
        bias: bool = False,
        seq_len: int | None = None,
        qk_norm: QkNorm = "none",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **hyperparameters: Any,
    ) -> None:
        super().__init__()
        if expansion < 1:
            raise InvalidArgument(f"expansion must be a positive whole number; it is {expansion}")
        made: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.attention = AttentionLayer(
            attention,
            dim,
            heads,
            backend=backend,
            seq_len=seq_len,
            qk_norm=qk_norm,
            **made,
            **hyperparameters,
        )
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim, **made), nn.LayerNorm(dim, **made)
        self.mlp = nn.Sequential(
            nn.Linear(dim, expansion * dim, **made), nn.GELU(), nn.Linear(expansion * dim, dim, **made)
        )

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """The block on x, [batch, seq_len, dim]; position i sees positions j <= i only when causal.

        Raises:
            InvalidArgument: x has another shape.
            Unsupported: the backend cannot run the problem; the message has all reasons.
        """
        self.attention.check_input(x)
        attended: Tensor = x + self.attention(self.attention_norm(x), causal=causal)
        mixed: Tensor = attended + self.mlp(self.mlp_norm(attended))
        return mixed

    def used_parameters(self, causal: bool) -> list[nn.Parameter]:
        """The parameters that a call reads: all, but for those that only the attention's other form has."""
        around = (self.attention_norm, self.mlp_norm, self.mlp)
        return [
            *self.attention.used_parameters(causal),
            *(parameter for module in around for parameter in module.parameters()),
        ]
