"""From a case to tensors and a closure: the harness's only door to attention_impls. Knows torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attention_impls import AttentionLayer
from elattn_bench.cases import Case
from elattn_bench.units import Bytes


@dataclass(frozen=True, slots=True)
class Workload:
    """One call of a case, ready to be timed: nothing but the attention runs inside ``call``.

    inputs: every tensor that exists before the call: activations, parameters, upstream gradient.
    """

    call: Callable[[], object]
    inputs: Sequence[Tensor]

    def broken(self, result: object, versions: Sequence[int]) -> str | None:
        """How a result of the call breaks its contract, or None.

        Args:
            result: the output, or in training the gradients of the inputs.
            versions: of the inputs before the call.
        """
        results = result if isinstance(result, tuple) else (result,)
        for found, like in zip(results, self.inputs, strict=False):
            if not isinstance(found, Tensor) or found.shape != like.shape or found.dtype != like.dtype:
                kind = (
                    f"{list(found.shape)} {found.dtype}"
                    if isinstance(found, Tensor)
                    else type(found).__name__
                )
                return (
                    f"at the case's own length the result is {kind}, expected {list(like.shape)} {like.dtype}"
                )
        return (
            None
            if self.versions() == list(versions)
            else "at the case's own length the call modifies its inputs"
        )

    def versions(self) -> list[int]:
        """How often each input was modified."""
        return [tensor._version for tensor in self.inputs]

    @property
    def input_bytes(self) -> Bytes:
        """What the inputs hold."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.inputs)


def build(case: Case, seed: int = 0, std: float = 1.0) -> Workload:
    """The workload of a case, its inputs drawn from N(0, std^2) on the case's device.

    Mode ``forward`` runs without autograd. Mode ``train`` makes a fresh graph, runs forward and backward
    and returns the gradients; nothing is accumulated into ``.grad``.
    """
    generator = torch.Generator(device=case.device).manual_seed(seed)
    forward, inputs = (_op if case.level == "op" else _layer)(case, generator, std)
    if case.mode == "forward":
        return Workload(_without_autograd(forward), inputs)
    upstream = _draw(case, tuple(inputs[0].shape), generator, 1.0)
    return Workload(_with_gradients(forward, inputs, upstream), [*inputs, upstream])


def _op(case: Case, generator: torch.Generator, std: float) -> tuple[Callable[[], Tensor], list[Tensor]]:
    problem = case.problem
    shape = (problem.batch, problem.heads, problem.seq_len, problem.head_dim)
    query, key, value = (_draw(case, shape, generator, std) for _ in range(3))
    op = case.spec.backend(case.backend).op
    keywords = {"causal": case.causal, **problem.hyperparameters}
    return (lambda: op(query, key, value, **keywords)), [query, key, value]


def _layer(case: Case, generator: torch.Generator, std: float) -> tuple[Callable[[], Tensor], list[Tensor]]:
    layer = AttentionLayer(
        case.attention,
        case.dim,
        case.heads,
        backend=case.backend,
        device=torch.device(case.device),
        dtype=getattr(torch, case.dtype),
        **case.problem.hyperparameters,
    )
    tokens = _draw(case, (case.batch, case.seq_len, case.dim), generator, std)
    return (lambda: layer(tokens, causal=case.causal)), [tokens, *layer.parameters()]


def _draw(case: Case, shape: Sequence[int], generator: torch.Generator, std: float) -> Tensor:
    dtype = getattr(torch, case.dtype)
    drawn = torch.randn(*shape, generator=generator, device=case.device, dtype=torch.float32)
    return (drawn if std == 1 else drawn.mul_(std)).to(dtype)


def _without_autograd(forward: Callable[[], Tensor]) -> Callable[[], object]:
    def call() -> Tensor:
        with torch.no_grad():
            return forward()

    return call


def _with_gradients(
    forward: Callable[[], Tensor], inputs: Sequence[Tensor], upstream: Tensor
) -> Callable[[], object]:
    for tensor in inputs:
        tensor.requires_grad_(True)

    def call() -> object:
        return torch.autograd.grad(forward(), inputs, upstream)

    return call
