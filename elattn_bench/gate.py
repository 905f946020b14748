"""The gate: wrong numerics are fast, so a case is compared with its float64 oracle before it is timed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

import attention_impls
from elattn_bench import workload
from elattn_bench.cases import Case
from elattn_bench.results import Skipped
from elattn_bench.workload import not_a_step, own_layer_of, recurrence_of

GATE_LENGTH = 64  # per channel: short enough for an oracle of L x L x D
MATRIX_LENGTH = (
    129  # otherwise, oracles being L x L: more than two of the chunks that sums are carried between
)
REACHES = ("group", "latents")  # hyperparameters: a sequence that is not longer takes another path
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
        length = min(case.seq_len, gate_length(case) - case.decodes)
        level = "layer" if case.spec.own_layer else "op"
        kind = replace(case, level=level, batch=1, seq_len=length, cache="hot")
        if kind not in self._known:
            self._known[kind] = self._compared(kind)
        return self._known[kind]

    def _compared(self, kind: Case) -> GateError:
        if kind.spec.own_layer:
            return _compare_module(kind, self.input_std)
        compare = _compare_step if kind.decodes else _compare
        return compare(kind, draw(kind, self.input_std))

    def refusal(self, case: Case) -> Skipped | None:
        """Why the case may not be timed here, or None when it may."""
        if reasons := case.unsupported_reasons():
            return Skipped("unsupported", "; ".join(reasons))
        failure = self.check(case).failure(case.dtype)
        return Skipped("error", failure) if failure else None


def gate_length(case: Case) -> int:
    """Positions at which a kind of case is compared: so many that every part of its algorithm runs."""
    if case.spec.per_channel:
        return GATE_LENGTH
    knobs = {name: knob.default for name, knob in case.spec.hyperparameters.items()}
    knobs |= case.problem.hyperparameters
    reach = max((knobs[name] for name in REACHES if name in knobs), default=0)
    return max(MATRIX_LENGTH, 2 * reach + 1)


class Drawn(NamedTuple):
    """Inputs of a call: query, key and value, what else it takes by keyword, and the upstream gradient."""

    qkv: list[Tensor]
    learned: dict[str, Tensor]
    of_tokens: dict[str, Tensor]
    upstream: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Drawn:
        """Every tensor changed."""
        return Drawn(
            [change(x) for x in self.qkv],
            {name: change(x) for name, x in self.learned.items()},
            {name: change(x) for name, x in self.of_tokens.items()},
            change(self.upstream),
        )

    def rows(self, rows: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Query, key and value of these positions, and the keywords of an op on them."""
        of_tokens = {name: x[:, :, rows] for name, x in self.of_tokens.items()}
        return [x[:, :, rows] for x in self.qkv], {**self.learned, **of_tokens}

    @property
    def operands(self) -> dict[str, Tensor]:
        """What the op takes by keyword."""
        return {**self.learned, **self.of_tokens}

    @property
    def inputs(self) -> list[Tensor]:
        """All that a gradient may be taken of."""
        return [*self.qkv, *self.operands.values()]


def draw(case: Case, std: float) -> Drawn:
    """What a case of a small length is called with, the same at every call."""
    rows = case.seq_len + case.decodes
    generator = torch.Generator(device=case.device).manual_seed(SEED)
    qkv = workload.draw_qkv(case, generator, std, rows)
    learned, of_tokens = workload.draw_operands(case, generator, rows)
    upstream = torch.randn(qkv[2].shape, generator=generator, device=case.device).to(qkv[2].dtype)
    return Drawn(qkv, learned, of_tokens, upstream)


def _compare(case: Case, drawn: Drawn) -> GateError:
    keywords = {"causal": case.causal, **case.problem.hyperparameters}
    gradients = case.mode == "train"
    given = drawn.map(torch.Tensor.clone)
    found = run(case.spec.backend(case.backend).op, given, keywords, gradients)
    if broken := broken_contract(found, [drawn.qkv[2], *drawn.inputs], given.inputs, drawn.inputs):
        return GateError(broken=broken)
    if not case.spec.is_gated:
        return GateError()
    doubles = drawn.map(torch.Tensor.double)
    (output, *mine), (truth, *true) = found, run(case.spec.oracle, doubles, keywords, gradients)
    approximation, outside = approximation_error(case, doubles.qkv, truth)
    return GateError(
        max_abs=float((output.double() - truth).abs().max()),
        rel_rms=relative_rms(output, truth),
        gradient_rel_rms=max(map(relative_rms, mine, true), default=None),
        approximation_rel_rms=approximation,
        outside_band=outside,
    )


def _compare_step(case: Case, drawn: Drawn) -> GateError:
    """The step after a context, filled in as two parts like a long one, against the oracle's last row."""
    recurrence, knobs = recurrence_of(case), case.problem.hyperparameters
    state = None
    with torch.no_grad():
        for part in torch.arange(case.seq_len).tensor_split(2):
            if len(part):
                qkv, operands = drawn.rows(part)
                _, state = recurrence.prefill(*qkv, state, **knobs, **operands)
        given = [x[:, :, -1].clone() for x in drawn.qkv]
        of_token = {name: x[:, :, -1] for name, x in drawn.of_tokens.items()}
        inputs = [*given, *recurrence.held(state)]
        before = [x.clone() for x in inputs]
        result = recurrence.step(*given, state, **knobs, **drawn.learned, **of_token)
    if broken := not_a_step(result) or broken_contract(result[:1], given[2:], inputs, before):
        return GateError(broken=broken)
    if not case.spec.is_gated:
        return GateError()
    doubles = drawn.map(torch.Tensor.double)
    truth = case.spec.oracle(*doubles.qkv, causal=True, **knobs, **doubles.operands)
    approximation, outside = approximation_error(case, doubles.qkv, truth)
    return GateError(
        max_abs=float((result[0].double() - truth[:, :, -1]).abs().max()),
        rel_rms=relative_rms(result[0], truth[:, :, -1]),
        approximation_rel_rms=approximation,
        outside_band=outside,
    )


def _compare_module(case: Case, std: float) -> GateError:
    """The module as it is without dropout, against its oracle on a copy of it in float64."""
    own, module = own_layer_of(case), workload.build_module(case, SEED).eval()
    generator = torch.Generator(device=case.device).manual_seed(SEED)
    tokens = workload.draw_tokens(case, generator, std)
    upstream = torch.randn(tokens.shape, generator=generator, device=case.device).to(tokens.dtype)
    before = [tokens.clone(), *(each.detach().clone() for each in module.parameters())]
    found = _run_module(case, own.forward, module, tokens, upstream)
    parameters = list(module.parameters())
    likes = [tokens, tokens, *(each for each in parameters if each.requires_grad)]
    if broken := broken_contract(found, likes, [tokens, *parameters], before):
        return GateError(broken=broken)
    if own.oracle is None:
        return GateError()
    twin = copy.deepcopy(module).double()
    (output, *mine), (truth, *true) = found, _run_module(case, own.oracle, twin, tokens.double(), upstream)
    return GateError(
        max_abs=float((output.double() - truth).abs().max()),
        rel_rms=relative_rms(output, truth),
        gradient_rel_rms=max(map(relative_rms, mine, true), default=None),
    )


def _run_module(
    case: Case, function: Callable[..., Tensor], module: nn.Module, tokens: Tensor, upstream: Tensor
) -> list[Tensor]:
    """The output of a module, and in training the gradients of tokens and parameters."""
    parameters = [each for each in module.parameters() if each.requires_grad]

    def op(tokens: Tensor) -> Tensor:
        return function(module, tokens, causal=case.causal)

    return run(op, Drawn([tokens], {}, {}, upstream), {}, case.mode == "train", parameters)


def broken_contract(
    results: Sequence[object], likes: Sequence[Tensor], given: Sequence[Tensor], drawn: Sequence[Tensor]
) -> str | None:
    """How the results break the contract of an op: kind, shape, dtype, finite values, inputs left alone."""
    for number, (result, like) in enumerate(zip(results, likes, strict=False)):
        what = "gradient" if number else "output"
        if not isinstance(result, Tensor):
            return f"{what} is a {type(result).__name__}, not a tensor"
        if result.shape != like.shape:
            return f"{what} has shape {list(result.shape)}, the inputs have {list(like.shape)}"
        if result.dtype != like.dtype:
            return f"{what} is of dtype {result.dtype}, the inputs of {like.dtype}"
        if not bool(result.isfinite().all()):
            return f"{what} holds NaN or infinity"
    if not all(map(torch.equal, given, drawn)):
        return "the call modifies its inputs"
    return None


def approximation_error(
    case: Case, inputs: Sequence[Tensor], truth: Tensor
) -> tuple[float, float] | tuple[None, None]:
    """How far the oracle is from what it approximates, and the share of pairs outside its band; None without."""
    approximates = case.spec.approximates
    if approximates is None:
        return None, None
    causal = case.causal or case.decodes
    exact = attention_impls.get(approximates.attention).oracle(*inputs, causal=causal)
    outside = approximates.outside_band(*inputs[:2], causal=causal, **case.problem.hyperparameters)
    return relative_rms(truth, exact), float(outside)


def run(
    op: Callable[..., Tensor],
    drawn: Drawn,
    keywords: dict[str, object],
    gradients: bool,
    parameters: Sequence[Tensor] = (),
) -> list[Tensor]:
    """The output, and the gradients of all inputs and parameters if they are wanted."""
    if not gradients:
        with torch.no_grad():
            return [op(*drawn.qkv, **keywords, **drawn.operands)]
    leaves = drawn.map(lambda x: x.detach().requires_grad_(True))
    output, upstream = op(*leaves.qkv, **keywords, **leaves.operands), drawn.upstream
    if not isinstance(output, Tensor) or output.shape != upstream.shape:
        return [output]  # for the contract to refuse
    # One position attends to itself alone: an output that no query reaches has no gradient.
    wanted = [*leaves.inputs, *parameters]
    found = torch.autograd.grad(output, wanted, upstream.to(output.dtype), allow_unused=True)
    return [output.detach()] + [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(wanted, found, strict=True)
    ]


def relative_rms(value: Tensor, truth: Tensor) -> float:
    """The RMS of the error over that of the truth."""
    scale = truth.double().square().mean().sqrt()
    error = (value.double() - truth).square().mean().sqrt()
    return float(error / scale) if scale > 0 else float(error)
