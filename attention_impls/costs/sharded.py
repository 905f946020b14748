"""What a rank of a spread ``ea-series`` receives and holds, by formula. No torch.

Received bytes are those that ``sharded.exchange.Exchange`` counts, of the rank that receives most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from attention_impls.costs.counting import accumulator_size, token_elements
from attention_impls.hyperparameters import ORDER, STABILISER
from attention_impls.nouns import Problem
from attention_impls.sharding import scans_received, shard_lengths

EXCHANGED_SETS = (
    4  # of packed sums: what is sent, what was received last, what both become, what has come beyond
)


def ea_series_received(problem: Problem, ranks: int) -> int:
    """With b bytes for a sum of each of the batch * dim channels, whatever the seq_len:

    full: forward b (2 (t + 1) + 1), the moments and their reference; backward b 2 (t + 1).
    causal: b (2 (t + 1) + 1) for every round of a scan: ceil(log2(ranks)) forward for the last rank, backward for
        the first. A rank between receives fewer in each, and with gradients the one with the greatest sum counts.
    Without the stabiliser no reference is sent.
    """
    if ranks == 1:
        return 0
    row = token_elements(problem) * accumulator_size(problem)
    order: int = problem.knob(ORDER)
    sums = 2 * (order + 1) * row
    packed = sums + row * bool(problem.knob(STABILISER))
    if problem.causal:
        return scans_received(ranks, packed, packed if problem.backward else 0)
    return packed + (sums if problem.backward else 0)


def ea_series_workspace(backend: Callable[[Problem], int]) -> Callable[[Problem, int], int]:
    """The workspace of a rank: that of its backend on the longest shard, and the sums that are exchanged."""

    def workspace(problem: Problem, ranks: int) -> int:
        shard = replace(problem, seq_len=shard_lengths(problem.seq_len, ranks)[0])
        packed = (2 * problem.knob(ORDER) + 3) * token_elements(problem) * accumulator_size(problem)
        return backend(shard) + (EXCHANGED_SETS * packed if ranks > 1 else 0)

    return workspace
