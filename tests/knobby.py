"""Attentions with knobs of every type, and one whose backend depends on the length; no op of them is called."""

from __future__ import annotations

from typing import Any

from attention_impls import AttentionSpec, Backend, Cost, Hyperparameter, Paper, Problem


def no_fewer_than_one(value: Any) -> str | None:
    return "it is 1 or more" if value < 1 else None


def anything(value: Any) -> str | None:
    return None


def one_of_two(value: Any) -> str | None:
    return None if value in ("none", "sum") else "it is one of: none, sum"


def knob(name: str, default: Any, refusal: Any = anything) -> Hyperparameter:
    return Hyperparameter(name, default, f"the knob {name}", refusal)


def spec(*knobs: Hyperparameter, **others: Any) -> AttentionSpec:
    backends = others.pop("backends", {"eager": Backend("knobby:nothing", "made up")})
    return AttentionSpec(
        name="knobby", summary="made up", paper=Paper("Nobody", 2026, "None", "0000.00000"), formula="-",
        time="-", memory="-", growth="linear", causal_form="defined", backends=backends,
        oracle_target="knobby:nothing", cost=lambda problem: Cost(problem.elements, problem.elements),
        hyperparameters={each.name: each for each in knobs}, **others,
    )  # fmt: skip


def shorter_than_1k(problem: Problem) -> str:
    return "direct" if problem.seq_len < 1024 else "efficient"


COUNT = knob("latents", 64, no_fewer_than_one)
every = spec(
    COUNT, knob("order", 2), knob("scale", 1.0, no_fewer_than_one), knob("gate", True),
    knob("pool", "sum", one_of_two), knob("window", None),
)  # fmt: skip
latents = spec(COUNT)
windowed = spec(COUNT, knob("window", 8, no_fewer_than_one))
bare = spec()
by_length = spec(
    choose=shorter_than_1k,
    backends={name: Backend("knobby:nothing", name) for name in ("efficient", "direct")},
)
