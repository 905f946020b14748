"""Attentions over ranks of which one rank misbehaves. ``faulty_ranks:dies`` is the AttentionSpec of ``Ops.dies``.

Each returns the sum of its tensors and meets the other ranks on the way, so that one which is missing is missed.
No torch at import.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from attention_impls import AttentionSpec
from attention_impls.sharding import Sharding, scans_received
from attention_impls.spec import Backend
from elattn_bench.selftest_impls import spec

if TYPE_CHECKING:
    from torch import Tensor

    from attention_impls.sharded import Exchange

FAULTY_RANK = 1
TOTAL_BYTES = 4
LONGER_THAN_THE_GATES = 100  # positions of a shard: of these the fault strikes while the case is timed


def __getattr__(name: str) -> AttentionSpec:
    if name.startswith("_") or name not in vars(Ops):
        raise AttributeError(name)
    target = f"faulty_ranks:Ops.{name}"
    form = Sharding(
        target, lambda problem, ranks: min(scans_received(ranks, 1, 0), 1) * TOTAL_BYTES, "one number"
    )
    whole = spec("elattn_bench.selftest_ops:oracle", name)
    return replace(
        whole, backends={"eager": Backend("elattn_bench.selftest_ops:oracle", name, sharding=form)}
    )


def is_struck(query: Tensor, exchange: Exchange) -> bool:
    return exchange.rank == FAULTY_RANK and query.shape[2] > LONGER_THAN_THE_GATES


class Ops:
    @staticmethod
    def sound(query: Tensor, key: Tensor, value: Tensor, exchange: Exchange, *, causal: bool) -> Tensor:
        import torch

        exchange.total(torch.zeros(1))
        return query + key + value

    @staticmethod
    def dies(query: Tensor, key: Tensor, value: Tensor, exchange: Exchange, *, causal: bool) -> Tensor:
        if is_struck(query, exchange):
            os.kill(os.getpid(), signal.SIGSEGV)
        return Ops.sound(query, key, value, exchange, causal=causal)

    @staticmethod
    def lacks_memory(
        query: Tensor, key: Tensor, value: Tensor, exchange: Exchange, *, causal: bool
    ) -> Tensor:
        if is_struck(query, exchange):
            raise MemoryError
        return Ops.sound(query, key, value, exchange, causal=causal)

    @staticmethod
    def hangs(query: Tensor, key: Tensor, value: Tensor, exchange: Exchange, *, causal: bool) -> Tensor:
        if is_struck(query, exchange):
            time.sleep(3600)
        return Ops.sound(query, key, value, exchange, causal=causal)

    @staticmethod
    def exchanges_itself(
        query: Tensor, key: Tensor, value: Tensor, exchange: Exchange, *, causal: bool
    ) -> Tensor:
        assert exchange.group is not None
        return Ops.sound(query, key, value, exchange, causal=causal)

    @staticmethod
    def trusts_nobody(
        query: Tensor, key: Tensor, value: Tensor, exchange: Exchange, *, causal: bool
    ) -> Tensor:
        import torch

        if float(exchange.total(torch.ones(1))) != exchange.size:
            raise ValueError("the others are not as they should be")
        return query + key + value

    @staticmethod
    def is_wrong(query: Tensor, key: Tensor, value: Tensor, exchange: Exchange, *, causal: bool) -> Tensor:
        output = Ops.sound(query, key, value, exchange, causal=causal)
        return output * 1.01 if exchange.rank == FAULTY_RANK else output

    @staticmethod
    def turns_wide(query: Tensor, key: Tensor, value: Tensor, exchange: Exchange, *, causal: bool) -> Tensor:
        output = Ops.sound(query, key, value, exchange, causal=causal)
        return output.double() if is_struck(query, exchange) else output
