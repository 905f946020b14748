"""What a case comes to when its ranks do not all have a result: one row, which names the rank at fault. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from elattn_bench.results import Skipped

LEFT_ALONE = re.compile(
    r"gloo|nccl|Connection (closed|reset|refused)|DistBackendError|DistNetworkError|DistStoreError",
    re.IGNORECASE,
)
"""How an exchange fails where another rank has gone: a consequence, not a reason."""


def failure(results: Mapping[int, Any], ranks: int) -> Skipped | None:
    """Why the case has no measurement; None where every rank has a result.

    Args:
        results: by rank, in the order in which they came, without ranks that were ended because others failed.
        ranks: how many there are.
    """
    skipped = {rank: each for rank, each in results.items() if isinstance(each, Skipped)}
    if not skipped:
        return None
    rank, worst = min(skipped.items(), key=lambda item: _order(item[1]))  # min: the first of several alike
    agreed = len(skipped) == ranks and len({(each.status, each.reason) for each in skipped.values()}) == 1
    if agreed:
        return replace(worst, details=_of_every(skipped))
    return replace(worst, reason=f"rank {rank} of {ranks}: {worst.reason}")


def _of_every(skipped: Mapping[int, Skipped]) -> str:
    """What each rank told: where one hangs, the others wait for it, and only their stacks tell which is which."""
    told = {rank: each.details for rank, each in sorted(skipped.items()) if each.details}
    return "\n".join(f"rank {rank}:\n{details.rstrip()}" for rank, details in told.items())


def _order(skipped: Skipped) -> int:
    """How near to the origin of the trouble it is; less is nearer."""
    if skipped.status == "oom":
        return 0
    if skipped.status == "timeout":  # after it whoever waits for this rank gives up too
        return 2
    return 3 if LEFT_ALONE.search(skipped.reason) else 1
