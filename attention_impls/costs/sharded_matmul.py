"""What attentions of matrix products exchange over ranks, and what a rank holds, by formula. No torch.

Received bytes are those that ``sharded.exchange.Exchange`` counts on the rank that receives most.
"""

from __future__ import annotations

from dataclasses import replace

from attention_impls import workspaces
from attention_impls.costs.counting import accumulator_size
from attention_impls.hyperparameters import NORMALISATION
from attention_impls.nouns import Problem
from attention_impls.sharding import scans_received, shard_lengths

FLOAT32 = 4  # bytes: what PyTorch's ring attention sends gradients in, and its log-sum-exps are in


def linear_received(problem: Problem, ranks: int) -> int:
    """The sums of phi(k) v^T and of phi(k), once forward and once more, their gradients, backward.

    (head_dim + 1) * batch * dim numbers; full one all-reduce, causal up to ceil(log2(ranks)) messages.
    """
    sums = _head_rows(problem, problem.head_dim + 1)
    return _received(problem, ranks, sums, sums)


def efficient_received(problem: Problem, ranks: int) -> int:
    """The sums of w v^T, of w and the maxima of k; backward the gradient of the context, causal of all.

    (head_dim + 2) * batch * dim numbers, backward head_dim * batch * dim when full. With scaling normalisation
    head_dim * batch * dim both ways, and forward a count of tokens.
    """
    context = _head_rows(problem, problem.head_dim)
    if problem.knob(NORMALISATION) == "scaling":
        return _received(problem, ranks, context + accumulator_size(problem), context)
    sums = _head_rows(problem, problem.head_dim + 2)
    return _received(problem, ranks, sums, sums if problem.causal else context)


def softmax_received(problem: Problem, ranks: int) -> int:
    """All other ranks' keys and values; backward all other ranks' gradients of the rank's own.

    The lengths of the shards, 8 bytes each, are not counted. Causal exchanges as much as full.
    """
    row = 2 * problem.batch * problem.dim * problem.element_size
    backward = (ranks - 1) * problem.backward
    return max(
        row * (problem.seq_len - own + backward * own) for own in shard_lengths(problem.seq_len, ranks)
    )


def ring_received(problem: Problem, ranks: int) -> int:
    """All other ranks' keys and values, backward once more, and every rank's gradients of one shard's.

    As PyTorch's code does it; noted by ``sharded.context_parallel``, not counted.
    """
    if ranks == 1:
        return 0
    shard = 2 * problem.elements // ranks
    passes = (ranks - 1) * (1 + problem.backward)
    return shard * (passes * problem.element_size + ranks * FLOAT32 * problem.backward)


def linear_workspace(problem: Problem, ranks: int) -> int:
    """As much as ``linear`` alone on the longest shard: what is exchanged comes before the block's temporaries."""
    return workspaces.linear(_longest(problem, ranks))


def efficient_workspace(problem: Problem, ranks: int) -> int:
    """As ``efficient`` alone on the longest shard, and the sums once more. With softmax normalisation."""
    alone = workspaces.efficient(_longest(problem, ranks))
    return alone + (_head_rows(problem, problem.head_dim) if ranks > 1 else 0)


def softmax_workspace(problem: Problem, ranks: int) -> int:
    """All keys and values, on their way in once more; with gradients theirs too. It grows with seq_len, not ranks.

    Causal on a CPU the last rank holds most: earlier keys and values, and its own part's output or gradients.
    """
    shard = _longest(problem, ranks)
    alone, own = workspaces.softmax_fused(shard), shard.elements * shard.element_size
    if ranks == 1:
        return alone
    every = problem.elements * problem.element_size
    if not problem.causal or problem.device == "cuda":
        return 4 * every - 2 * own + alone if problem.backward else max(3 * every - own, 2 * every + alone)
    earlier = every - own
    if problem.backward:
        return 4 * earlier + own + alone
    wide = 3 * shard.elements * FLOAT32 if problem.element_size < FLOAT32 else own  # what joins two outputs
    return 2 * earlier + max(earlier, alone + own, 2 * own + wide)


def _longest(problem: Problem, ranks: int) -> Problem:
    return replace(problem, seq_len=shard_lengths(problem.seq_len, ranks)[0])


def _received(problem: Problem, ranks: int, forward: int, backward: int) -> int:
    """Of state that all ranks sum, or scan when causal."""
    backward *= problem.backward
    if problem.causal:
        return scans_received(ranks, forward, backward)
    return forward + backward if ranks > 1 else 0


def _head_rows(problem: Problem, rows: int) -> int:
    """Bytes of so many rows of width head_dim for every head, in the dtype of sums."""
    return rows * problem.batch * problem.dim * accumulator_size(problem)
