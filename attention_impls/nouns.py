"""The small nouns of the library: a problem, its cost, a paper, a knob, an operand, and its errors. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, get_args

ELEMENT_SIZE: Mapping[str, int] = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes per element of every dtype that the library accepts."""

Growth = Literal["linear", "quadratic", "unknown"]
"""How time grows with seq_len, in theory; of an attention of yours nobody but a measurement knows."""

Definition = Literal["defined", "extension"]
"""Whether the source defines a form (causal, or full), or we extend it."""


QkNorm = Literal["none", "layer", "rms", "tanh"]
"""What a layer does to its queries and keys after their projections; ``qk_norm.QueryKeyNorm`` says how."""

QK_NORMS: tuple[QkNorm, ...] = get_args(QkNorm)


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

    def knob(self, knob: Hyperparameter) -> Any:
        """The value of a hyperparameter: the problem's own, else its default."""
        return self.hyperparameters.get(knob.name, knob.default)

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


UNKNOWN_COST = Cost(0, 0)
"""Of a call whose work nobody knows."""


@dataclass(frozen=True, slots=True)
class Paper:
    """Where an attention comes from."""

    authors: str
    year: int
    title: str
    arxiv: str

    def __str__(self) -> str:
        return f"{self.authors} {self.year}, arXiv {self.arxiv}" if self.authors else "no paper named"


NO_PAPER = Paper("", 0, "", "-")
"""Of an attention that names none."""


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One knob of an attention: its default, and the rule that a value must keep.

    ``refusal`` returns why a value is refused, or None when it is fine.
    """

    name: str
    default: Any
    description: str
    refusal: Callable[[Any], str | None]


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor that an op takes beside query, key and value, by keyword.

    Args:
        shape: its sizes.
        learned: a parameter; else an activation of every token, [batch, heads, seq_len, ...], which a layer
            projects from its tokens.
        mean, spread: of the normal distribution that it is drawn from, and initialised with.
        squash: what is applied to a draw or a projection, so that a gate is a gate.
    """

    shape: tuple[int, ...]
    learned: bool = True
    mean: float = 0.0
    spread: float = 1.0
    squash: Literal["", "sigmoid", "logsigmoid"] = ""


@dataclass(frozen=True, slots=True)
class Projections:
    """What an ``AttentionLayer`` puts around an attention.

    Args:
        names: what is projected; a tensor that is not is the layer's input itself.
        kind: ``matrix`` (nn.Linear) or ``array`` (element-wise).
        residual: whether the layer returns alpha * (its output) + beta * (its input), both learned.
    """

    names: tuple[str, ...] = ("query", "key", "value", "output")
    kind: Literal["matrix", "array"] = "matrix"
    residual: bool = False


MATRICES = Projections()
"""Query, key, value and output, each by a matrix."""


def causal_only_reason(attention: str) -> str:
    """Why an attention that sees the past alone cannot run without a causal mask."""
    return f"{attention} is causal only; use --causal"


def nearest(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """' (did you mean X?)' when a known name is close, else ''."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
