"""What each step of the fused CPU kernel gains: the whole, and the whole with one step left out, in turns.

    python docs/results/kernel_steps.py [rounds]

L = 16k, dim 512, heads 8, order 6, float32. Prints medians with quartiles, and shares of the time that copying as
many bytes takes. Every step is taken out by replacing a part of the kernels from outside.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from attention_impls.kernels import ea_cpu, ea_cpu_code
from attention_impls.kernels.vectors import Lanes

KNOBS: dict[str, Any] = {"order": 6, "scale": 1.0}


@dataclass(frozen=True)
class Variant:
    """The kernels' choices; the defaults are what ships."""

    large_pages: bool = True
    prefetch: bool = True
    tile: int = 2
    line: bool = True
    block: int = ea_cpu_code.BLOCK
    stabiliser: bool = True


WHOLE = Variant()
VARIANTS = {
    "as it ships": WHOLE,
    "pages of 4 KiB": replace(WHOLE, large_pages=False),
    "no prefetch": replace(WHOLE, prefetch=False),
    "full: rows one by one": replace(WHOLE, tile=1),
    "vectors of half a line": replace(WHOLE, line=False),
    "blocks of 32 rows": replace(WHOLE, block=32),
    "blocks of 512 rows": replace(WHOLE, block=512),
    "no stabiliser": replace(WHOLE, stabiliser=False),
}
FORMS = {
    "full": (False, False),
    "causal": (True, False),
    "full, train": (False, True),
    "causal, train": (True, True),
}

_ours = (ea_cpu.large, ea_cpu_code.Group.stream, ea_cpu_code.Group.__init__, ea_cpu._lanes)
_compile = ea_cpu._compiled.__wrapped__


def choose(variant: Variant, compiled: Callable[..., Any]) -> None:
    """Make the kernels those of the variant."""
    large, stream, init, lanes = _ours

    def with_tile(self: Any, code: Any, form: Any, numbers: Any, part: Any, unit: Any, tile: int) -> None:
        init(self, code, form, numbers, part, unit, min(tile, variant.tile))

    def half_a_line(double: bool, channels: int) -> Lanes:
        return Lanes(double, lanes(double, channels).width // 2)

    ea_cpu.large = large if variant.large_pages else lambda tensor: tensor
    ea_cpu_code.Group.stream = stream if variant.prefetch else ea_cpu_code.Group.load
    ea_cpu_code.Group.__init__ = with_tile
    ea_cpu._lanes = lanes if variant.line else half_a_line
    ea_cpu_code.BLOCK = variant.block
    ea_cpu._compiled = compiled
    ea_cpu._plan.cache_clear()


def main(rounds: int) -> None:
    """Print the table."""
    query, key, value, upstream = torch.randn(4, 1, 8, 16 * 1024, 64).unbind()
    targets = torch.empty_like(query), torch.empty_like(key)
    compiled = {variant: cache(_compile) for variant in VARIANTS.values()}

    def call(variant: Variant, causal: bool, train: bool) -> float:
        choose(variant, compiled[variant])
        knobs = {**KNOBS, "causal": causal, "stabiliser": variant.stabiliser}
        start = time.perf_counter()
        _, moments = ea_cpu.forward(query, key, value, keep=train, **knobs)
        if train:
            ea_cpu.backward(query, key, value, upstream, moments, **knobs)
        return time.perf_counter() - start

    def copy() -> float:
        start = time.perf_counter()
        for target, source in zip(targets, (query, key), strict=True):
            target.copy_(source)
        return time.perf_counter() - start

    print(f"{torch.get_num_threads()} threads, medians [quartiles] of {rounds} rounds")
    for form, (causal, train) in FORMS.items():
        took: dict[str, list[float]] = {name: [] for name in (*VARIANTS, "copy")}
        for number in range(rounds + 1):
            order = list(VARIANTS)
            random.Random(number).shuffle(order)
            for name in order:
                took[name].append(call(VARIANTS[name], causal, train))
            took["copy"].append(copy())
        found = {name: np.percentile(times[1:], [50, 25, 75]) * 1e3 for name, times in took.items()}
        tensors = 11 if train else 4
        print(f"\n{form}: {tensors} tensors, copied in {found['copy'][0] * tensors / 4:.1f} ms")
        for name in VARIANTS:
            middle, low, high = found[name]
            print(
                f"  {name:24s}{middle:7.1f} ms [{low:.1f}, {high:.1f}]"
                f"{middle / found['as it ships'][0]:7.2f} x"
                f"   share of copy {found['copy'][0] * tensors / 4 / middle:.2f}"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
