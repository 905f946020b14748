"""An attention of the user's that is a module, with its own projections."""

from __future__ import annotations

from torch import Tensor, nn


class Layer(nn.Module):
    """A layer that attends to nothing but itself."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.mix = nn.Linear(dim, dim)

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """Mix the features of each token."""
        mixed: Tensor = self.mix(x)
        return mixed
