"""The roofline: how near a case came to what its device was measured to reach (Williams et al. 2009). No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

from attention_impls import Cost
from attention_impls.nouns import ELEMENT_SIZE
from elattn_bench.units import Bytes, Seconds, significant

IMPLAUSIBLE = 1.05  # of a ceiling; the ceilings themselves are measured to a few per cent
CEILINGS_TIMEOUT: Seconds = 120.0  # to measure them: two seconds, and a minute on a machine in trouble
TF32 = "tf32"
"""Float32 tensors multiplied with 10 bits of mantissa: a GPU's way, and what some float32 kernels use."""

# A device may do a case's arithmetic in the case's own dtype or in a wider one, never in a narrower one.
_WIDTH: Mapping[str, int] = {**ELEMENT_SIZE, TF32: ELEMENT_SIZE["float32"]}
_PREFIXES = ("", "k", "M", "G", "T", "P")


@dataclass(frozen=True, slots=True)
class Roof:
    """The least time that the ceilings allow for a call, and which of them sets it, for people."""

    seconds: Seconds
    limit: str
    others_share: float | None = None

    def fraction(self, took: Seconds) -> float:
        """The least time over the time it took: 1 is the roof."""
        return self.seconds / took

    def implausible(self, took: Seconds) -> str | None:
        """Why such a time cannot be trusted; None when it can."""
        if self.fraction(took) <= IMPLAUSIBLE:
            return None
        busy = f"; other processes used {self.others_share:.0%} of the CPU then" if self.others_share else ""
        return (
            f"implausible: {self.fraction(took):.2f} times this device's {self.limit}; either the work was not "
            f"done, or that ceiling was measured too low{busy}: compare elattn-bench env, and sweep again"
        )


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a device reached in simple work; ``UNKNOWN`` where nobody measured.

    dram_bytes_per_s: streaming through a working set far larger than the caches: the best of copying it,
        updating it in place and summing it; bytes read plus bytes written.
    cache_bytes_per_s: the best of the same over working sets that fit into the last-level cache.
    cache_bytes: size of the last-level cache: so much can be found in it by each pass over the data.
    matmul_flops_per_s: by dtype (and ``tf32``), square products; a multiply-add counts two.
    copy_bytes_per_s: of copying alone, by ``dram`` and ``cache``; to compare with other tools' figures.
    others_share: of the CPU, what other processes used meanwhile; much of it makes ceilings too low.
    """

    UNKNOWN: ClassVar[Ceilings]

    dram_bytes_per_s: float | None = None
    cache_bytes_per_s: float | None = None
    cache_bytes: Bytes | None = None
    matmul_flops_per_s: Mapping[str, float] = field(default_factory=dict)
    copy_bytes_per_s: Mapping[str, float] = field(default_factory=dict)
    others_share: float | None = None

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Ceilings:
        """The ceilings as run.json holds them; those that lack are unknown."""
        return cls(**{each.name: stored[each.name] for each in fields(cls) if each.name in stored})

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads."""
        return asdict(self)

    def rates(self) -> dict[str, float]:
        """Every rate that is known, by its name."""
        return {
            **{f"stream {place}": rate for place, rate in self._bandwidths().items()},
            **{f"copy {place}": rate for place, rate in self.copy_bytes_per_s.items()},
            **{f"matmul {name}": rate for name, rate in self.matmul_flops_per_s.items()},
        }

    def best_of(self, other: Ceilings) -> Ceilings:
        """The higher of each ceiling: a device reaches what it reached once."""
        return Ceilings(
            max(_known(self.dram_bytes_per_s, other.dram_bytes_per_s), default=None),
            max(_known(self.cache_bytes_per_s, other.cache_bytes_per_s), default=None),
            self.cache_bytes if self.cache_bytes is not None else other.cache_bytes,
            _higher_of_each(self.matmul_flops_per_s, other.matmul_flops_per_s),
            _higher_of_each(self.copy_bytes_per_s, other.copy_bytes_per_s),
            min(_known(self.others_share, other.others_share), default=None),
        )

    def roof(self, dtype: str, cost: Cost, *, cache: str = "hot", passes: int = 1) -> Roof | None:
        """The least time for the cost, so bounded that honest work is never faster; None where nothing is known.

        The longest of three: the arithmetic at the highest matmul rate of the dtype or a wider one; all
        bytes at the cache's bandwidth; and what the cache cannot hold at the memory's. Each pass finds at
        most ``cache_bytes`` of its data left in the cache by the one before; from a cold cache, the first
        finds none.

        Args:
            cost: the minimal work of one call.
            cache: ``hot`` or ``cold``, as the case was timed.
            passes: how often a call goes through its data, as ``passes`` counts.
        """
        found = (self.cache_bytes or 0) * (passes if cache == "hot" else passes - 1)
        roofs = [
            _at_rate(max(0, cost.bytes - found), self.dram_bytes_per_s, "memory bandwidth", "B/s"),
            _at_rate(cost.bytes, self.cache_bytes_per_s, "cache bandwidth", "B/s"),
            _at_rate(cost.flops, self.matmul_rate(dtype), "matmul rate", "FLOP/s"),
        ]
        highest = max(filter(None, roofs), key=lambda roof: roof.seconds, default=None)
        return replace(highest, others_share=self.others_share) if highest else None

    def facts(self) -> dict[str, str]:
        """The ceilings that are known, named and written for people."""
        named = {
            f"bandwidth, {_PLACES[place]}": format_rate(best, "B/s") + self._copy_fact(place)
            for place, best in self._bandwidths().items()
        }
        rates = {
            f"matmul {name}": format_rate(rate, "FLOP/s") for name, rate in self.matmul_flops_per_s.items()
        }
        busy = (
            {} if self.others_share is None else {"CPU used by others meanwhile": f"{self.others_share:.0%}"}
        )
        return {**named, **rates, **busy}

    def _bandwidths(self) -> dict[str, float]:
        known = {"dram": self.dram_bytes_per_s, "cache": self.cache_bytes_per_s}
        return {place: best for place, best in known.items() if best is not None}

    def _copy_fact(self, place: str) -> str:
        copying = self.copy_bytes_per_s.get(place)
        return f" (copying {format_rate(copying, 'B/s')})" if copying else ""

    def matmul_rate(self, dtype: str) -> float | None:
        """The highest rate at which work of that dtype may have been multiplied; None where nobody measured it."""
        # A dtype that nobody measured stays unknown: a wider one's rate may be far below it.
        if dtype not in self.matmul_flops_per_s:
            return None
        rates = self.matmul_flops_per_s.items()
        return max(rate for name, rate in rates if _WIDTH.get(name, 0) >= _WIDTH[dtype])


Ceilings.UNKNOWN = Ceilings()
_PLACES = {"dram": "memory", "cache": "cache"}


def passes(level: str, mode: str) -> int:
    """How often a call goes through its data, and back, in training.

    A layer: projections, core, output. A block: those, two norms, and into the MLP's hidden layer and out.
    """
    return {"op": 1, "layer": 3, "block": 7}[level] * (2 if mode == "train" else 1)


def format_rate(per_second: float, unit: str) -> str:
    """A rate for people, with a decimal prefix: ``77.5 GB/s``, ``1.21 TFLOP/s``."""
    power = 0
    while per_second >= 1000 and power < len(_PREFIXES) - 1:
        per_second, power = per_second / 1000, power + 1
    return f"{significant(per_second, 3)} {_PREFIXES[power]}{unit}"


def _at_rate(work: int, per_second: float | None, name: str, unit: str) -> Roof | None:
    if not work or not per_second:
        return None
    return Roof(work / per_second, f"{name} of {format_rate(per_second, unit)}")


def _known(*values: float | None) -> list[float]:
    return [value for value in values if value is not None]


def _higher_of_each(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in (*one, *other)}
