"""The gate: wrong numerics are fast, so a case is compared with its float64 oracle before it is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from elattn_bench.cases import Case

GATE_LENGTH = 64  # long enough for several chunks' worth of terms, short enough for an L x L x D oracle
TOLERANCES = {"float64": 1e-9, "float32": 2e-4, "float16": 2e-2, "bfloat16": 1e-1}
"""Largest relative RMS error per dtype: about 1000 roundings of one unit in the last place each."""


@dataclass(frozen=True, slots=True)
class GateError:
    """Distance of a case's output, and the worst of its gradients, from the float64 oracle."""

    max_abs: float
    rel_rms: float
    gradient_rel_rms: float | None

    def failure(self, dtype: str) -> str | None:
        """Why the case may not be timed, or None when it may."""
        for what, error in (("output", self.rel_rms), ("gradient", self.gradient_rel_rms)):
            if error is not None and not error <= TOLERANCES[dtype]:
                return (
                    f"{what} differs from the float64 oracle: relative RMS error {error:.2g}, "
                    f"allowed {TOLERANCES[dtype]:g} in {dtype}"
                )
        return None


@dataclass
class Gate:
    """Compares each kind of case with its oracle once, and remembers."""

    _passed: dict[Case, GateError] = field(default_factory=dict)

    def check(self, case: Case) -> GateError:
        """The errors of the case's kind at a small length."""
        kind = replace(case, level="op", batch=1, seq_len=min(case.seq_len, GATE_LENGTH))
        if kind not in self._passed:
            self._passed[kind] = _compare(kind)
        return self._passed[kind]


def _compare(case: Case) -> GateError:
    problem = case.problem
    shape = (1, problem.heads, problem.seq_len, problem.head_dim)
    generator = torch.Generator(device=case.device).manual_seed(1)
    dtype = getattr(torch, case.dtype)
    drawn = [torch.randn(*shape, generator=generator, device=case.device).to(dtype) for _ in range(4)]
    keywords = {"causal": case.causal, **problem.hyperparameters}
    results = [
        _run(op, [tensor.to(kind) for tensor in drawn], keywords, gradients=case.mode == "train")
        for op, kind in ((case.spec.backend(case.backend).op, dtype), (case.spec.oracle, torch.float64))
    ]
    (output, *gradients), (true_output, *true_gradients) = results
    return GateError(
        max_abs=float((output.double() - true_output).abs().max()),
        rel_rms=_relative_rms(output, true_output),
        gradient_rel_rms=max(map(_relative_rms, gradients, true_gradients), default=None),
    )


def _run(
    op: object, tensors: Sequence[Tensor], keywords: dict[str, object], *, gradients: bool
) -> list[Tensor]:
    assert callable(op)
    *inputs, upstream = tensors
    if not gradients:
        with torch.no_grad():
            return [op(*inputs, **keywords)]
    leaves = [tensor.detach().requires_grad_(True) for tensor in inputs]
    output = op(*leaves, **keywords)
    # One position attends to itself alone: an output that no query reaches has no gradient.
    found = torch.autograd.grad(output, leaves, upstream.to(output.dtype), allow_unused=True)
    return [output.detach()] + [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, found, strict=True)
    ]


def _relative_rms(value: Tensor, truth: Tensor) -> float:
    scale = truth.double().square().mean().sqrt()
    error = (value.double() - truth).square().mean().sqrt()
    return float(error / scale) if scale > 0 else float(error)
