"""Recurrent forms that misbehave: ``faulty_steps:wrong`` is linear attention with the step ``Steps.wrong``.

Those in ``CacheSteps`` are softmax attention with another step; ``forgetful`` has no recurrent form at all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import attention_impls
from attention_impls import AttentionSpec, Recurrence

if TYPE_CHECKING:
    from torch import Tensor

LINEAR = attention_impls.get("linear")
MODULE = "attention_impls.linear"
SOFTMAX = attention_impls.get("softmax")

forgetful = replace(
    LINEAR,
    backends={"eager": replace(LINEAR.backends["eager"], recurrence=None)},
    decode_cost=None,
    state_bytes=None,
)


def __getattr__(name: str) -> AttentionSpec:
    if not name.startswith("_") and name in vars(CacheSteps):
        known = SOFTMAX.backends["eager"]
        assert known.recurrence is not None
        cached = replace(known.recurrence, step_target=f"faulty_steps:CacheSteps.{name}")
        return replace(SOFTMAX, backends={"eager": replace(known, recurrence=cached)})
    if name.startswith("_") or name not in vars(Steps):
        raise AttributeError(name)
    recurrence = Recurrence(f"{MODULE}:init_state", f"{MODULE}:prefill", f"faulty_steps:Steps.{name}")
    return replace(LINEAR, backends={"eager": replace(LINEAR.backends["eager"], recurrence=recurrence)})


class Steps:
    """Each is linear attention's step, but for what its name says."""

    @staticmethod
    def right_without_merging(query: Tensor, key: Tensor, value: Tensor, state: Any) -> tuple[Tensor, Any]:
        return LINEAR.step(query, key, value, state)

    @staticmethod
    def off_by_one_per_cent(query: Tensor, key: Tensor, value: Tensor, state: Any) -> tuple[Tensor, Any]:
        output, new = LINEAR.step(query, key, value, state)
        return 1.01 * output, new

    @staticmethod
    def without_the_context(query: Tensor, key: Tensor, value: Tensor, state: Any) -> tuple[Tensor, Any]:
        return value, state

    @staticmethod
    def changes_its_state(query: Tensor, key: Tensor, value: Tensor, state: Any) -> tuple[Tensor, Any]:
        output, new = LINEAR.step(query, key, value, state)
        state.context.copy_(new.context)
        return output, state

    @staticmethod
    def without_a_state(query: Tensor, key: Tensor, value: Tensor, state: Any) -> Tensor:
        return LINEAR.step(query, key, value, state)[0]

    @staticmethod
    def with_a_sequence(query: Tensor, key: Tensor, value: Tensor, state: Any) -> tuple[Tensor, Any]:
        output, new = LINEAR.step(query, key, value, state)
        return output[:, :, None], new

    @staticmethod
    def changes_its_state_later(query: Tensor, key: Tensor, value: Tensor, state: Any) -> tuple[Tensor, Any]:
        output, new = LINEAR.step(query, key, value, state)
        if query.shape[0] > 1:  # the gate's batch is 1
            state.normaliser.add_(1)
        return output, new


class CacheSteps:
    """Each is softmax attention's step, but for what its name says."""

    @staticmethod
    def over_the_last_row(
        query: Tensor, key: Tensor, value: Tensor, state: Any, **knobs: Any
    ) -> tuple[Tensor, Any]:
        output, new = SOFTMAX.step(query, key, value, state, **knobs)
        state.values[:, :, state.tokens - 1] = value
        return output, new

    @staticmethod
    def over_the_last_row_later(
        query: Tensor, key: Tensor, value: Tensor, state: Any, **knobs: Any
    ) -> tuple[Tensor, Any]:
        output, new = SOFTMAX.step(query, key, value, state, **knobs)
        if query.shape[0] > 1:  # the gate's batch is 1
            state.values[:, :, state.tokens - 1] = value
        return output, new
