"""Attention over a sequence that is spread over ranks, on ``torch.distributed``; each family's form in its own file."""

from __future__ import annotations

from typing import Any

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
    spec = get(attention)
    forms = {name: known.sharding for name, known in spec.backends.items() if known.sharding}
    form = forms.get(backend or next(iter(forms), ""))
    if form is None:
        known = f"; those with one: {', '.join(forms)}" if forms else ""
        raise Unsupported(f"{attention}{f'/{backend}' if backend else ''} has no form for ranks{known}")
    return form.op(query, key, value, exchange, causal=causal, **hyperparameters)
