"""Attentions whose truth is known: the self-test measures them, and what is found must be what they do. No torch.

Each returns the sum of query, key and value: correct in output and gradients unless its summary says
otherwise. Faults wait for sequences longer than the gate's, so that they strike while a case is timed.
"""

from __future__ import annotations

from attention_impls import AttentionSpec, Cost, Problem
from attention_impls.nouns import Paper
from attention_impls.spec import Backend
from elattn_bench.units import Bytes, Seconds

OPS = "elattn_bench.selftest_ops"
SCRATCH_PER_TOKEN: Bytes = 1024  # a multiple of 512, to which CUDA's allocator rounds
LEAK: Bytes = 96 * 2**20  # per call; the fewest calls of a case, 6, then leave more than is tolerated
LEAK_CALL: Seconds = 0.06  # how long such a call takes: the most calls of a --quick case stay below 2 GiB
ALLOCATION: Bytes = 64 * 2**20  # the piece in which memory is taken until there is none left
EXIT_CODE = 3


def spec(target: str, summary: str) -> AttentionSpec:
    """The attention of an op ``module:function`` that claims to return the sum of query, key and value."""
    return AttentionSpec(
        name=target,
        summary=summary,
        paper=Paper("elattn-bench", 2025, "its self-test", "none"),
        formula="Q + K + V",
        time="O(L D)",
        memory="O(L D)",
        growth="linear",
        causal_form="defined",
        backends={"eager": Backend(target, summary)},
        oracle_target=f"{OPS}:oracle",
        cost=_cost,
        per_channel=True,
    )


def _cost(problem: Problem) -> Cost:
    return Cost(2 * problem.elements, 4 * problem.elements * problem.element_size)


busy = spec(f"{OPS}:busy", "waits seq_len microseconds, and twice as long backward")
allocating = spec(f"{OPS}:allocating", "holds 1024 seq_len bytes of scratch")
wrong = spec(f"{OPS}:wrong", "is off by 1 %")
wrong_gradient = spec(f"{OPS}:wrong_gradient", "is right, with gradients off by 1 %")
leaking = spec(f"{OPS}:leaking", "keeps 96 MiB of every call")
hanging = spec(f"{OPS}:hanging", "sleeps in native code without letting Python's lock go")
killed = spec(f"{OPS}:killed", "is killed, as by the system's OOM killer")
crashing = spec(f"{OPS}:crashing", "reads address 0")
leaving = spec(f"{OPS}:leaving", "ends its process")
too_large = spec(f"{OPS}:too_large", "takes seq_len MiB in pieces of 64 MiB")
