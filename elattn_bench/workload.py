"""From a case to tensors and a closure: the harness's only door to attention_impls. Knows torch."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attention_impls import AttentionLayer, Recurrence, TransformerBlock, Unsupported
from attention_impls.layer import squashed
from attention_impls.sharded.exchange import Exchange
from attention_impls.sharding import shard_lengths
from attention_impls.spec import OwnLayer
from elattn_bench.cases import Case
from elattn_bench.units import Bytes

SEGMENT = 2**20  # elements of query, key and value that a context is made of: 4 MiB each in float32
FEW_TOKENS = 64  # on which to see what parameters a module uses: those of the gate
LEAST_ROWS = 16  # of a segment, however wide it is
SEEDS = 2**63  # that torch's generators take
RANK_SEEDS = 2**40  # between the seeds of two ranks, so that no other run's seed gives a rank the same shard
MODIFIES = "at the case's own length the call modifies its inputs"


@dataclass(frozen=True, slots=True)
class Workload:
    """One call of a case, ready to be timed: nothing but the attention runs inside ``call``.

    inputs: every tensor that exists before the call: activations, parameters, upstream gradient, state.
    like: tensors of the shapes and dtypes that the results have.
    decodes: whether the call returns an output and a new state.
    kept: rows of those inputs that a call may write behind, in place, and that must stay what they are.
    """

    call: Callable[[], object]
    inputs: Sequence[Tensor]
    like: Sequence[Tensor]
    decodes: bool = False
    kept: Sequence[Tensor] = ()

    def broken(self, result: object, versions: Sequence[int]) -> str | None:
        """How a result of the call breaks its contract, or None.

        Args:
            result: the output, in training the gradients of the inputs, in decoding output and new state.
            versions: of the inputs before the call.
        """
        if self.decodes:
            if broken := not_a_step(result):
                return f"at the case's own length {broken}"
            (result, _) = result  # type: ignore[misc]
        results = result if isinstance(result, tuple) else (result,)
        for found, like in zip(results, self.like, strict=False):
            if not isinstance(found, Tensor) or found.shape != like.shape or found.dtype != like.dtype:
                kind = (
                    f"{list(found.shape)} {found.dtype}"
                    if isinstance(found, Tensor)
                    else type(found).__name__
                )
                return (
                    f"at the case's own length the result is {kind}, expected {list(like.shape)} {like.dtype}"
                )
        return None if self.versions() == list(versions) else MODIFIES

    def versions(self) -> list[int]:
        """How often each input was modified, but for those of which only some rows must stay."""
        written = {tensor.data_ptr() for tensor in self.kept}
        return [tensor._version for tensor in self.inputs if tensor.data_ptr() not in written]

    def sums(self) -> Tensor:
        """Float64 sums over the rows that must stay: a row written over shows. Block by block, not in one copy."""
        blocks = (block for x in self.kept for block in torch.split(x, _rows_of(SEGMENT, x), 2))
        found = [block.sum((0, 1, 3), dtype=torch.float64) for block in blocks]
        return torch.cat(found) if found else torch.empty(0)

    @property
    def input_bytes(self) -> Bytes:
        """What the inputs hold."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.inputs)


def not_a_step(result: object) -> str | None:
    """How a step's result is no output and new state; None when it is."""
    if isinstance(result, tuple) and len(result) == 2:
        return None
    return f"a step returns a {type(result).__name__}, not an output and a state"


def build(case: Case, seed: int = 0, std: float = 1.0, context: Any = None) -> Workload:
    """The workload of a case, its inputs drawn from N(0, std^2) on the case's device.

    Mode ``forward`` runs without autograd. Mode ``train`` makes a fresh graph, runs forward and backward
    and returns the gradients; nothing is accumulated into ``.grad``. Mode ``decode`` steps one token on
    from the state that ``fill_context`` makes, without autograd; every call starts from the same state.

    Args:
        case: what to call.
        seed: of the inputs.
        std: their standard deviation.
        context: a state that ``fill_context`` made, to be copied rather than made again.
    """
    generator = torch.Generator(device=case.device).manual_seed(seed)
    if case.decodes:
        state = fill_context(case, seed, std) if context is None else copy.deepcopy(context)
        return _step(case, generator, std, state)
    if case.level == "layer" and case.spec.own_layer:
        return _own_layer(case, seed, generator, std)
    forward, inputs = (_op if case.level == "op" else _module)(case, generator, std)
    like = inputs[2] if case.level == "op" else inputs[0]
    return _called(case, forward, inputs, like, generator)


def build_shard(case: Case, exchange: Exchange, seed: int = 0, std: float = 1.0) -> Workload:
    """The workload of one rank of a case: its own shard alone is drawn, so that no rank holds the whole sequence.

    Raises:
        Unsupported: the backend has no form for ranks.
    """
    if case.sharding is None:
        raise Unsupported("; ".join(case.unsupported_reasons()))
    rows = shard_lengths(case.seq_len, exchange.size)[exchange.rank]
    generator = torch.Generator(device=case.device).manual_seed((seed + exchange.rank * RANK_SEEDS) % SEEDS)
    inputs = draw_qkv(case, generator, std, rows)
    like = [inputs[2]] if case.mode == "forward" else list(inputs)
    if case.mode == "train":
        inputs = [*inputs, _draw(case, tuple(inputs[2].shape), generator, 1.0)]
    return Workload(call_of_shard(case, exchange, inputs), inputs, like)


def call_of_shard(case: Case, exchange: Exchange, inputs: Sequence[Tensor]) -> Callable[[], object]:
    """The call of ``build_shard``'s workload on its inputs, over this exchange."""
    form = case.sharding
    assert form is not None
    query, key, value, *upstream = inputs
    forward = functools.partial(
        form.op, query, key, value, exchange, causal=case.causal, **case.problem.hyperparameters
    )
    return _with_gradients(forward, inputs[:3], upstream[0]) if upstream else _without_autograd(forward)


def _called(
    case: Case,
    forward: Callable[[], Tensor],
    inputs: list[Tensor],
    like: Tensor,
    generator: torch.Generator,
) -> Workload:
    """The workload in mode ``forward`` or ``train``."""
    if case.mode == "forward":
        return Workload(_without_autograd(forward), inputs, [like])
    upstream = _draw(case, tuple(like.shape), generator, 1.0)
    return Workload(_with_gradients(forward, inputs, upstream), [*inputs, upstream], inputs)


def fill_context(case: Case, seed: int = 0, std: float = 1.0) -> Any:
    """The recurrent state of a decode case after its seq_len tokens; None in other modes.

    Filling in must not take longer than measuring: a context of more than ``SEGMENT`` elements is its first
    segment again and again, drawn and filled in once, and the segment's state is merged with itself, by
    doubling; what is left over is filled in alone and merged too. Where states cannot be merged, every
    repetition is filled in. No step is faster or slower for the values in its state. Nothing but the state
    outlives the call.

    Filling in a cache is quadratic, so its segments are of ``LEAST_ROWS`` tokens. All rows are written into
    one buffer, which has a spare row: the step that is timed copies nothing but its token.
    """
    if not case.decodes:
        return None
    generator = torch.Generator(device=case.device).manual_seed(seed + 1)  # other tokens than the one to come
    problem, recurrence = case.problem, recurrence_of(case)
    elements = 0 if case.spec.state_grows else SEGMENT
    rows = min(problem.seq_len, max(LEAST_ROWS, elements // (problem.batch * problem.dim)))
    segment = draw_qkv(case, generator, std, rows)
    learned, gates = draw_operands(case, generator, rows)

    def fill(rows: int, state: Any) -> Any:
        query, key, value = (tensor[:, :, :rows] for tensor in segment)
        of_tokens = {name: tensor[:, :, :rows] for name, tensor in gates.items()}
        keywords = {**problem.hyperparameters, **learned, **of_tokens}
        return recurrence.prefill(query, key, value, state, **keywords)[1]

    times, rest = divmod(problem.seq_len, rows)
    with torch.no_grad():
        if recurrence.merge:
            # What is written in place is written where there is room for all of it.
            empty = recurrence.init_state(problem) if recurrence.in_place else None
            state = _repeated(fill(rows, empty), times, recurrence.merge)
            return recurrence.merge(state, fill(rest, None)) if rest else state
        state = functools.reduce(lambda state, _: fill(rows, state), range(times), None)
        return fill(rest, state) if rest else state


def _repeated(state: Any, times: int, merge: Callable[[Any, Any], Any]) -> Any:
    """The state merged with itself to stand for its tokens so many times, by doubling."""
    if times == 1:
        return state
    half = _repeated(state, times // 2, merge)
    whole = merge(half, half)
    return merge(whole, state) if times % 2 else whole


def recurrence_of(case: Case) -> Recurrence:
    """The recurrent form of the case's backend.

    Raises:
        Unsupported: it has none.
    """
    recurrence = case.spec.backend(case.backend).recurrence
    if recurrence is None:
        raise Unsupported("; ".join(case.unsupported_reasons()))
    return recurrence


def _rows_of(elements: int, tensor: Tensor) -> int:
    """Rows of [batch, heads, rows, head_dim] that hold about so many elements."""
    return max(1, elements // (tensor.shape[0] * tensor.shape[1] * tensor.shape[3]))


def tensors_of(state: Any) -> list[Tensor]:
    """The tensors in a state: itself, or those in a tuple."""
    if isinstance(state, Tensor):
        return [state]
    return [part for part in state if isinstance(part, Tensor)]


def draw_qkv(case: Case, generator: torch.Generator, std: float, rows: int) -> list[Tensor]:
    """Query, key and value of so many positions."""
    problem = case.problem
    width = case.spec.key_width(problem)
    shapes = [(problem.batch, problem.heads, rows, last) for last in (width, width, problem.head_dim)]
    return [_draw(case, shape, generator, std) for shape in shapes]


def draw_operands(
    case: Case, generator: torch.Generator, rows: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the op takes beside query, key and value: what is learned, and what so many positions bring."""
    learned: dict[str, Tensor] = {}
    of_tokens: dict[str, Tensor] = {}
    for name, operand in case.spec.operands(case.problem).items():
        shape = operand.shape if operand.learned else (*operand.shape[:2], rows, *operand.shape[3:])
        drawn = _draw(case, shape, generator, operand.spread) + operand.mean
        (learned if operand.learned else of_tokens)[name] = squashed(operand, drawn)
    return learned, of_tokens


def _step(case: Case, generator: torch.Generator, std: float, state: Any) -> Workload:
    problem, recurrence = case.problem, recurrence_of(case)
    step = recurrence.step
    query, key, value = (tensor[:, :, 0].contiguous() for tensor in draw_qkv(case, generator, std, 1))
    learned, of_tokens = draw_operands(case, generator, 1)
    operands = {**learned, **{name: tensor[:, :, 0] for name, tensor in of_tokens.items()}}
    keywords = {**problem.hyperparameters, **operands}
    call = _without_autograd(lambda: step(query, key, value, state, **keywords))
    inputs = [query, key, value, *operands.values(), *tensors_of(state)]
    kept = recurrence.held(state) if recurrence.in_place else []
    return Workload(call, inputs, [value], decodes=True, kept=kept)


def _op(case: Case, generator: torch.Generator, std: float) -> tuple[Callable[[], Tensor], list[Tensor]]:
    problem = case.problem
    query, key, value = draw_qkv(case, generator, std, problem.seq_len)
    learned, of_tokens = draw_operands(case, generator, problem.seq_len)
    op, operands = case.spec.backend(case.backend).op, {**learned, **of_tokens}
    keywords = {"causal": case.causal, **problem.hyperparameters, **operands}
    return (lambda: op(query, key, value, **keywords)), [query, key, value, *operands.values()]


def _module(case: Case, generator: torch.Generator, std: float) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """The layer or the block of the case, on tokens."""
    module = (AttentionLayer if case.level == "layer" else TransformerBlock)(
        case.attention,
        case.dim,
        case.heads,
        backend=case.backend,
        seq_len=case.seq_len,
        device=torch.device(case.device),
        dtype=getattr(torch, case.dtype),
        **case.problem.hyperparameters,
    )
    tokens = _draw(case, (case.batch, case.seq_len, case.dim), generator, std)
    return (lambda: module(tokens, causal=case.causal)), [tokens, *module.used_parameters(case.causal)]


def _own_layer(case: Case, seed: int, generator: torch.Generator, std: float) -> Workload:
    """The workload of a user's module: its output, in training the gradients of tokens and parameters."""
    module = build_module(case, seed).train(case.mode == "train")
    tokens = draw_tokens(case, generator, std)
    forward = functools.partial(own_layer_of(case).forward, module, causal=case.causal)
    parameters = list(module.parameters())
    if case.mode == "forward":
        return Workload(_without_autograd(lambda: forward(tokens)), [tokens, *parameters], [tokens])
    upstream = _draw(case, tuple(tokens.shape), generator, 1.0)
    few = tokens[:1, :FEW_TOKENS]
    wanted = [tokens, *used_parameters(forward, few, [each for each in parameters if each.requires_grad])]
    call = _with_gradients(lambda: forward(tokens), wanted, upstream)
    return Workload(call, [tokens, *parameters, upstream], wanted)


def own_layer_of(case: Case) -> OwnLayer:
    """The module that the case measures.

    Raises:
        Unsupported: its attention is none.
    """
    if case.spec.own_layer is None:
        raise Unsupported(f"{case.attention} is no module")
    return case.spec.own_layer


def build_module(case: Case, seed: int = 0) -> nn.Module:
    """The user's module at the case's sizes, the same for the same seed, on its device and in its dtype."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = own_layer_of(case).build(case.dim, case.heads)
    return built.to(device=case.device, dtype=getattr(torch, case.dtype))


def draw_tokens(case: Case, generator: torch.Generator, std: float) -> Tensor:
    """What a layer takes, [batch, seq_len, dim]."""
    return _draw(case, (case.batch, case.seq_len, case.dim), generator, std)


def used_parameters(
    forward: Callable[[Tensor], Tensor], tokens: Tensor, parameters: Sequence[nn.Parameter]
) -> list[nn.Parameter]:
    """The parameters that a call on the tokens reads: the gradient of another does not exist."""
    output = forward(tokens) if parameters else None
    if not (isinstance(output, Tensor) and output.requires_grad):
        return list(parameters)  # for the contract to refuse
    found = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
    return [each for each, gradient in zip(parameters, found, strict=True) if gradient is not None]


def _draw(case: Case, shape: Sequence[int], generator: torch.Generator, std: float) -> Tensor:
    dtype = getattr(torch, case.dtype)
    drawn = torch.randn(*shape, generator=generator, device=case.device, dtype=torch.float32)
    return (drawn if std == 1 else drawn.mul_(std)).to(dtype)


def _without_autograd(forward: Callable[[], object]) -> Callable[[], object]:
    def call() -> object:
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
