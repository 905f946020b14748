"""The gate for ranks: the group's own output and gradients against the float64 oracle of the whole sequence.

Nothing is remembered: a rank that is new in the group would compare while the others do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attention_impls.sharded.exchange import Exchange
from attention_impls.sharding import Sharding, shard_lengths
from elattn_bench import gate
from elattn_bench.cases import Case
from elattn_bench.gate import Drawn, GateError
from elattn_bench.ranks.lockstep import Agreement

PER_RANK = 3  # positions at least, so that a rank can hold fewer than another


def check(case: Case, form: Sharding, exchange: Exchange, agreement: Agreement, std: float) -> GateError:
    """The worst errors over all ranks, of the case's kind at a small length in shards of several lengths."""
    length = min(case.seq_len, max(gate.gate_length(case), PER_RANK * exchange.size))
    kind = replace(case, batch=1, seq_len=length)
    return worst(agreement.every(_of_own_rows(kind, form, exchange, std)))


def worst(errors: Iterable[GateError]) -> GateError:
    """What holds of the group: the first broken contract, with its rank, and the greatest of every figure."""
    every = list(errors)
    broken = (f"rank {rank}: {each.broken}" for rank, each in enumerate(every) if each.broken)
    return GateError(
        max_abs=_greatest(each.max_abs for each in every),
        rel_rms=_greatest(each.rel_rms for each in every),
        gradient_rel_rms=_greatest(each.gradient_rel_rms for each in every),
        approximation_rel_rms=every[0].approximation_rel_rms,
        outside_band=every[0].outside_band,
        broken=next(broken, None),
    )


def uneven_lengths(length: int, ranks: int) -> list[int]:
    """Lengths of shards that are not all alike: the last rank has half of the first one's too."""
    lengths = shard_lengths(length, ranks)
    moved = lengths[0] // 2 if ranks > 1 else 0
    return [lengths[0] - moved, *lengths[1:-1], lengths[-1] + moved] if ranks > 1 else lengths


def _greatest(values: Iterable[float | None]) -> float | None:
    """The greatest; NaN if one is, for it must not pass."""
    known = [value for value in values if value is not None]
    return max(known, key=lambda value: (value != value, value), default=None)


def _of_own_rows(kind: Case, form: Sharding, exchange: Exchange, std: float) -> GateError:
    """This rank's part of the comparison; every rank draws the whole short sequence."""
    drawn, rows = gate.draw(kind, std), _rows(kind.seq_len, exchange)
    keywords = {"causal": kind.causal, **kind.problem.hyperparameters}
    shard = Drawn([x[:, :, rows].clone() for x in drawn.qkv], {}, {}, drawn.upstream[:, :, rows].clone())
    before = [x.clone() for x in shard.qkv]
    gradients = kind.mode == "train"
    found = gate.run(_with(form.op, exchange), shard, keywords, gradients)
    if broken := gate.broken_contract(found, [shard.qkv[2], *shard.qkv], shard.qkv, before):
        return GateError(broken=broken)
    doubles = drawn.map(torch.Tensor.double)
    truth = gate.run(kind.spec.oracle, doubles, keywords, gradients)
    approximation, outside = gate.approximation_error(kind, doubles.qkv, truth[0])
    output, *mine = found
    own, *true = (x[:, :, rows] for x in truth)
    return GateError(
        max_abs=float((output.double() - own).abs().max()),
        rel_rms=gate.relative_rms(output, own),
        gradient_rel_rms=max(map(gate.relative_rms, mine, true), default=None),
        approximation_rel_rms=approximation,
        outside_band=outside,
    )


def _rows(length: int, exchange: Exchange) -> slice:
    lengths = uneven_lengths(length, exchange.size)
    first = sum(lengths[: exchange.rank])
    return slice(first, first + lengths[exchange.rank])


def _with(op: Callable[..., Tensor], exchange: Exchange) -> Callable[..., Tensor]:
    def call(query: Tensor, key: Tensor, value: Tensor, **keywords: Any) -> Tensor:
        return op(query, key, value, exchange, **keywords)

    return call
