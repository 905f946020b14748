"""What there is to know of an attention: its backends, its recurrent form, its costs.

This module and the registry import no torch, so that a command line can list attentions, check
arguments and predict costs in a blink; the callables behind a spec are resolved when first used.
"""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from attention_impls.nouns import (
    ELEMENT_SIZE,
    MATRICES,
    UNKNOWN_COST,
    Cost,
    Definition,
    Growth,
    Hyperparameter,
    InvalidArgument,
    Operand,
    Paper,
    Problem,
    Projections,
    QkNorm,
    Unsupported,
    causal_only_reason,
    nearest,
)
from attention_impls.sharding import Sharding

if TYPE_CHECKING:
    from torch import Tensor, nn


def no_operands(problem: Problem) -> Mapping[str, Operand]:
    """Of an op that takes query, key and value alone."""
    return {}


def unknown_cost(problem: Problem) -> Cost:
    """Of an attention whose work nobody knows, as that of a user's own function."""
    return UNKNOWN_COST


def no_reasons(problem: Problem) -> list[str]:
    """The requirement of a backend that runs anywhere."""
    return []


def resolved(target: str | Callable[..., Any]) -> Any:
    """What ``module:name`` names, or the callable itself."""
    return pkgutil.resolve_name(target) if isinstance(target, str) else target


@dataclass(frozen=True)
class Recurrence:
    """An attention one token at a time: a state stands for all tokens so far.

    A state is a tensor, or a tuple of tensors and numbers; nobody changes what one that was passed in stands
    for. Most have a fixed size; a KV cache is one that grows.

    Args:
        init_state_target: ``module:function`` of (problem) -> the empty state before the first token.
        prefill_target: of (query, key, value, state=None, **hyperparameters) -> (causal output, state after
            the last token), tensors [batch, heads, seq_len, head_dim]. With a state, the tokens follow
            those that it stands for.
        step_target: of (query, key, value, state, **hyperparameters) -> (output, new state), tensors
            [batch, heads, head_dim].
        merge_target: of (earlier, later) -> the state after the tokens of the one and then of the other,
            neither empty; None where two states cannot be merged.
        in_place: a step writes into spare rows of the state; what the state stands for is not changed. Such
            a state has a field ``tokens``: that many rows, dimension 2 of its tensors, are what it stands for.
    """

    init_state_target: str
    prefill_target: str
    step_target: str
    merge_target: str | None = None
    in_place: bool = False

    @cached_property
    def init_state(self) -> Callable[[Problem], Any]:
        """The callable itself; importing it imports torch."""
        init_state: Callable[[Problem], Any] = pkgutil.resolve_name(self.init_state_target)
        return init_state

    @cached_property
    def prefill(self) -> Callable[..., tuple[Tensor, Any]]:
        """The callable itself."""
        prefill: Callable[..., tuple[Tensor, Any]] = pkgutil.resolve_name(self.prefill_target)
        return prefill

    @cached_property
    def step(self) -> Callable[..., tuple[Tensor, Any]]:
        """The callable itself."""
        step: Callable[..., tuple[Tensor, Any]] = pkgutil.resolve_name(self.step_target)
        return step

    @cached_property
    def merge(self) -> Callable[[Any, Any], Any] | None:
        """The callable itself, or None."""
        if self.merge_target is None:
            return None
        merge: Callable[[Any, Any], Any] = pkgutil.resolve_name(self.merge_target)
        return merge

    def held(self, state: Any) -> list[Tensor]:
        """The tensors that a state stands for: all that it has, without spare rows."""
        import torch

        parts = [state] if isinstance(state, torch.Tensor) else state
        tensors = [part for part in parts if isinstance(part, torch.Tensor)]
        return [x[:, :, : state.tokens] for x in tensors] if self.in_place else tensors


@dataclass(frozen=True)
class Backend:
    """One way to compute an attention.

    Args:
        target: ``module:function`` of an op ``(query, key, value, *, causal, **hyperparameters)``, or the
            function itself.
        summary: one line for people.
        requires: returns all reasons why a problem cannot run here; empty when it can. On a CPU
            problem it must not import torch.
        workspace: (problem, projected) -> bytes that one call holds at its peak above its inputs; with
            ``projected`` an ``AttentionLayer``'s call. None where no formula is known. Imports no torch.
        recurrence: the backend's recurrent form, or None.
        cost: minimal work where this way of computing needs other work than the attention's own ``cost``.
        growth: of its time with seq_len, where it differs from the attention's.
        package: the optional one that it needs, as pip names it; empty where it needs none.
        sharding: how it works where the sequence is spread over ranks, or None where it does not.
    """

    target: str | Callable[..., Tensor]
    summary: str
    requires: Callable[[Problem], list[str]] = no_reasons
    workspace: Callable[[Problem, bool], int] | None = None
    recurrence: Recurrence | None = None
    cost: Callable[[Problem], Cost] | None = None
    growth: Growth | None = None
    package: str = ""
    sharding: Sharding | None = None

    @cached_property
    def op(self) -> Callable[..., Tensor]:
        """The callable itself; importing it imports torch."""
        op: Callable[..., Tensor] = resolved(self.target)
        return op


@dataclass(frozen=True)
class Approximation:
    """What an attention approximates, and how to see where it does.

    Args:
        attention: name of the exact attention.
        outside_band_target: ``module:function`` of (query, key, *, causal, **hyperparameters) -> share of
            the pairs where the approximation is off by more than 1 %.
    """

    attention: str
    outside_band_target: str

    @cached_property
    def outside_band(self) -> Callable[..., float]:
        """The callable itself."""
        function: Callable[..., float] = pkgutil.resolve_name(self.outside_band_target)
        return function


@dataclass(frozen=True)
class OwnLayer:
    """A module of tokens, [batch, seq_len, dim] -> the same shape, that is measured as it is.

    Args:
        build: (dim, heads) -> the module, its parameters on torch's default device, in float32.
        forward: (module, x, *, causal) -> its output.
        oracle: of the same signature, called with the module and x in float64; None where nobody gives one.
        params: (dim, heads) -> how many learned parameters the module has; None where it cannot be built.
    """

    build: Callable[[int, int], nn.Module]
    forward: Callable[..., Tensor]
    oracle: Callable[..., Tensor] | None
    params: Callable[[int, int], int | None]


@dataclass(frozen=True)
class AttentionSpec:
    """Everything there is to know of one attention. See ``registry.py`` for the table.

    Args:
        backends: name -> Backend, the preferred first: a bare attention name means the first one
            that can run the problem.
        oracle_target: the same attention written plainly in float64, ``module:function`` or the function
            itself; None where nobody wrote it, and then nothing says whether the numbers are right.
        cost: minimal work of a core call (with the gradients when ``problem.backward``); ``unknown_cost``
            where nobody knows.
        decode_cost: minimal work of one step, or None where there is no recurrent form.
        state_bytes: size of the recurrent state, or None where there is none; without a cache's spare rows.
        state_grows: the state is a cache of the tokens so far: it, and the work of a step, grow with seq_len.
        operands: what the op takes beside query, key and value, by keyword.
        projections: what an ``AttentionLayer`` puts around it.
        key_dim: width of a query and a key, of a problem's head_dim unless another.
        choose: the backend that should be preferred for a problem, where one is not always the best.
        full_form: whether the source defines the form that is not causal.
        causal_only: there is no form that is not causal: a recurrence sees the past alone.
        per_channel: heads only reshape it; every channel is its own head.
        averages: every output is a weighted mean of values with weights that sum to one.
        position_local: value j contributes to output j alone, so permuting keys changes the result.
        positional: the output depends on where tokens are, beyond the causal mask.
        heads_alike: every head computes the same of its tensors.
        causal_is_prefix: causal row i is the last full row of the tokens up to i.
        approximates: the exact attention that this one approximates, if it does.
        own_layer: the module that it is, where it has no op on query, key and value.
        origin: the package that brings it, ``name version``, where it is not one of ours.
    """

    name: str
    summary: str
    paper: Paper
    formula: str
    time: str
    memory: str
    growth: Growth
    causal_form: Definition
    backends: Mapping[str, Backend]
    oracle_target: str | Callable[..., Tensor] | None
    cost: Callable[[Problem], Cost]
    hyperparameters: Mapping[str, Hyperparameter] = field(default_factory=dict)
    decode_cost: Callable[[Problem], Cost] | None = None
    state_bytes: Callable[[Problem], int] | None = None
    state_grows: bool = False
    operands: Callable[[Problem], Mapping[str, Operand]] = no_operands
    projections: Projections = MATRICES
    key_dim: Callable[[Problem], int] | None = None
    choose: Callable[[Problem], str] | None = None
    full_form: Definition = "defined"
    causal_only: bool = False
    per_channel: bool = False
    averages: bool = True
    position_local: bool = False
    positional: bool = False
    heads_alike: bool = True
    causal_is_prefix: bool = True
    approximates: Approximation | None = None
    notes: str = ""
    own_layer: OwnLayer | None = None
    origin: str = ""

    @property
    def plain(self) -> str:
        """The backend in plain PyTorch: ``eager``, or the first where the forms have names of their own."""
        return "eager" if "eager" in self.backends else next(iter(self.backends))

    @property
    def op(self) -> Callable[..., Tensor]:
        """The attention in plain PyTorch."""
        return self.backends[self.plain].op

    def cost_of(self, backend: str, problem: Problem) -> Cost:
        """Minimal work of a call of the backend."""
        known = self.backends.get(backend)
        return known.cost(problem) if known and known.cost else self.cost(problem)

    def growth_of(self, backend: str) -> Growth:
        """How the backend's time grows with seq_len, in theory."""
        known = self.backends.get(backend)
        return known.growth if known and known.growth else self.growth

    def key_width(self, problem: Problem) -> int:
        """Width of a query and a key of one head."""
        return problem.head_dim if self.key_dim is None else self.key_dim(problem)

    def norm_width(self, problem: Problem) -> int:
        """Channels that a layer's qk_norm normalises together: a head's, and of a per-channel attention all."""
        return problem.dim if self.per_channel else self.key_width(problem)

    def projected_widths(self, problem: Problem) -> Mapping[str, int]:
        """Outputs of every projection of an ``AttentionLayer``, by name; operands of every token included."""
        keys = problem.heads * self.key_width(problem)
        widths = {name: keys if name in ("query", "key") else problem.dim for name in self.projections.names}
        for name, operand in self.operands(problem).items():
            if not operand.learned:
                widths[name] = problem.heads * math.prod(operand.shape[3:])
        return widths

    @property
    def is_gated(self) -> bool:
        """Whether an oracle says what its numbers should be."""
        return (self.own_layer.oracle if self.own_layer else self.oracle_target) is not None

    def core_params(self, problem: Problem) -> int:
        """Parameters of the attention itself, without projections."""
        return sum(math.prod(each.shape) for each in self.operands(problem).values() if each.learned)

    def layer_params(self, problem: Problem, bias: bool = False, qk_norm: QkNorm = "none") -> int:
        """Parameters of an ``AttentionLayer`` for that problem's dim, heads and longest seq_len."""
        rows = 1 if self.projections.kind == "array" else problem.dim
        projected = sum((rows + bias) * width for width in self.projected_widths(problem).values())
        gains = 2 * self.norm_width(problem) if qk_norm in ("layer", "rms") else 0
        return projected + gains + self.core_params(problem) + 2 * self.projections.residual

    @cached_property
    def oracle(self) -> Callable[..., Tensor]:
        """The float64 truth.

        Raises:
            Unsupported: nobody wrote it.
        """
        if self.oracle_target is None:
            raise Unsupported(f"{self.name} has no oracle")
        oracle: Callable[..., Tensor] = resolved(self.oracle_target)
        return oracle

    @property
    def has_decode(self) -> bool:
        """Whether the plain form has a recurrent one."""
        return self.backends[self.plain].recurrence is not None

    def init_state(self, problem: Problem) -> Any:
        """The empty state before the first token, of the plain recurrent form."""
        return self._recurrence.init_state(problem)

    def prefill(
        self, query: Tensor, key: Tensor, value: Tensor, state: Any = None, **hyperparameters: Any
    ) -> tuple[Tensor, Any]:
        """Many tokens at once: [batch, heads, seq_len, head_dim] -> (causal output, state after the last).

        With a state, the tokens follow those that it stands for. It is not changed.
        """
        return self._recurrence.prefill(query, key, value, state, **hyperparameters)

    def step(
        self, query: Tensor, key: Tensor, value: Tensor, state: Any, **hyperparameters: Any
    ) -> tuple[Tensor, Any]:
        """One token: tensors [batch, heads, head_dim] and a state -> (output, new state).

        The state passed in is not changed.
        """
        return self._recurrence.step(query, key, value, state, **hyperparameters)

    @property
    def _recurrence(self) -> Recurrence:
        recurrence = self.backends[self.plain].recurrence
        if recurrence is None:
            raise Unsupported(f"{self.name} has no recurrent form")
        return recurrence

    def backend(self, name: str) -> Backend:
        """The backend of that name.

        Raises:
            InvalidArgument: the attention has no such backend; the message lists those it has.
        """
        try:
            return self.backends[name]
        except KeyError:
            raise InvalidArgument(
                f"{self.name} has no backend '{name}'{nearest(name, self.backends)}; "
                f"it has: {', '.join(self.backends)}"
            ) from None

    def unsupported_reasons(self, backend: str, problem: Problem) -> list[str]:
        """All reasons why the backend cannot run the problem here, for people; empty when it can."""
        reasons = dtype_reasons(problem) + self.backend(backend).requires(problem)
        if self.causal_only and not problem.causal and not problem.decode:
            reasons.append(causal_only_reason(self.name))
        return reasons + self._decode_reasons(backend) if problem.decode else reasons

    def _decode_reasons(self, backend: str) -> list[str]:
        """Why the backend cannot decode; empty when it can."""
        if self.backend(backend).recurrence is not None:
            return []
        others = [name for name, known in self.backends.items() if known.recurrence is not None]
        if others:
            return [f"{self.name}/{backend} has no recurrent form; use {' or '.join(others)}"]
        return [
            f"{self.name} has no recurrent form here: neither sums over the tokens so far nor a cache of them"
        ]

    def best_backend(self, problem: Problem) -> str:
        """The preferred backend among those that can run the problem, else the first of all."""
        first = [self.choose(problem)] if self.choose else []
        runnable = (name for name in [*first, *self.backends] if not self.unsupported_reasons(name, problem))
        return next(runnable, next(iter(self.backends)))

    def check_hyperparameters(self, hyperparameters: Mapping[str, Any]) -> None:
        """Refuse a knob that the attention does not have, or a value that breaks its rule.

        Raises:
            InvalidArgument: with the rule and what came.
        """
        for name, value in hyperparameters.items():
            if name not in self.hyperparameters:
                known = ", ".join(self.hyperparameters) or "none"
                raise InvalidArgument(f"{self.name} has no hyperparameter '{name}'; it has: {known}")
            if refusal := self.hyperparameters[name].refusal(value):
                raise InvalidArgument(f"{self.name}: {name}={value!r}: {refusal}")


def dtype_reasons(problem: Problem) -> list[str]:
    """Why the device cannot compute in the problem's dtype; empty when it can."""
    if problem.dtype not in ELEMENT_SIZE:
        return [f"dtype '{problem.dtype}' is unknown; known: {', '.join(ELEMENT_SIZE)}"]
    if problem.device == "cuda" and problem.dtype == "bfloat16":
        import torch

        if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
            return ["this GPU computes no bfloat16 (compute capability 8.0 or newer does)"]
    return []
