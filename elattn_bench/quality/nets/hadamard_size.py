"""How large the element-wise-attention network is, and its parameters. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from elattn_bench.errors import UsageError
from elattn_bench.quality.nets.sizes import budget, dense, largest, need
from elattn_bench.quality.nouns import Form

POOLS = (1, 2, 4)
"""Sides of the squares of pixels that may be averaged before the network, the smallest first."""

MOST_FEATURES = 4
"""Features that a hidden unit may stand for. Ours, chosen on held-out training images: where it would stand for more,
a coarser image with more units was better."""

ARRAYS = 6
"""Arrays of a block: weight and bias of query, key and value; its norm has none."""


@dataclass(frozen=True, slots=True)
class HadamardSize:
    """Sizes of the element-wise-attention network.

    Args:
        pool: side of the squares of pixels that are averaged first.
        features: of the flattened map, each a channel of the first block.
        hidden: width between the dense layers, each a channel of the second block.
        outputs: classes.
    """

    pool: int
    features: int
    hidden: int
    outputs: int

    @property
    def params(self) -> int:
        """Arrays of both blocks, and the two dense layers between and after them."""
        arrays = ARRAYS * (self.features + self.hidden)
        return arrays + dense(self.features, self.hidden) + dense(self.hidden, self.outputs)


def hadamard_size(form: Form, share: float) -> HadamardSize:
    """The size within a share of VGG's parameters: least pooling, then the widest hidden layer.

    Raises:
        UsageError: even of the most pooled image, a hidden unit would stand for too many features.
    """
    need("hadamard-net", form, "image")
    sizes = (_widest(form, pool, budget("hadamard-net", form, share)) for pool in POOLS)
    wide_enough = next((size for size in sizes if size.hidden * MOST_FEATURES >= size.features), None)
    if wide_enough is None:
        raise UsageError(
            f"hadamard-net cannot be built with {share:g} of the parameters of vgg: its hidden layer would have "
            f"less than a unit for {MOST_FEATURES} features; give a larger share"
        )
    return wide_enough


def _widest(form: Form, pool: int, allowed: int) -> HadamardSize:
    height, width, channels = form.shape
    features = (height // pool) * (width // pool) * channels
    hidden = largest(lambda hidden: HadamardSize(pool, features, hidden, form.outputs).params, allowed)
    return HadamardSize(pool, features, hidden, form.outputs)
