"""The KV cache: keys and values of all tokens so far, the state of attentions that need every one of them.

It grows by a row a token, where the other recurrent forms have a state of fixed size. Rows are written in
place into buffers with room to spare, so that a step copies nothing but its own token.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from attention_impls.nouns import Problem

PAGE = 256
"""Buffers that must grow become a multiple of so many rows: a copy every 256 steps, each of which reads the
whole cache anyway, adds less than a hundredth to their traffic."""


class State(NamedTuple):
    """Keys and values of the tokens so far, in their own dtype.

    keys, values: [batch, heads, capacity, head_dim]. Rows from ``tokens`` on are scratch.
    tokens: how many rows count.

    A step, a prefill and a merge write behind the ``tokens`` rows, in place, and return a state that shares
    the buffers. What the state passed in stands for, its own first rows, is not changed, so stepping twice
    from one state is right both times. But the second step overwrites the row of the first: of two states
    that branch off from one, only the younger can be stepped on from. Copy a state (``copy.deepcopy``) to
    follow both.
    """

    keys: Tensor
    values: Tensor
    tokens: int

    @property
    def held(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the tokens, [batch, heads, tokens, head_dim]: views, not copies."""
        return self.keys[:, :, : self.tokens], self.values[:, :, : self.tokens]

    @property
    def capacity(self) -> int:
        """Rows in the buffers."""
        return self.keys.shape[2]


def init_state(problem: Problem) -> State:
    """The empty cache, with room for the problem's seq_len tokens and one more."""
    shape = (problem.batch, problem.heads, problem.seq_len + 1, problem.head_dim)
    keys = torch.empty(*shape, dtype=getattr(torch, problem.dtype), device=problem.device)
    return State(keys, torch.empty_like(keys), 0)


def extended(state: State | None, key: Tensor, value: Tensor) -> State:
    """The cache after the tokens of key and value, [batch, heads, seq_len, head_dim]; a row stays free."""
    count = key.shape[2]
    if state is None:
        shape = (*key.shape[:2], _room(count), key.shape[3])
        state = State(key.new_empty(shape), value.new_empty(shape), 0)
    return _written(_with_room(state, count + 1), key, value)


def appended(state: State, key: Tensor, value: Tensor) -> State:
    """The cache after one token more, its key and value [batch, heads, head_dim]."""
    return _written(_with_room(state, 1), key[:, :, None], value[:, :, None])


@torch.no_grad()
def merge(earlier: State, later: State) -> State:
    """The cache after the tokens of one and then of another: the later rows behind the earlier ones."""
    # Their buffer may be one: then rows that the later state stands for must not be written over.
    shared = earlier.keys.data_ptr() == later.keys.data_ptr()
    if shared and later.tokens > earlier.tokens:
        earlier = _copied(earlier, _room(earlier.tokens + later.tokens))
    return extended(earlier, *later.held)


def blocks(state: State, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Keys and values of the tokens, so many at a time."""
    keys, values = state.held
    return zip(torch.split(keys, rows, 2), torch.split(values, rows, 2), strict=True)


def past(queries: int, state: State) -> Tensor:
    """Which tokens the last so many of them see, themselves included: [queries, tokens], true where they do."""
    shape = (queries, state.tokens)
    return torch.ones(shape, dtype=torch.bool, device=state.keys.device).tril_(state.tokens - queries)


def _room(tokens: int) -> int:
    """The capacity for so many tokens and at least one more."""
    return (tokens // PAGE + 1) * PAGE


def _with_room(state: State, rows: int) -> State:
    """The state itself if so many more rows fit, else a copy with a larger capacity."""
    tokens = state.tokens + rows
    return state if tokens <= state.capacity else _copied(state, _room(tokens))


def _copied(state: State, capacity: int) -> State:
    shape = (*state.keys.shape[:2], capacity, state.keys.shape[3])
    larger = State(state.keys.new_empty(shape), state.values.new_empty(shape), 0)
    return _written(larger, *state.held)


def _written(state: State, key: Tensor, value: Tensor) -> State:
    tokens = state.tokens + key.shape[2]
    state.keys[:, :, state.tokens : tokens] = key
    state.values[:, :, state.tokens : tokens] = value
    return State(state.keys, state.values, tokens)
