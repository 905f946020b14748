"""Any attention between the same projections, as a torch module."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_impls.nouns import InvalidArgument, Operand, Problem, QkNorm, Unsupported
from attention_impls.qk_norm import QueryKeyNorm, check_qk_norm
from attention_impls.registry import get
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

    Formula: y = W_o attention(W_q x, W_k x, W_v x), heads being groups of dim / heads channels. The
    attention's ``projections`` say where this differs: arrays instead of matrices (``hadamard``), tensors
    that are not projected (``poly-nl``), a learned residual. What an attention takes beside query, key and
    value is a parameter here, or projected from x like them.

    Args:
        attention: a name of ``attention_impls.names()``.
        dim: features of a token, a multiple of ``heads``.
        heads: attention heads.
        backend: a backend of the attention, or None for the best that can run each call.
        bias: whether the projections have one.
        seq_len: the longest sequence; needed by attentions whose parameters grow with it (``aft-full``).
        qk_norm: what is done to the projected queries and keys: ``none``, or a norm of ``QueryKeyNorm``. Every
            head is normalised by itself; of a per-channel attention, where heads mean nothing, all channels
            together, with a gain each.
        device, dtype: of the parameters.
        hyperparameters: the attention's own, for example ``order=6``.

    Parameters: ``spec.layer_params``, for most 4 dim^2 (+ 4 dim with bias; with the qk_norms ``layer`` and
    ``rms`` twice the channels that are normalised together).

    Raises:
        UnknownAttention: no attention has the name.
        InvalidArgument: sizes, backend, hyperparameters or qk_norm break their rules.
    """

    def __init__(
        self,
        attention: str,
        dim: int,
        heads: int,
        *,
        backend: str | None = None,
        bias: bool = False,
        seq_len: int | None = None,
        qk_norm: QkNorm = "none",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **hyperparameters: Any,
    ) -> None:
        super().__init__()
        self.spec = get(attention)
        if self.spec.own_layer is not None:
            raise InvalidArgument(
                f"{attention} is a module itself: build it without an AttentionLayer around"
            )
        if min(dim, heads) < 1 or dim % heads:
            raise InvalidArgument(f"dim must be a positive multiple of heads; dim is {dim}, heads is {heads}")
        if backend is not None:
            self.spec.backend(backend)
        self.spec.check_hyperparameters(hyperparameters)
        check_qk_norm(attention, self.spec.projections.names, qk_norm)
        self.dim, self.heads, self.backend, self.hyperparameters = dim, heads, backend, hyperparameters
        problem = Problem(1, heads, seq_len or 0, dim // heads, hyperparameters=hyperparameters)
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.projections = nn.ModuleDict(
            {
                name: self._projection(width, bias, made)
                for name, width in self.spec.projected_widths(problem).items()
            }
        )
        self.parameters_of_core = nn.ParameterDict(
            {name: _initial(operand, made) for name, operand in self._learned(problem, seq_len).items()}
        )
        norms = () if qk_norm == "none" else ("query", "key")
        width = self.spec.norm_width(problem)
        self.norms = nn.ModuleDict({name: QueryKeyNorm(qk_norm, width, **made) for name in norms})
        gains = 2 if self.spec.projections.residual else 0
        self.gains = nn.Parameter(torch.ones(gains, device=device, dtype=dtype)) if gains else None

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """Attend over x, [batch, seq_len, dim]; position i sees positions j <= i only when causal.

        Raises:
            InvalidArgument: x has another shape.
            Unsupported: the backend cannot run the problem; the message has all reasons.
        """
        self.check_input(x)
        query, key, value = (self._split_heads(self._project(name, x)) for name in ("query", "key", "value"))
        problem = self._problem(x, query, causal)
        op = self.spec.backends[self._runnable_backend(problem)].op
        attended = op(query, key, value, causal=causal, **self.hyperparameters, **self._operands(x, problem))
        merged = self._project("output", attended.transpose(1, 2).flatten(2))
        return merged if self.gains is None else self.gains[0] * merged + self.gains[1] * x

    def check_input(self, x: Tensor) -> None:
        """Refuse what is not [batch, seq_len, dim].

        Raises:
            InvalidArgument: with the shape wanted and the shape that came.
        """
        if x.dim() != 3 or x.shape[-1] != self.dim:
            raise InvalidArgument(f"x must be [batch, seq_len, {self.dim}]; it has shape {list(x.shape)}")

    def used_parameters(self, causal: bool) -> list[nn.Parameter]:
        """The parameters that a call reads: all, but for those that only the other form has."""
        problem = Problem(1, self.heads, 1, self.dim // self.heads, causal=causal)
        idle = set(self.parameters_of_core) - set(self.spec.operands(self._with_knobs(problem)))
        unused = {id(self.parameters_of_core[name]) for name in idle}
        return [parameter for parameter in self.parameters() if id(parameter) not in unused]

    def _projection(self, width: int, bias: bool, made: dict[str, Any]) -> nn.Module:
        if self.spec.projections.kind == "array":
            return ElementwiseProjection(self.dim, bias=bias, **made)
        return nn.Linear(self.dim, width, bias=bias, **made)

    def _learned(self, problem: Problem, seq_len: int | None) -> dict[str, Operand]:
        learned = {name: each for name, each in self.spec.operands(problem).items() if each.learned}
        if seq_len is None and any(0 in operand.shape for operand in learned.values()):
            raise InvalidArgument(
                f"{self.spec.name} has parameters for every position; give the longest length as seq_len="
            )
        return learned

    def _project(self, name: str, x: Tensor) -> Tensor:
        projected: Tensor = self.projections[name](x) if name in self.projections else x
        return self.norms[name](projected) if name in self.norms else projected

    def _split_heads(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)

    def _operands(self, x: Tensor, problem: Problem) -> dict[str, Tensor]:
        """What the op takes beside query, key and value: parameters, and projections of x."""
        found: dict[str, Tensor] = {}
        for name, operand in self.spec.operands(problem).items():
            if operand.learned:
                found[name] = self.parameters_of_core[name]
                continue
            split = self._split_heads(self._project(name, x))
            found[name] = squashed(operand, split.reshape(operand.shape))
        return found

    def _problem(self, x: Tensor, query: Tensor, causal: bool) -> Problem:
        return self._with_knobs(
            Problem(
                x.shape[0],
                self.heads,
                x.shape[1],
                self.dim // self.heads,
                dtype=dtype_name(query),
                device=query.device.type,
                causal=causal,
                backward=query.requires_grad,
            )
        )

    def _with_knobs(self, problem: Problem) -> Problem:
        return replace(problem, hyperparameters=self.hyperparameters)

    def _runnable_backend(self, problem: Problem) -> str:
        backend = self.backend or self.spec.best_backend(problem)
        if reasons := self.spec.unsupported_reasons(backend, problem):
            raise Unsupported(f"{self.spec.name}/{backend} cannot run here: {'; '.join(reasons)}")
        return backend


def squashed(operand: Operand, drawn: Tensor) -> Tensor:
    """A draw or a projection as the operand wants it: a gate between 0 and 1, or its logarithm."""
    if operand.squash == "sigmoid":
        return torch.sigmoid(drawn)
    return F.logsigmoid(drawn) if operand.squash == "logsigmoid" else drawn


def _initial(operand: Operand, made: dict[str, Any]) -> nn.Parameter:
    return nn.Parameter(operand.mean + operand.spread * torch.randn(operand.shape, **made))
