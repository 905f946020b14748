"""What rows are written with."""

from __future__ import annotations

from collections.abc import Mapping

from attention_impls.nouns import Hyperparameter
from attention_impls.spec import Recurrence


def knobs(*known: Hyperparameter) -> Mapping[str, Hyperparameter]:
    """Hyperparameters by their names."""
    return {knob.name: knob for knob in known}


def recurrence(module: str) -> Recurrence:
    """The recurrent form of a family file, under the names that they all use."""
    return Recurrence(f"{module}:init_state", f"{module}:prefill", f"{module}:step", f"{module}:merge")


def cached(prefill: str, step: str) -> Recurrence:
    """A recurrent form whose state is a KV cache."""
    module = "attention_impls.kv_cache"
    return Recurrence(f"{module}:init_state", prefill, step, f"{module}:merge", in_place=True)
