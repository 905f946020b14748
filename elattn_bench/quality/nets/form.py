"""What a network is built for: the shape of its inputs and of its answers."""

from __future__ import annotations

from dataclasses import dataclass

from elattn_bench.quality.nouns import Kind


@dataclass(frozen=True, slots=True)
class Form:
    """The shapes around a network, without the batch.

    Args:
        kind: ``image``: [B, height, width, channels] -> logits [B, outputs]; ``series``: [B, steps, channels] ->
            logits [B, outputs]; ``forecast``: [B, steps, channels] -> [B, horizon, outputs]; ``language``: tokens
            [B, steps] -> logits [B, steps, outputs].
        shape: of one input: (height, width, channels), (steps, channels) or (steps,).
        outputs: classes, channels to forecast, or tokens.
        horizon: steps to forecast, else 0.
        longest: the longest sequence that it will see, in steps.
    """

    kind: Kind
    shape: tuple[int, ...]
    outputs: int
    horizon: int = 0
    longest: int = 0
