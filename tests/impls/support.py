"""What the tests of the attentions share: the forms under test, their inputs, and honest tolerances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import attention_impls
from attention_impls import AttentionSpec, Problem
from attention_impls.layer import squashed
from attention_impls.nouns import Operand

SHAPE = (2, 3, 33, 4)  # a length that is no multiple of any block

LONGEST = 160  # positions that parameters of every position are drawn for

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

VARIANTS: Mapping[str, list[dict[str, Any]]] = {
    "efficient": [{}, {"normalisation": "scaling"}],
    "ea-series": [{}, {"order": 2, "scale": 0.5}, {"order": 0}],
    "aft-local": [{}, {"window": 3}, {"window": 1}],
    "hadamard": [{}, {"axis": "channels"}],
    "element-wise": [{}, {"scale": 0.5}],
    "softmax": [{}, {"scale": 0.3}],
    "perceiver": [{}, {"latents": 40}],
    "multi-resolution": [{}, {"resolutions": 2}],
    "s2": [{}, {"group": 8}],
    "sata": [{}, {"order": 4}, {"order": 0}],
    "retention": [{}, {"scale": 1.0}],
    "mamba-2": [{}, {"scale": 0.3}],
    "gla": [{}, {"scale": 1.0}],
    "gated-delta": [{}, {"scale": 1.0}],
}

ROUNDINGS = 8  # score, exponential, weight, product, sum and output each round, some of them twice
CONDITION = {
    "ea-series": 47,  # T_6(|x|) / T_6(-|x|) at |x| = 2: cancellation in the alternating series
    # Without a normaliser |weights| do not sum to 1: the greatest sum at ``SHAPE`` and scale 1.
    "retention": 39,
    "mamba-2": 7,
    "gla": 6,
}


class Form(NamedTuple):
    """One way to compute one variant of an attention."""

    attention: str
    backend: str
    hyperparameters: Mapping[str, Any]

    @property
    def spec(self) -> AttentionSpec:
        return attention_impls.get(self.attention)

    @property
    def knobs(self) -> Mapping[str, Any]:
        """All hyperparameters, the defaults included."""
        defaults = {name: knob.default for name, knob in self.spec.hyperparameters.items()}
        return {**defaults, **self.hyperparameters}

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
        op = self.spec.backends[self.backend].op
        return op(query, key, value, causal=causal, **self.hyperparameters, **self.operands(value, causal))

    def oracle(self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
        operands = self.operands(value, causal)
        return self.spec.oracle(query, key, value, causal=causal, **self.hyperparameters, **operands)

    def operands(self, value: Tensor, causal: bool, start: int = 0) -> dict[str, Tensor]:
        """What an op takes beside query, key and value: drawn anew, the same for every call of that shape.

        Parameters are those of the longest length, activations those from position ``start`` on of as many.
        """
        if value.dim() != 4 or not value.is_floating_point():
            return {}  # for the op to refuse
        batch, heads, seq_len, head_dim = value.shape
        longest, rows = max(seq_len, LONGEST), slice(start, start + seq_len)
        problem = self.problem((batch, heads, longest, head_dim), causal=causal)
        drawn = {name: draw_operand(each) for name, each in self.spec.operands(problem).items()}
        cut = {name: each.learned for name, each in self.spec.operands(problem).items()}
        return {name: (x if cut[name] else x[:, :, rows]).to(value.dtype) for name, x in drawn.items()}

    def problem(self, shape: tuple[int, ...] = SHAPE, **changes: Any) -> Problem:
        batch, heads, seq_len, head_dim = shape
        return Problem(batch, heads, seq_len, head_dim, hyperparameters=self.hyperparameters, **changes)

    def __str__(self) -> str:
        knobs = ",".join(f"{name}={value}" for name, value in self.hyperparameters.items())
        return f"{self.attention}/{self.backend}" + (f"[{knobs}]" if knobs else "")


def forms() -> list[Form]:
    """Every variant on every backend that runs here; torch.compile has a test module of its own."""
    return [
        Form(name, backend, hyperparameters)
        for name in attention_impls.names()
        for hyperparameters in VARIANTS.get(name, [{}])
        for backend in attention_impls.get(name).backends
        if backend != "compile"
        and not attention_impls.get(name).unsupported_reasons(backend, smallest_problem(name))
    ]


def smallest_problem(attention: str) -> Problem:
    """A problem of ``SHAPE``, with a mask only where there must be one."""
    return Problem(*SHAPE, causal=attention_impls.get(attention).causal_only)


def masks(form: Form) -> list[bool]:
    """The values of ``causal`` that the attention has a form for."""
    return [True] if form.spec.causal_only else [False, True]


def skip_unless_defined(form: Form, causal: bool) -> None:
    """Skip a test of the form that is not causal where there is none."""
    if causal not in masks(form):
        pytest.skip(f"{form.attention} is causal only")


def eager_forms() -> list[Form]:
    """Every variant once, in plain PyTorch."""
    return [form for form in forms() if form.backend == form.spec.plain]


def decoding_forms() -> list[Form]:
    """Every variant on every backend that has a recurrent form."""
    return [form for form in forms() if form.spec.backends[form.backend].recurrence]


def draw_operand(operand: Operand, seed: int = 7) -> Tensor:
    """An operand as it is drawn for a case, and never at a value where a mistake would not show."""
    generator = torch.Generator().manual_seed(seed)
    spread = max(operand.spread, 0.3)
    drawn = operand.mean + spread * torch.randn(operand.shape, generator=generator, dtype=torch.float64)
    return squashed(operand, drawn)


def draw(
    *shape: int, dtype: torch.dtype = torch.float64, seed: int = 0, spread: float = 0.7
) -> tuple[Tensor, Tensor, Tensor]:
    """Query and key of that spread, value of unit spread, each of the shape (``SHAPE`` if none)."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = torch.randn(3, *(shape or SHAPE), generator=generator, dtype=torch.float64)
    return (spread * query).to(dtype), (spread * key).to(dtype), value.to(dtype)


def tracked(*tensors: Tensor) -> list[Tensor]:
    """Fresh leaves with the same data that record gradients."""
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def error(output: Tensor, truth: Tensor) -> float:
    """Largest absolute difference, in float64."""
    return float((output.detach().double() - truth.detach()).abs().max())


def rounding(form: Form, dtype: torch.dtype, magnitude: Tensor) -> float:
    """What the roundings of a form at that dtype may add up to, for results of that magnitude."""
    # Half precision is accumulated in float32: there the condition multiplies float32's epsilon only.
    roundings = ROUNDINGS
    if torch.finfo(dtype).bits >= 32:
        roundings *= CONDITION.get(form.attention, 1)
    return roundings * torch.finfo(dtype).eps * float(magnitude.abs().max())
