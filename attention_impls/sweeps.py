"""A causal sweep over blocks of positions with a state carried from one to the next, and its gradient.

The attentions with decay differ in what they do with a block; how blocks follow each other, forward and
backward, is the same. Backward runs every block again from the state before it, which is all that waits:
the inputs, and one state [head_dim, head_dim] of each head and block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_impls.blocks import causal_blocks, read, write
from attention_impls.chunks import accumulator_dtype

Block = Callable[..., tuple[Tensor, Tensor]]
"""(state [groups, head_dim, head_dim], rows of every tensor [groups, rows, ...]) -> (output, state after).
A group is one head of one batch entry; rows are whole chunks, or one short chunk."""


def empty_state(query: Tensor) -> Tensor:
    """The state before the first token, [batch * heads, head_dim, head_dim], wide."""
    batch, heads, _, head_dim = query.shape
    dtype = accumulator_dtype(query.dtype)
    return query.new_zeros(batch * heads, head_dim, head_dim, dtype=dtype)


def swept(block: Block, *tensors: Tensor) -> Tensor:
    """The outputs of all positions, from the empty state.

    Args:
        block: what happens to a block.
        tensors: the query and whatever else a block takes, [batch, heads, seq_len, ...].

    Gradients can be taken once, not twice.
    """
    output: Tensor = _Sweep.apply(block, *tensors)  # type: ignore[no-untyped-call]
    return output


@torch.no_grad()
def sweep_on(block: Block, state: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs of all positions, and the state after the last, from any state. Computes no gradients."""
    output, after, _ = _forward(block, state, tensors, keep=False)
    return output, after


class _Sweep(torch.autograd.Function):
    """Forward keeps the state before every block; backward runs the blocks again, the last one first."""

    @staticmethod
    def forward(ctx: Any, block: Block, *tensors: Tensor) -> Tensor:
        keep = any(ctx.needs_input_grad)
        output, _, states = _forward(block, empty_state(tensors[0]), tensors, keep=keep)
        ctx.block, ctx.count = block, len(tensors)
        ctx.save_for_backward(*tensors, *states)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        tensors, states = ctx.saved_tensors[: ctx.count], list(ctx.saved_tensors[ctx.count :])
        needed = ctx.needs_input_grad[1:]
        gradients = [torch.empty_like(x) if need else None for x, need in zip(tensors, needed, strict=True)]
        behind = torch.zeros_like(states[0])
        for rows in reversed(causal_blocks(tensors[0])):
            parts = [read(x, rows).detach().requires_grad_(n) for x, n in zip(tensors, needed, strict=True)]
            found, behind = _block_gradients(ctx.block, states.pop(), parts, read(upstream, rows), behind)
            for gradient in gradients:
                if gradient is not None:
                    write(gradient, rows, found.pop(0))
        return None, *gradients


def _forward(
    block: Block, state: Tensor, tensors: tuple[Tensor, ...], *, keep: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The output, the state at the end, and with ``keep`` those before every block."""
    output, states = torch.empty_like(tensors[0]), []
    for rows in causal_blocks(tensors[0]):
        states += [state] if keep else []
        part, state = block(state, *(read(x, rows) for x in tensors))
        write(output, rows, part)
    return output, state, states


def _block_gradients(
    block: Block, state: Tensor, parts: list[Tensor], upstream: Tensor, behind: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Gradients of those parts that need one, and of the state before the block."""
    with torch.enable_grad():
        carried = state.detach().requires_grad_(True)
        results = block(carried, *parts)
        leaves = [carried, *(part for part in parts if part.requires_grad)]
        before, *found = torch.autograd.grad(results, leaves, (upstream, behind))
    return found, before
