"""Any attention between the same projections, as a torch module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attention_impls.registry import get
from attention_impls.spec import InvalidArgument, Problem, Unsupported
from attention_impls.validate import dtype_name


class ElementwiseProjection(nn.Module):
    """A projection by an array instead of a matrix: x * weight (+ bias), weight and bias [dim].

    Args:
        dim: features of the input and the output.
        bias: whether to add a bias.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        dim: int,
        *,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        # Like a matrix at initialisation, an array keeps the scale of its input; the spread breaks ties.
        self.weight = nn.Parameter(torch.randn(dim, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(dim, device=device, dtype=dtype)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """X [..., dim] times the weight, plus the bias if there is one."""
        product = x * self.weight
        return product if self.bias is None else product + self.bias


class AttentionLayer(nn.Module):
    """An attention with its projections: [batch, seq_len, dim] -> the same shape.

    Formula: y = W_o attention(W_q x, W_k x, W_v x), heads being groups of dim / heads channels. An
    attention whose projections are arrays (``hadamard``) multiplies element-wise instead and has no W_o.

    Args:
        attention: a name of ``attention_impls.names()``.
        dim: features of a token, a multiple of ``heads``.
        heads: attention heads.
        backend: a backend of the attention, or None for the best that can run each call.
        bias: whether the projections have one.
        device, dtype: of the parameters.
        hyperparameters: the attention's own, for example ``order=6``.

    Parameters: 4 dim^2 (+ 4 dim with bias) for matrices, 3 dim (+ 3 dim) for arrays.

    Raises:
        UnknownAttention: no attention has the name.
        InvalidArgument: sizes, backend or hyperparameters break their rules.
    """

    def __init__(
        self,
        attention: str,
        dim: int,
        heads: int,
        *,
        backend: str | None = None,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **hyperparameters: Any,
    ) -> None:
        super().__init__()
        self.spec = get(attention)
        if min(dim, heads) < 1 or dim % heads:
            raise InvalidArgument(f"dim must be a positive multiple of heads; dim is {dim}, heads is {heads}")
        if backend is not None:
            self.spec.backend(backend)
        self.spec.check_hyperparameters(hyperparameters)
        self.dim, self.heads, self.backend, self.hyperparameters = dim, heads, backend, hyperparameters

        def projection() -> nn.Module:
            if self.spec.projection == "array":
                return ElementwiseProjection(dim, bias=bias, device=device, dtype=dtype)
            return nn.Linear(dim, dim, bias=bias, device=device, dtype=dtype)

        self.query, self.key, self.value = projection(), projection(), projection()
        self.output = nn.Identity() if self.spec.projection == "array" else projection()

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """Attend over x, [batch, seq_len, dim]; position i sees positions j <= i only when causal.

        Raises:
            InvalidArgument: x has another shape.
            Unsupported: the backend cannot run the problem; the message has all reasons.
        """
        if x.dim() != 3 or x.shape[-1] != self.dim:
            raise InvalidArgument(f"x must be [batch, seq_len, {self.dim}]; it has shape {list(x.shape)}")
        query, key, value = (self._split_heads(project(x)) for project in (self.query, self.key, self.value))
        op = self.spec.backends[self._runnable_backend(query, causal)].op
        attended = op(query, key, value, causal=causal, **self.hyperparameters)
        merged: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return merged

    def _split_heads(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)

    def _runnable_backend(self, query: Tensor, causal: bool) -> str:
        batch, heads, seq_len, head_dim = query.shape
        problem = Problem(
            batch,
            heads,
            seq_len,
            head_dim,
            dtype=dtype_name(query),
            device=query.device.type,
            causal=causal,
            backward=query.requires_grad,
            hyperparameters=self.hyperparameters,
        )
        backend = self.backend or self.spec.best_backend(problem)
        if reasons := self.spec.unsupported_reasons(backend, problem):
            raise Unsupported(f"{self.spec.name}/{backend} cannot run here: {'; '.join(reasons)}")
        return backend
