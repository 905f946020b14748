"""Linear attention whose state fades: what ``retention``, ``mamba-2`` and ``gated-delta`` share.

With a gate g_t <= 0 per token and head, S_t = exp(g_t) S_{t-1} + k_t v_t^T and o_t = q_t^T S_t. A block is a
batch of chunks. Within a chunk the weight of key j at query i is exp(G_i - G_j), G being the gates summed from
the chunk's start: never above one for j <= i, so nothing overflows however long or strong the decay. Between
chunks the states are carried, each scaled by what the chunks after it leave of it. A difference of sums rounds
like the sums: in float32 a weight is right within 6e-8 |G| of itself, G being that of one chunk.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attention_impls.blocks import chunk_rows
from attention_impls.nouns import InvalidArgument


def decayed(
    state: Tensor, query: Tensor, key: Tensor, value: Tensor, gate: Tensor, *, strict: bool = False
) -> tuple[Tensor, Tensor]:
    """A block: its outputs, and the state after it.

    Args:
        state: before the block, [groups, head_dim, head_dim].
        query, key, value: [groups, rows, head_dim].
        gate: [groups, rows], or [groups, 1] where it is the same for all tokens.
        strict: position i sees positions j < i only.
    """
    chunk = min(query.shape[1], chunk_rows(query))
    query, key, value = (chunked(x, chunk) for x in (query, key, value))
    steps = gate[:, None].expand(-1, 1, chunk) if gate.shape[1] == 1 else chunked(gate, chunk)
    total = steps.cumsum(-1)
    end = total[..., -1:]
    sums = (key * torch.exp(end - total)[..., None]).mT @ value
    before, after = states_between(sums, end[..., 0].expand(sums.shape[:2]), state)
    inside = (query @ key.mT) * fading(total, -1 if strict else 0)
    output = inside @ value + (query * torch.exp(total)[..., None]) @ before
    return output.flatten(1, 2), after


def chunked(block: Tensor, chunk: int) -> Tensor:
    """[groups, rows, ...] -> [groups, chunks, rows of a chunk, ...]."""
    return torch.unflatten(block, 1, (-1, chunk))


def fading(total: Tensor, diagonal: int = 0) -> Tensor:
    """What is left at row i of what row j brought, exp(total_i - total_j), and 0 above the diagonal.

    [..., rows] -> [..., rows, rows].
    """
    difference = total[..., :, None] - total[..., None, :]
    # Filled before exp: above the diagonal the difference is positive and may overflow.
    return torch.exp(difference.masked_fill(_above(difference, diagonal), -math.inf))


def states_between(sums: Tensor, ends: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The state before every chunk, and the one after the last.

    Args:
        sums: what each chunk adds to the state after it, [groups, chunks, head_dim, head_dim].
        ends: the gates of each chunk summed, [groups, chunks].
        state: before the first chunk, [groups, head_dim, head_dim].
    """
    reached, weights = fading_between(ends)
    carried = reached[..., None] * state.flatten(1)[:, None]
    running = torch.unflatten(torch.baddbmm(carried, weights, sums.flatten(2)), 2, state.shape[1:])
    return running[:, :-1], running[:, -1].clone()


def fading_between(ends: Tensor) -> tuple[Tensor, Tensor]:
    """What is left before every chunk, and after the last, of the state carried in and of each chunk's sums.

    [..., chunks] -> [..., chunks + 1] and [..., chunks + 1, chunks]. Sums over many chunks are in float64.
    """
    starts = torch.nn.functional.pad(ends.double().cumsum(-1), (1, 0))
    difference = starts[..., :, None] - starts[..., None, 1:]
    weights = torch.exp(difference.masked_fill(_above(difference, -1), -math.inf))
    return torch.exp(starts).to(ends.dtype), weights.to(ends.dtype)


def needed(attention: str, name: str, operand: Tensor | None, shape: torch.Size) -> Tensor:
    """The operand, which the attention cannot do without.

    Raises:
        InvalidArgument: it is None, or its shape is not the wanted one.
    """
    wanted = f"{attention} needs {name}=, a tensor of shape {list(shape)}"
    if operand is None:
        raise InvalidArgument(f"{wanted}; it is None")
    if operand.shape != shape:
        raise InvalidArgument(f"{wanted}; it has shape {list(operand.shape)}")
    return operand


def _above(square: Tensor, diagonal: int) -> Tensor:
    rows, columns = square.shape[-2:]
    return torch.ones(rows, columns, dtype=torch.bool, device=square.device).triu_(diagonal + 1)


def stepped(faded: Tensor, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The output and the state of one token, [batch, heads, head_dim], on a state that has faded already."""
    state = faded + key[..., :, None] * value[..., None, :]
    return (query[..., None, :] @ state).squeeze(-2), state
