"""The roofline: how near a case came to what its device was measured to reach (Williams et al. 2009). No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from attention_impls import Cost
from elattn_bench.units import Bytes

IMPLAUSIBLE = 1.05  # of a ceiling; the ceilings themselves are measured to a few per cent


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a device reached in simple work; ``UNKNOWN`` where nobody measured.

    dram_bytes_per_s: copying a working set far larger than the caches; bytes read plus bytes written.
    cache_bytes_per_s: the best rate over working sets that fit into the last-level cache.
    cache_bytes: size of the last-level cache: a case that moves less may have run from it.
    matmul_flops_per_s: by dtype, a large square product; a multiply-add counts two.
    """

    UNKNOWN: ClassVar[Ceilings]

    dram_bytes_per_s: float | None = None
    cache_bytes_per_s: float | None = None
    cache_bytes: Bytes | None = None
    matmul_flops_per_s: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Ceilings:
        """The ceilings as run.json holds them; those that lack are unknown."""
        return cls(**{name: stored[name] for name in cls.__dataclass_fields__ if name in stored})

    def fraction(self, dtype: str, cost: Cost, seconds: float) -> float | None:
        """Time that the ceilings allow for the cost, over the time it took: 1 is the roof.

        The larger of bytes / bandwidth and flops / matmul rate; None where neither is known.
        """
        times = []
        if bandwidth := self._bandwidth(cost.bytes):
            times.append(cost.bytes / bandwidth)
        if rate := self.matmul_flops_per_s.get(dtype):
            times.append(cost.flops / rate)
        return max(times) / seconds if times else None

    def implausible(self, fraction: float) -> str | None:
        """Why such a fraction cannot be trusted; None when it can."""
        if fraction <= IMPLAUSIBLE:
            return None
        return (
            f"implausible: {fraction:.2f} times what this device was measured to reach; the work was not done, "
            "or the ceilings were measured while the machine was busy (see: elattn-bench env)"
        )

    def _bandwidth(self, moved: Bytes) -> float | None:
        in_cache = self.cache_bytes is not None and moved <= self.cache_bytes
        return self.cache_bytes_per_s if in_cache else self.dram_bytes_per_s


Ceilings.UNKNOWN = Ceilings()
