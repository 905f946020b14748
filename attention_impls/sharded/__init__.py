"""Attention over a sequence that is spread over ranks, on ``torch.distributed``; each family's form in its own file."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from attention_impls.nouns import Unsupported
from attention_impls.registry import get
from attention_impls.sharded.exchange import Exchange, Traffic

__all__ = ["Exchange", "Traffic", "attend"]


def attend(
    attention: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    exchange: Exchange,
    *,
    backend: str | None = None,
    causal: bool = False,
    **hyperparameters: Any,
) -> Tensor:
    """Attention over the shards of all ranks: the output at this rank's own positions, differentiable.

    Where gradients are enabled every rank's output requires them, whatever its own tensors do: call backward on
    every rank, or on none. ``torch.compile`` breaks its graph around the call, and refuses it with ``fullgraph``.

    Args:
        attention: a name of the registry.
        query, key, value: this rank's shard, [batch, heads, its seq_len, head_dim]; at least one position.
        exchange: with the other ranks, each of which makes the same call on its own shard.
        backend: the first that has such a form, if not given.

    Raises:
        Unsupported: the attention, or the backend, has no such form.
        InvalidArgument: the tensors or the hyperparameters break the attention's rules. The other ranks then wait
            for this one: end the process.
    """
    given = attention, query, key, value, exchange, backend, causal, hyperparameters
    if torch.compiler.is_compiling():  # first of all: past a break of the graph it no longer says so
        return _uncompiled()(*given)
    return _attend(*given)


def _attend(
    attention: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    exchange: Exchange,
    backend: str | None,
    causal: bool,
    hyperparameters: dict[str, Any],
) -> Tensor:
    spec = get(attention)
    forms = {name: known.sharding for name, known in spec.backends.items() if known.sharding}
    form = forms.get(backend or next(iter(forms), ""))
    if form is None:
        known = f"; those with one: {', '.join(forms)}" if forms else ""
        raise Unsupported(f"{attention}{f'/{backend}' if backend else ''} has no form for ranks{known}")
    return form.op(query, key, value, exchange, causal=causal, **hyperparameters)


@cache
def _uncompiled() -> Callable[..., Tensor]:
    """The call outside of a graph. Not a decorator of it: that imports torch's compiler, a second in every process."""
    reason = "ranks exchange in it through torch.distributed, and count what they receive"
    disabled: Callable[..., Tensor] = torch.compiler.disable(_attend, reason=reason)  # type: ignore[no-untyped-call]
    return disabled
