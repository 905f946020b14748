"""The nouns of the library: what a problem, a cost, a backend and an attention are.

This module and the registry import no torch, so that a command line can list attentions, check
arguments and predict costs in a blink; the callables behind a spec are resolved when first used.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

ELEMENT_SIZE: Mapping[str, int] = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes per element of every dtype that the library accepts."""

Growth = Literal["linear", "quadratic"]
"""How time grows with seq_len, in theory."""

CausalForm = Literal["defined", "extension"]
"""Whether the source defines the causal form, or we extend it."""


class UnknownAttention(KeyError):
    """Raised when no attention has the name; the message lists the known and the nearest."""

    def __str__(self) -> str:
        return str(self.args[0])


class Unsupported(RuntimeError):
    """Raised when a backend is asked for a problem that it cannot solve; the message says why."""


class InvalidArgument(ValueError):
    """Raised when a tensor or hyperparameter breaks an attention's rules."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The shape and kind of one attention call, without its data.

    Args:
        batch, heads, seq_len, head_dim: sizes of query, key and value, [batch, heads, seq_len, head_dim].
        dtype: name of the element type, a key of ``ELEMENT_SIZE``.
        device: ``cpu`` or ``cuda``.
        causal: whether position i sees positions j <= i only.
        backward: whether the gradients of query, key and value are computed too.
        decode: whether the call is one step of the recurrent form, a token after seq_len others.
        hyperparameters: the attention's own knobs, for example ``{"order": 6}``.
    """

    batch: int
    heads: int
    seq_len: int
    head_dim: int
    dtype: str = "float32"
    device: str = "cpu"
    causal: bool = False
    backward: bool = False
    decode: bool = False
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """Feature dimension: heads * head_dim."""
        return self.heads * self.head_dim

    @property
    def element_size(self) -> int:
        """Bytes per element."""
        return ELEMENT_SIZE[self.dtype]

    @property
    def elements(self) -> int:
        """Elements of one tensor [batch, heads, seq_len, head_dim]."""
        return self.batch * self.seq_len * self.dim


@dataclass(frozen=True, slots=True)
class Cost:
    """The work that a call needs at least.

    flops: floating-point operations; a multiply-add counts two, exp / div / max count one each.
    bytes: traffic if every input is read once and every output written once.
    """

    flops: int
    bytes: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Paper:
    """Where an attention comes from."""

    authors: str
    year: int
    title: str
    arxiv: str

    def __str__(self) -> str:
        return f"{self.authors} {self.year}, arXiv {self.arxiv}"


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One knob of an attention: its default, and the rule that a value must keep.

    ``refusal`` returns why a value is refused, or None when it is fine.
    """

    name: str
    default: Any
    description: str
    refusal: Callable[[Any], str | None]


def no_reasons(problem: Problem) -> list[str]:
    """The requirement of a backend that runs anywhere."""
    return []


@dataclass(frozen=True)
class Recurrence:
    """An attention one token at a time: a state of fixed size stands for all tokens so far.

    A state is a tensor, or a tuple of tensors and numbers; nobody changes one that was passed in.

    Args:
        init_state_target: ``module:function`` of (problem) -> the empty state before the first token.
        prefill_target: of (query, key, value, state=None, **hyperparameters) -> (causal output, state after
            the last token), tensors [batch, heads, seq_len, head_dim]. With a state, the tokens follow
            those that it stands for.
        step_target: of (query, key, value, state, **hyperparameters) -> (output, new state), tensors
            [batch, heads, head_dim].
        merge_target: of (earlier, later) -> the state after the tokens of the one and then of the other,
            neither empty; None where two states cannot be merged.
    """

    init_state_target: str
    prefill_target: str
    step_target: str
    merge_target: str | None = None

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


@dataclass(frozen=True)
class Backend:
    """One way to compute an attention.

    Args:
        target: ``module:function`` of an op ``(query, key, value, *, causal, **hyperparameters)``.
        summary: one line for people.
        requires: returns all reasons why a problem cannot run here; empty when it can. On a CPU
            problem it must not import torch.
        workspace: (problem, projected) -> bytes that one call holds at its peak above its inputs; with
            ``projected`` an ``AttentionLayer``'s call. None where no formula is known. Imports no torch.
        recurrence: the backend's recurrent form, or None.
    """

    target: str
    summary: str
    requires: Callable[[Problem], list[str]] = no_reasons
    workspace: Callable[[Problem, bool], int] | None = None
    recurrence: Recurrence | None = None

    @cached_property
    def op(self) -> Callable[..., Tensor]:
        """The callable itself; importing it imports torch."""
        op: Callable[..., Tensor] = pkgutil.resolve_name(self.target)
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
class AttentionSpec:
    """Everything there is to know of one attention. See ``registry.py`` for the table.

    Args:
        backends: name -> Backend, the preferred first: a bare attention name means the first one
            that can run the problem.
        oracle_target: the same attention written plainly in float64.
        cost: minimal work of a core call (with the gradients when ``problem.backward``).
        layer_params: parameters of an ``AttentionLayer``, from (dim, bias).
        decode_cost: minimal work of one step, or None where there is no recurrent form.
        state_bytes: size of the recurrent state, or None where there is none.
        per_channel: heads only reshape it; every channel is its own head.
        averages: every output is a weighted mean of values with weights that sum to one.
        position_local: value j contributes to output j alone, so permuting keys changes the result.
        projection: ``matrix`` (nn.Linear) or ``array`` (element-wise) projections at level layer.
        approximates: the exact attention that this one approximates, if it does.
    """

    name: str
    summary: str
    paper: Paper
    formula: str
    time: str
    memory: str
    growth: Growth
    causal_form: CausalForm
    backends: Mapping[str, Backend]
    oracle_target: str
    cost: Callable[[Problem], Cost]
    layer_params: Callable[[int, bool], int]
    hyperparameters: Mapping[str, Hyperparameter] = field(default_factory=dict)
    decode_cost: Callable[[Problem], Cost] | None = None
    state_bytes: Callable[[Problem], int] | None = None
    per_channel: bool = False
    averages: bool = True
    position_local: bool = False
    projection: Literal["matrix", "array"] = "matrix"
    approximates: Approximation | None = None
    notes: str = ""

    @property
    def op(self) -> Callable[..., Tensor]:
        """The eager form: plain PyTorch."""
        return self.backends["eager"].op

    @cached_property
    def oracle(self) -> Callable[..., Tensor]:
        """The float64 truth."""
        oracle: Callable[..., Tensor] = pkgutil.resolve_name(self.oracle_target)
        return oracle

    @property
    def has_decode(self) -> bool:
        """Whether the eager form has a recurrent one."""
        eager = self.backends.get("eager")
        return eager is not None and eager.recurrence is not None

    def init_state(self, problem: Problem) -> Any:
        """The empty state before the first token, of the eager recurrent form."""
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
        recurrence = self.backends["eager"].recurrence
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
        return reasons + self._decode_reasons(backend) if problem.decode else reasons

    def _decode_reasons(self, backend: str) -> list[str]:
        """Why the backend cannot decode; empty when it can."""
        if self.backend(backend).recurrence is not None:
            return []
        others = [name for name, known in self.backends.items() if known.recurrence is not None]
        if others:
            return [f"{self.name}/{backend} has no recurrent form; use {' or '.join(others)}"]
        return [f"{self.name} has no recurrent form: no state of fixed size stands for the tokens so far"]

    def best_backend(self, problem: Problem) -> str:
        """The preferred backend among those that can run the problem, else the first of all."""
        runnable = (name for name in self.backends if not self.unsupported_reasons(name, problem))
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


def nearest(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """' (did you mean X?)' when a known name is close, else ''."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
