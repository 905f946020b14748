"""The gate: wrong numerics are fast, so a case is compared with its float64 oracle before it is timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

import attention_impls
from elattn_bench.cases import Case
from elattn_bench.results import Skipped
from elattn_bench.workload import not_a_step, recurrence_of, tensors_of

GATE_LENGTH = 64  # long enough for several chunks' worth of terms, short enough for an L x L x D oracle
TOLERANCES = {"float64": 1e-9, "float32": 2e-4, "float16": 2e-2, "bfloat16": 1e-1}
"""Largest relative RMS error per dtype: about 1000 roundings of one unit in the last place each."""
SEED = 1


@dataclass(frozen=True, slots=True)
class GateError:
    """What the gate found of a case's kind.

    max_abs, rel_rms: distance of the output from the float64 oracle.
    gradient_rel_rms: the worst of the gradients', in mode ``train``.
    approximation_rel_rms: distance of the oracle itself from that of the attention it approximates.
    outside_band: share of the pairs where the approximation is off by more than 1 %.
    broken: how the call breaks its contract, whatever the figures.
    """

    max_abs: float | None = None
    rel_rms: float | None = None
    gradient_rel_rms: float | None = None
    approximation_rel_rms: float | None = None
    outside_band: float | None = None
    broken: str | None = None

    def failure(self, dtype: str) -> str | None:
        """Why the case may not be timed, or None when it may."""
        if self.broken:
            return self.broken
        for what, error in (("output", self.rel_rms), ("gradient", self.gradient_rel_rms)):
            if error is not None and not error <= TOLERANCES[dtype]:
                return (
                    f"{what} differs from the float64 oracle: relative RMS error {error:.2g}, "
                    f"allowed {TOLERANCES[dtype]:g} in {dtype}"
                )
        return None


@dataclass
class Gate:
    """Compares each kind of case with its oracle once, and remembers.

    Args:
        input_std: standard deviation of the inputs.
    """

    input_std: float = 1.0
    _known: dict[Case, GateError] = field(default_factory=dict)

    def check(self, case: Case) -> GateError:
        """The errors of the case's kind at a small length; in mode ``decode`` those of a step after it."""
        # In decoding the token comes on top of the context.
        length = min(case.seq_len, GATE_LENGTH - case.decodes)
        kind = replace(case, level="op", batch=1, seq_len=length, cache="hot")
        if kind not in self._known:
            compare = _compare_step if case.decodes else _compare
            self._known[kind] = compare(kind, _draw(kind, self.input_std))
        return self._known[kind]

    def refusal(self, case: Case) -> Skipped | None:
        """Why the case may not be timed here, or None when it may."""
        if reasons := case.unsupported_reasons():
            return Skipped("unsupported", "; ".join(reasons))
        failure = self.check(case).failure(case.dtype)
        return Skipped("error", failure) if failure else None


def _draw(case: Case, std: float) -> list[Tensor]:
    """Query, key, value and the upstream gradient."""
    problem = case.problem
    shape = (1, problem.heads, problem.seq_len + case.decodes, problem.head_dim)
    generator = torch.Generator(device=case.device).manual_seed(SEED)
    dtype = getattr(torch, case.dtype)
    drawn = [torch.randn(*shape, generator=generator, device=case.device) for _ in range(4)]
    return [(std * tensor).to(dtype) for tensor in drawn[:3]] + [drawn[3].to(dtype)]


def _compare(case: Case, drawn: Sequence[Tensor]) -> GateError:
    keywords = {"causal": case.causal, **case.problem.hyperparameters}
    gradients = case.mode == "train"
    given = [tensor.clone() for tensor in drawn]
    found = _run(case.spec.backend(case.backend).op, given, keywords, gradients)
    if broken := _broken(found, given, drawn):
        return GateError(broken=broken)
    doubles = [tensor.double() for tensor in drawn]
    (output, *mine), (truth, *true) = found, _run(case.spec.oracle, doubles, keywords, gradients)
    approximation, outside = _approximation(case, doubles[:3], truth)
    return GateError(
        max_abs=float((output.double() - truth).abs().max()),
        rel_rms=_relative_rms(output, truth),
        gradient_rel_rms=max(map(_relative_rms, mine, true), default=None),
        approximation_rel_rms=approximation,
        outside_band=outside,
    )


def _compare_step(case: Case, drawn: Sequence[Tensor]) -> GateError:
    """The step after a context, filled in as two parts like a long one, against the oracle's last row."""
    recurrence, knobs = recurrence_of(case), case.problem.hyperparameters
    query, key, value, _ = drawn
    state = None
    with torch.no_grad():
        for part in torch.arange(case.seq_len).tensor_split(2):
            if len(part):
                _, state = recurrence.prefill(*(x[:, :, part] for x in (query, key, value)), state, **knobs)
        given = [x[:, :, -1].clone() for x in (query, key, value)]
        before = [x.clone() for x in (*given, *tensors_of(state))]
        result = recurrence.step(*given, state, **knobs)
    if broken := not_a_step(result) or _broken(result[:1], [*given, *tensors_of(state)], before):
        return GateError(broken=broken)
    doubles = [x.double() for x in (query, key, value)]
    truth = case.spec.oracle(*doubles, causal=True, **knobs)
    approximation, outside = _approximation(case, doubles, truth)
    return GateError(
        max_abs=float((result[0].double() - truth[:, :, -1]).abs().max()),
        rel_rms=_relative_rms(result[0], truth[:, :, -1]),
        approximation_rel_rms=approximation,
        outside_band=outside,
    )


def _broken(results: Sequence[object], given: Sequence[Tensor], drawn: Sequence[Tensor]) -> str | None:
    """How the results break the contract of an op: kind, shape, dtype, finite values, inputs left alone."""
    for number, result in enumerate(results):
        what = "gradient" if number else "output"
        if not isinstance(result, Tensor):
            return f"{what} is a {type(result).__name__}, not a tensor"
        if result.shape != drawn[0].shape:
            return f"{what} has shape {list(result.shape)}, the inputs have {list(drawn[0].shape)}"
        if result.dtype != drawn[0].dtype:
            return f"{what} is of dtype {result.dtype}, the inputs of {drawn[0].dtype}"
        if not bool(result.isfinite().all()):
            return f"{what} holds NaN or infinity"
    if not all(map(torch.equal, given, drawn)):
        return "the call modifies its inputs"
    return None


def _approximation(
    case: Case, inputs: Sequence[Tensor], truth: Tensor
) -> tuple[float, float] | tuple[None, None]:
    approximates = case.spec.approximates
    if approximates is None:
        return None, None
    causal = case.causal or case.decodes
    exact = attention_impls.get(approximates.attention).oracle(*inputs, causal=causal)
    outside = approximates.outside_band(*inputs[:2], causal=causal, **case.problem.hyperparameters)
    return _relative_rms(truth, exact), float(outside)


def _run(
    op: Callable[..., Tensor], tensors: Sequence[Tensor], keywords: dict[str, object], gradients: bool
) -> list[Tensor]:
    *inputs, upstream = tensors
    if not gradients:
        with torch.no_grad():
            return [op(*inputs, **keywords)]
    leaves = [tensor.detach().requires_grad_(True) for tensor in inputs]
    output = op(*leaves, **keywords)
    if not isinstance(output, Tensor) or output.shape != upstream.shape:
        return [output]  # for the contract to refuse
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
