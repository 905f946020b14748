"""EA-series by kernels of our own: forward, backward and recurrent form as operators that torch knows.

On a CPU the kernels are vector code (``kernels/ea_cpu.py``), on a GPU Triton's (``kernels/ea_triton.py``). They
are registered with ``torch.library``, so that torch.compile and torch.export see three opaque operators with
known shapes, and autograd the closed form of their gradients.
"""

from __future__ import annotations

import math
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from attention_impls.autocast import under_autocast
from attention_impls.chunks import accumulator_dtype, empty_sums
from attention_impls.ea_series import validate
from attention_impls.hyperparameters import ORDER
from attention_impls.kernels.layout import result_like
from attention_impls.nouns import InvalidArgument, Problem, Unsupported
from attention_impls.validate import dtype_name

KERNELS = {"cpu": "attention_impls.kernels.ea_cpu", "cuda": "attention_impls.kernels.ea_triton"}
"""Device -> module with ``forward``, ``backward``, ``extend``, ``blocks`` and ``TOP_BASE``."""


class State(NamedTuple):
    """The tokens so far, in float32 (float64 for float64).

    sums: S_0..S_t, Z_0..Z_t and the reference that they are relative to,
        [2 (order + 1) + 1, batch, heads, head_dim].
    """

    sums: Tensor


def fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    order: int = 6,
    scale: float = 1.0,
    stabiliser: bool = True,
) -> Tensor:
    """EA-series in one or two passes over memory. Formula, arguments and errors as ``ea_series.eager``.

    Backward is a closed form that computes again what it needs; gradients can be taken once, not twice.
    Under autocast the inputs are rounded to its dtype first, as those of matrix products are.

    Complexity: O(t L D) time. Memory beside the output: forward O(t D); with gradients these and, causal,
    2 (order + 1) + 1 sums for every block of 128 positions (on a GPU: of a chunk).

    Paper: Feng 2025, arXiv 2501.05730; kernels and gradients are ours, see ``docs/kernels.md``.
    """
    query, key, value = under_autocast(query, key, value)
    validate(query, key, value, order, scale, stabiliser)
    keep = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    output: Tensor = _forward(query, key, value, causal, order, float(scale), stabiliser, keep)[0]
    return output


def init_state(problem: Problem) -> State:
    """The empty sums before the first token."""
    order = problem.knob(ORDER)
    shape = (2 * order + 3, problem.batch, problem.heads, problem.head_dim)
    sums = empty_sums(problem, *shape)
    sums[-1] = -torch.inf
    return State(sums)


def prefill(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: State | None = None,
    *,
    order: int = 6,
    scale: float = 1.0,
    stabiliser: bool = True,
) -> tuple[Tensor, State]:
    """The causal output of all tokens, [batch, heads, seq_len, head_dim], and the state after the last.

    Args:
        state: of the tokens before, if there are any; not changed.

    Complexity: as ``fused``. Computes no gradients.
    """
    validate(query, key, value, order, scale, stabiliser)
    if state is None:
        batch, heads, seq_len, head_dim = query.shape
        problem = Problem(
            batch, heads, seq_len, head_dim, dtype_name(query), query.device.type,
            hyperparameters={"order": order},
        )  # fmt: skip
        state = init_state(problem)
    return _extended(query, key, value, state, order, scale, stabiliser)


def step(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: State,
    *,
    order: int = 6,
    scale: float = 1.0,
    stabiliser: bool = True,
) -> tuple[Tensor, State]:
    """One token: tensors [batch, heads, head_dim] and the sums so far -> (output, new sums), in one call.

    Complexity: O(t D) time and state, whatever the number of tokens. Computes no gradients.
    """
    query, key, value = query.unsqueeze(2), key.unsqueeze(2), value.unsqueeze(2)
    validate(query, key, value, order, scale, stabiliser)
    output, after = _extended(query, key, value, state, order, scale, stabiliser)
    return output.squeeze(2), after


def _extended(
    query: Tensor, key: Tensor, value: Tensor, state: State, order: int, scale: float, stabiliser: bool
) -> tuple[Tensor, State]:
    batch, heads, _, head_dim = query.shape
    expected = (2 * order + 3, batch, heads, head_dim), accumulator_dtype(query.dtype), query.device
    found = tuple(state.sums.shape), state.sums.dtype, state.sums.device
    if found != expected:
        raise InvalidArgument(f"the state must be of {_described(*expected)}; it is of {_described(*found)}")
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad):
        raise Unsupported(
            "the recurrent form of ea-series/fused computes no gradients; call it under torch.no_grad(), "
            "train with the parallel form, or step through ea-series/eager"
        )
    # Kernels without the stabiliser take and give sums whose reference is 0.
    sums = state.sums if stabiliser else _referred(state.sums, torch.zeros_like(state.sums[-1]))
    output, sums = _extend(query, key, value, sums, order, float(scale), stabiliser)
    return output, State(sums)


def _described(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> str:
    return f"shape {list(shape)}, {dtype}, on {device}"


def merge(earlier: State, later: State) -> State:
    """The sums after the tokens of one state and then of another, neither empty."""
    top = torch.maximum(earlier.sums[-1], later.sums[-1])
    merged = _referred(earlier.sums, top) + _referred(later.sums, top)
    merged[-1] = top
    return State(merged)


def _referred(sums: Tensor, top: Tensor) -> Tensor:
    """The sums relative to another reference, which is no lower."""
    base = math.log(kernels(sums).TOP_BASE)
    referred = sums * torch.exp(base * (sums[-1] - top))
    referred[-1] = top
    return referred


@torch.library.custom_op("attention_impls::ea_series", mutates_args=())
def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    causal: bool,
    order: int,
    scale: float,
    stabiliser: bool,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """The output, and the moments that backward needs (none when causal without ``keep``)."""
    knobs = {"order": order, "scale": scale, "stabiliser": stabiliser}
    return kernels(query).forward(query, key, value, causal=causal, keep=keep, **knobs)  # type: ignore[no-any-return]


@_forward.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    causal: bool,
    order: int,
    scale: float,
    stabiliser: bool,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    slots = _slots(query, keep) if causal else 1
    batch, heads, _, head_dim = query.shape
    wide = accumulator_dtype(query.dtype)
    moments = query.new_empty((slots, 2 * order + 3, batch, heads, head_dim), dtype=wide)
    return result_like(query), moments


@torch.library.custom_op("attention_impls::ea_series_backward", mutates_args=())
def _backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    upstream: Tensor,
    moments: Tensor,
    causal: bool,
    order: int,
    scale: float,
    stabiliser: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value."""
    knobs = {"order": order, "scale": scale, "stabiliser": stabiliser}
    return kernels(query).backward(query, key, value, upstream, moments, causal=causal, **knobs)  # type: ignore[no-any-return]


@_backward.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    upstream: Tensor,
    moments: Tensor,
    causal: bool,
    order: int,
    scale: float,
    stabiliser: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return result_like(query), result_like(key), result_like(value)


def _extend_by_kernel(
    query: Tensor, key: Tensor, value: Tensor, sums: Tensor, order: int, scale: float, stabiliser: bool
) -> tuple[Tensor, Tensor]:
    """The causal output of further tokens, and the sums after them."""
    knobs = {"order": order, "scale": scale, "stabiliser": stabiliser}
    return kernels(query).extend(query, key, value, sums, **knobs)  # type: ignore[no-any-return]


def _extend_shapes(
    query: Tensor, key: Tensor, value: Tensor, sums: Tensor, order: int, scale: float, stabiliser: bool
) -> tuple[Tensor, Tensor]:
    return result_like(query), torch.empty_like(sums, memory_format=torch.contiguous_format)


# A step takes microseconds: registered without the layers of Python that ``custom_op`` adds.
_LIBRARY: Any = torch.library.Library("attention_impls", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define(
    "ea_series_extend(Tensor query, Tensor key, Tensor value, Tensor sums, int order, float scale, "
    "bool stabiliser) -> (Tensor, Tensor)"
)
for _device in KERNELS:
    _LIBRARY.impl("ea_series_extend", _extend_by_kernel, _device.upper())
torch.library.register_fake("attention_impls::ea_series_extend", _extend_shapes, lib=_LIBRARY)
_extend = torch.ops.attention_impls.ea_series_extend.default


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, causal, order, scale, stabiliser, _ = inputs
    ctx.save_for_backward(query, key, value, output[1])
    ctx.knobs = causal, order, scale, stabiliser


def _differentiate(ctx: Any, upstream: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    query, key, value, moments = ctx.saved_tensors
    gradients = _backward(query, key, value, upstream, moments, *ctx.knobs)
    return (*gradients, None, None, None, None, None)


def _refuse_second(ctx: FunctionCtx, *upstream: Tensor) -> None:
    raise Unsupported(
        "ea-series/fused computes first gradients only, not gradients of gradients; use ea-series/eager for those"
    )


_forward.register_autograd(_differentiate, setup_context=_remember)
_backward.register_autograd(_refuse_second)


def _slots(query: Tensor, keep: bool) -> Any:
    """How many sets of moments a causal call returns; a symbol where only the data's own length will tell."""
    if not keep:
        return 0
    if query.device.type != "cpu" and not all(isinstance(size, int) for size in query.shape):
        return torch.library.get_ctx().new_dynamic_size()
    return kernels(query).blocks(query)


def kernels(tensor: Tensor) -> Any:
    """The module of the kernels for the tensor's device: see ``KERNELS``."""
    return _module(tensor.device.type)


@cache
def _module(device: str) -> Any:
    return import_module(KERNELS[device])
