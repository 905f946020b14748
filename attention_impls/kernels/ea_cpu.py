"""EA-series on the CPU: sharing the work among threads, and the kernels on torch tensors.

Sums are packed as in ``ea_cpu_code``: [slots, 2 (order + 1) + 1, batch, heads, head_dim].
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from attention_impls.chunks import accumulator_dtype
from attention_impls.kernels import ea_cpu_backward, ea_cpu_forward, jit, threads
from attention_impls.kernels import ea_cpu_code as code
from attention_impls.kernels.layout import result_like, rows_of_channels
from attention_impls.kernels.pages import large
from attention_impls.kernels.ranks import Ranks
from attention_impls.kernels.vectors import Lanes

TOP_BASE = 2.0  # of the logarithm that sums keep as their reference

LINE_BYTES = 64
"""Of a cache line, and of a vector: LLVM makes it as many registers as the CPU needs. Channels that share a line
are used while it is in the first-level cache, where rows that lie a multiple of 256 bytes apart crowd each other
out. A segment of channels is no narrower."""

LEAST_VECTOR_BYTES = 16  # where the channels are few

FEWEST_TERMS = 2**19
"""Elements of a tensor, times (order + 1), below which one thread is done before others are awake (some 50 us)."""

FEWEST_BLOCKS = 4
"""Blocks of rows that a part has at least: each is passed over twice where causal rows are split."""


@dataclass(frozen=True)
class Knobs:
    """What the attention is called with, beside its tensors."""

    order: int
    scale: float
    stabiliser: bool


def blocks(query: Tensor) -> int:
    """How many sets of moments a causal forward pass keeps for backward."""
    return -(-query.shape[-2] // code.BLOCK)


def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool,
    order: int,
    scale: float,
    stabiliser: bool,
    keep: bool,
    ranks: Ranks | None = None,
) -> tuple[Tensor, Tensor]:
    """The output, and the moments that ``backward`` needs.

    Args:
        ranks: the others, where the tensors are a shard of a sequence that is spread.

    Returns:
        output like the query; moments [n, 2 (order + 1) + 1, batch, heads, head_dim]: those of all keys
        (n = 1), or causal those before every block (n = blocks, with ``keep``; else none), of all ranks.
    """
    knobs = Knobs(order, scale, stabiliser)
    work = _Work({"query": query, "key": key, "value": value}, knobs, output=large(result_like(query)))
    if not causal:
        parts = work.empty_sums(work.parts)
        work.run(ea_cpu_forward.MOMENTS, moments=parts)
        moments = work.total(parts)
        if ranks:
            moments = ranks.all_keys(moments[0])[None]
        work.run(ea_cpu_forward.READ, moments=moments)
        return work.tensors["output"], moments
    kept = work.uninitialised(blocks(query) if keep else 0)
    work.run(
        ea_cpu_forward.CAUSAL_KEPT if keep else ea_cpu_forward.CAUSAL,
        moments=work.before_each_part(work.empty_sums(1), ranks),
        kept=kept,
    )
    return work.tensors["output"], kept


def backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    upstream: Tensor,
    moments: Tensor,
    *,
    causal: bool,
    order: int,
    scale: float,
    stabiliser: bool,
    ranks: Ranks | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value from that of the output and the moments of ``forward``.

    Args:
        ranks: those that ``forward`` was given.
    """
    knobs = Knobs(order, scale, stabiliser)
    given = {"query": query, "key": key, "value": value, "upstream": upstream}
    gradients = {f"{name}_gradient": large(result_like(given[name])) for name in ("query", "key", "value")}
    work = _Work(given, knobs, **gradients)
    if causal:
        work.run(ea_cpu_backward.CAUSAL_GRADIENT, kept=moments, adjoint=work.after_each_part(moments, ranks))
    else:
        parts = work.empty_sums(work.parts)
        work.run(ea_cpu_backward.QUERY_GRADIENT, moments=moments, adjoint=parts)
        adjoint = parts.sum(0, keepdim=True)
        if ranks:
            adjoint[0, :-1] = ranks.all_queries(adjoint[0, :-1])
        adjoint[:, -1] = moments[:, -1]
        work.run(ea_cpu_backward.KEY_GRADIENT, adjoint=adjoint)
    return tuple(work.tensors[name] for name in gradients)  # type: ignore[return-value]


def extend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: Tensor,
    *,
    order: int,
    scale: float,
    stabiliser: bool,
) -> tuple[Tensor, Tensor]:
    """The causal output of further tokens, and the state after them.

    Args:
        state: sums of the tokens before, [2 (order + 1) + 1, batch, heads, head_dim]; not modified.
    """
    knobs = Knobs(order, scale, stabiliser)
    work = _Work({"query": query, "key": key, "value": value}, knobs, output=large(result_like(query)))
    moments = work.before_each_part(state[None].clone(memory_format=torch.contiguous_format))
    work.run(ea_cpu_forward.CAUSAL, moments=moments)
    return work.tensors["output"], moments[-1]


@dataclass(frozen=True)
class _Plan:
    """How the planes, channels and rows of a call are shared among threads.

    channels: of a plane.
    sizes: the first numbers of a kernel, ``code.SIZES``.
    parts: into how many ranges the rows are split, where planes and channels alone are too few.
    tasks: what each call of a kernel takes: first and last unit, first and last row, part.
    """

    channels: int
    sizes: tuple[int, ...]
    parts: int
    tasks: tuple[tuple[int, ...], ...]


@lru_cache(maxsize=1024)
def _plan(batch: int, heads: int, rows: int, channels: int, workers: int, least: int) -> _Plan:
    planes = batch * heads
    segment = _segment(planes, channels, workers, least)
    segments = -(-channels // segment)
    units = planes * segments
    most_parts = max(1, -(-rows // code.BLOCK) // FEWEST_BLOCKS)
    ranges = _ranges(rows, min(-(-workers // units), most_parts))
    tasks = tuple(
        (*some_units, *some_rows, part)
        for part, some_rows in enumerate(ranges)
        for some_units in _shares(units, -(-workers // len(ranges)))
    )
    return _Plan(channels, (heads, channels, segment, segments, planes * channels), len(ranges), tasks)


class _Work:
    """One call: its tensors, and what is done with them."""

    def __init__(self, given: Mapping[str, Tensor], knobs: Knobs, **written: Tensor) -> None:
        self.tensors = {**{name: rows_of_channels(x) for name, x in given.items()}, **written}
        self._like, self._knobs = self.tensors["query"], knobs
        self._wide = accumulator_dtype(self._like.dtype)
        batch, heads, rows, channels = self._like.shape
        if heads > 1 and all(map(_heads_are_side_by_side, self.tensors.values())):
            heads, channels = 1, heads * channels
        is_small = self._like.numel() * (knobs.order + 1) < FEWEST_TERMS
        workers = 1 if is_small else torch.get_num_threads()
        self._plan = _plan(batch, heads, rows, channels, workers, LINE_BYTES // self._wide.itemsize)
        self.parts = self._plan.parts

    def run(self, kernel: code.Kernel, **sums: Tensor) -> None:
        """Run the kernel on all units and rows."""
        lanes = _lanes(self._wide == torch.float64, self._plan.channels)
        function = _compiled(kernel, self._like.dtype, lanes, self._knobs.order, self._knobs.stabiliser)
        numbers, scale = self._numbers(kernel, sums), self._knobs.scale
        threads.run([partial(function, numbers, scale, *task) for task in self._plan.tasks])

    def uninitialised(self, slots: int) -> Tensor:
        """Room for sums."""
        batch, heads, _, head_dim = self._like.shape
        shape = (slots, 2 * self._knobs.order + 3, batch, heads, head_dim)
        return large(torch.empty(shape, dtype=self._wide))

    def empty_sums(self, slots: int) -> Tensor:
        """Sums of nothing; without the stabiliser their reference is 0."""
        sums = self.uninitialised(slots).zero_()
        if self._knobs.stabiliser:
            sums[:, -1] = -math.inf
        return sums

    def total(self, sums: Tensor, *, adjoint: bool = False) -> Tensor:
        """The sums of all slots together, in one slot; ``adjoint`` sums refer to the lowest reference."""
        if len(sums) == 1:
            return sums
        if not self._knobs.stabiliser:
            return sums.sum(0, keepdim=True)
        tops = sums[:, -1]
        top = tops.amin(0) if adjoint else tops.amax(0)
        total = (sums * torch.exp2(-(tops - top).abs())[:, None]).sum(0, keepdim=True)
        total[:, -1] = top
        return total

    def before_each_part(self, state: Tensor, ranks: Ranks | None = None) -> Tensor:
        """For every part of the rows, the sums of the state [1, ...] and of the parts before, all ranks' in order.

        The state is that before the first rank.
        """
        if self.parts == 1 and ranks is None:
            return state
        own = self.empty_sums(self.parts)
        self.run(ea_cpu_forward.MOMENTS, moments=own)
        earlier = ranks.before(self.total(own)[0]) if ranks else None
        if earlier is not None:
            state = earlier[None]
        return torch.cat(list(accumulate([state, *torch.split(own[:-1], 1)], self._together)))

    def after_each_part(self, kept: Tensor, ranks: Ranks | None = None) -> Tensor:
        """For every part of the rows, the adjoint sums of the parts after, all ranks' in order."""
        own = self.empty_sums(self.parts)
        own[:, -1] = math.inf
        if self.parts == 1 and ranks is None:
            return own
        beyond = own[-1:].clone()  # nothing, after the last part of the last rank
        self.run(ea_cpu_backward.CAUSAL_ADJOINT, kept=kept, adjoint=own)
        later = ranks.after(self.total(own, adjoint=True)[0]) if ranks else None
        if later is not None:
            beyond = later[None]
        together = partial(self._together, adjoint=True)
        after = list(accumulate([beyond, *torch.split(own[1:].flip(0), 1)], together))
        return torch.cat(after[::-1])

    def _together(self, one: Tensor, other: Tensor, *, adjoint: bool = False) -> Tensor:
        return self.total(torch.cat((one, other)), adjoint=adjoint)

    def _numbers(self, kernel: code.Kernel, sums: Mapping[str, Tensor]) -> Any:
        numbers = list(self._plan.sizes)
        for name in kernel.tensors:
            tensor = self.tensors[name]
            numbers += [tensor.data_ptr(), *tensor.stride()[:3]]
        numbers += [sums[name].data_ptr() for name in kernel.sums]
        return (ctypes.c_int64 * len(numbers))(*numbers)


def _heads_are_side_by_side(tensor: Tensor) -> bool:
    return tensor.stride(1) == tensor.shape[-1] and tensor.stride(-1) == 1


def _segment(planes: int, channels: int, workers: int, least: int) -> int:
    """Channels of a unit: all of a plane's, or fewer where that shares the work more evenly."""
    segments = 1
    while planes * segments % workers and planes * segments < 4 * workers and channels > least * segments:
        segments += 1
    return -(-channels // segments // least) * least if segments > 1 else channels


def _ranges(rows: int, parts: int) -> list[tuple[int, int]]:
    """Equal ranges of whole blocks."""
    size = -(-rows // (parts * code.BLOCK)) * code.BLOCK
    return [(first, min(first + size, rows)) for first in range(0, rows, size)]


def _shares(units: int, workers: int) -> list[tuple[int, int]]:
    """Neighbouring units of every worker."""
    workers = min(units, workers)
    edges = [units * worker // workers for worker in range(workers + 1)]
    return list(pairwise(edges))


@cache
def _lanes(double: bool, channels: int) -> Lanes:
    """Of a cache line, or of the narrower vector that holds all channels."""
    size = 8 if double else 4
    width = LINE_BYTES // size
    while width // 2 >= channels and width * size > LEAST_VECTOR_BYTES:
        width //= 2
    return Lanes(double, width)


@cache
def _compiled(kernel: code.Kernel, dtype: torch.dtype, lanes: Lanes, order: int, stabiliser: bool) -> Any:
    form = code.Form(str(dtype).removeprefix("torch."), lanes, order, stabiliser)
    loaded = jit.load(code.write(kernel, form))
    whole = ctypes.c_int64
    return loaded.function(kernel.name, ctypes.c_void_p, ctypes.c_double, *[whole] * 5)
