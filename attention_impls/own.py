"""From a user's function or module to an ``AttentionSpec``: what its signature says, and what nobody knows.

No torch at import; a user's module brings its own.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from inspect import Parameter
from typing import Any

from attention_impls.hyperparameters import refuse_non_bool
from attention_impls.nouns import NO_PAPER, Hyperparameter, InvalidArgument, Problem
from attention_impls.spec import AttentionSpec, Backend, OwnLayer, no_reasons, unknown_cost

FUNCTION = "(query, key, value, *, causal=False, ...)"
MODULE = "__init__(dim, heads) or __init__(dim), and forward(x) or forward(x, *, causal=False)"
UNKNOWN = "unknown"


def spec_of(name: str, thing: object, oracle: object = None, origin: str = "") -> AttentionSpec:
    """The attention that a user's object is.

    Args:
        name: what it is called, in rows and messages.
        thing: an ``AttentionSpec``; a subclass of ``nn.Module`` with ``MODULE``; or a function with
            ``FUNCTION``, whose further parameters become hyperparameters.
        oracle: the same in float64; the object's own attribute ``oracle`` goes first.
        origin: the package that brings it.

    Raises:
        InvalidArgument: it is neither, or its signature breaks a rule; the message says which.
    """
    if isinstance(thing, AttentionSpec):
        return replace(thing, name=name, origin=origin)
    oracle = getattr(thing, "oracle", None) or oracle
    if oracle is not None and not callable(oracle):
        raise InvalidArgument(f"its oracle is a {type(oracle).__name__}, which cannot be called")
    if is_module_class(thing):
        return replace(_of_module(name, thing, oracle), origin=origin)
    if is_module_class(type(thing)):
        raise InvalidArgument("it is a module already built; give its class, for every size builds its own")
    if not callable(thing) or isinstance(thing, type):
        raise InvalidArgument(
            f"it is {_kind(thing)}; an attention is a function {FUNCTION}, "
            "a subclass of torch.nn.Module, or an AttentionSpec"
        )
    return replace(_of_function(name, thing, oracle), origin=origin)


def is_module_class(thing: object) -> bool:
    """Whether it is a class of torch modules; where nobody imported torch, nothing is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(thing, type) and issubclass(thing, torch.nn.Module)


@dataclass(frozen=True)
class Signature:
    """What a callable takes: its leading tensors or sizes are not among these.

    takes_causal: whether it has a parameter ``causal``.
    defaults: of every other parameter that may be given by keyword.
    takes_any: whether it takes any keyword.
    """

    takes_causal: bool
    defaults: Mapping[str, Any]
    takes_any: bool

    @classmethod
    def of(cls, what: str, function: Callable[..., Any], leading: int, wanted: str) -> Signature:
        """The signature after so many leading parameters.

        Args:
            what: names the callable in messages.
            function: whose signature is read.
            leading: how many parameters are given by position.
            wanted: the signature that it should have.

        Raises:
            InvalidArgument: it takes fewer, or others without a default.
        """
        parameters = list(_parameters(what, function).values())
        positional = [each for each in parameters if each.kind in _POSITIONAL]
        any_number = any(each.kind is Parameter.VAR_POSITIONAL for each in parameters)
        if len(positional) < leading and not any_number:
            raise InvalidArgument(
                f"{what} takes {len(positional)} parameters by position, not {leading}: it should take {wanted}"
            )
        rest = [each for each in parameters if each not in positional[:leading]]
        return cls._of_rest(what, [each for each in rest if each.kind not in _VARIABLE], wanted, parameters)

    @classmethod
    def _of_rest(
        cls, what: str, rest: list[Parameter], wanted: str, parameters: list[Parameter]
    ) -> Signature:
        for each in rest:
            if each.default is Parameter.empty and each.name != "causal":
                raise InvalidArgument(
                    f"{what} has the parameter '{each.name}' without a default, and nobody gives it a value: "
                    f"it should take {wanted}, any further parameter with a default"
                )
        named = {each.name: each.default for each in rest if each.kind is not Parameter.POSITIONAL_ONLY}
        takes_any = any(each.kind is Parameter.VAR_KEYWORD for each in parameters)
        defaults = {name: default for name, default in named.items() if name != "causal"}
        return cls("causal" in named, defaults, takes_any)

    def takes(self, name: str) -> bool:
        """Whether the parameter may be given by keyword."""
        return self.takes_any or name in self.defaults


_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def _parameters(what: str, function: Callable[..., Any]) -> Mapping[str, Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise InvalidArgument(
            f"the signature of {what} cannot be read; wrap it in a function of your own"
        ) from None


def _of_function(name: str, function: Callable[..., Any], oracle: Callable[..., Any] | None) -> AttentionSpec:
    found = Signature.of("the function", function, 3, FUNCTION)
    op = function if found.takes_causal else _without_causal(function)
    summary = _first_line(function) or "your own function"
    return AttentionSpec(
        **_unknown(name, summary, found.takes_causal, op),
        oracle_target=None if oracle is None else _oracle_of_function(oracle, found),
        hyperparameters={
            knob: _hyperparameter(knob, default)
            for knob, default in found.defaults.items()
            if default is None or type(default) in _WORDS
        },
    )


def _unknown(name: str, summary: str, takes_causal: bool, op: Callable[..., Any]) -> dict[str, Any]:
    """The fields of a spec of which nobody knows more."""
    requires = no_reasons if takes_causal else _full_only
    return {
        "name": name,
        "summary": summary,
        "paper": NO_PAPER,
        "formula": UNKNOWN,
        "time": UNKNOWN,
        "memory": UNKNOWN,
        "growth": "unknown",
        "causal_form": "defined",
        "backends": {"eager": Backend(op, summary, requires)},
        "cost": unknown_cost,
        "averages": False,
    }


def _full_only(problem: Problem) -> list[str]:
    return ["it has no parameter 'causal', so it is measured without; use --no-causal"] * problem.causal


def _without_causal(function: Callable[..., Any]) -> Callable[..., Any]:
    def op(*tensors: Any, causal: bool = False, **knobs: Any) -> Any:
        if causal:
            raise InvalidArgument("this attention has no parameter 'causal'")
        return function(*tensors, **knobs)

    return op


def _oracle_of_function(oracle: Callable[..., Any], op: Signature) -> Callable[..., Any]:
    """The oracle, called with the op's own defaults, whatever its are."""
    found = Signature.of("the oracle", oracle, 3, f"what the function takes, {FUNCTION}")
    _check_same("the oracle", found, op)
    plain = oracle if found.takes_causal or found.takes_any else _without_causal(oracle)

    def truth(*tensors: Any, causal: bool = False, **knobs: Any) -> Any:
        return plain(*tensors, causal=causal, **{**op.defaults, **knobs})

    return truth


def _check_same(what: str, oracle: Signature, op: Signature) -> None:
    lacking = [name for name in op.defaults if not oracle.takes(name)]
    if op.takes_causal and not (oracle.takes_causal or oracle.takes_any):
        lacking.append("causal")
    if lacking:
        raise InvalidArgument(
            f"{what} lacks the parameter {' and '.join(map(repr, lacking))} of the function"
        )


def _of_module(name: str, module: Any, oracle: Callable[..., Any] | None) -> AttentionSpec:
    sizes = _sizes(module)
    forward = Signature.of("its forward", module.forward, 2, "forward(self, x, *, causal=False)")

    def build(dim: int, heads: int) -> Any:
        return module(**{size: value for size, value in (("dim", dim), ("heads", heads)) if size in sizes})

    def run(module: Any, x: Any, *, causal: bool = False) -> Any:
        return module(x, causal=causal) if forward.takes_causal else module(x)

    return AttentionSpec(
        **_unknown(name, _first_line(module) or "your own module", forward.takes_causal, _no_op),
        oracle_target=None,
        own_layer=OwnLayer(build, run, oracle and _oracle_of_module(oracle, forward), cache(_count(build))),
    )


def _sizes(module: Any) -> list[str]:
    """Which of dim and heads the module is built with."""
    parameters = _parameters("the module", module)
    required = [
        each.name
        for each in parameters.values()
        if each.default is Parameter.empty and each.kind not in _VARIABLE
    ]
    if "dim" not in parameters or set(required) - {"dim", "heads"}:
        taken = ", ".join(parameters) or "nothing"
        raise InvalidArgument(
            f"the module is built with {taken}; it should have {MODULE}, any further parameter with a default "
            "(a small subclass can translate)"
        )
    return [size for size in ("dim", "heads") if size in parameters]


def _oracle_of_module(oracle: Callable[..., Any], forward: Signature) -> Callable[..., Any]:
    found = Signature.of("the oracle", oracle, 2, "(module, x, *, causal=False)")
    _check_same("the oracle", found, replace(forward, defaults={}))
    takes_causal = found.takes_causal or found.takes_any
    return oracle if takes_causal else _without_causal(oracle)


def _no_op(*tensors: Any, **keywords: Any) -> Any:
    raise InvalidArgument("this attention is a module of tokens; it has no op on query, key and value")


def _count(build: Callable[[int, int], Any]) -> Callable[[int, int], int | None]:
    def params(dim: int, heads: int) -> int | None:
        import torch

        for device in ("meta", "cpu"):  # without memory if its constructor allows that
            try:
                with torch.device(device):
                    built = build(dim, heads)
                return sum(int(each.numel()) for each in built.parameters() if each.requires_grad)
            except Exception:  # whatever it raises, the case that builds it says so
                continue
        return None

    return params


def _first_line(thing: Any) -> str:
    lines = (vars(thing).get("__doc__") if isinstance(thing, type) else inspect.getdoc(thing)) or ""
    return next((line.strip() for line in lines.splitlines() if line.strip()), "")


def _kind(thing: object) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else f"a {type(thing).__name__}"


def _hyperparameter(name: str, default: Any) -> Hyperparameter:
    return Hyperparameter(
        name, default, f"parameter of the function, {default!r} unless given", _rule(default)
    )


def _rule(default: Any) -> Callable[[Any], str | None]:
    """Why a value is refused where that is the default: its type decides; None takes anything."""
    if default is None:
        return lambda value: None
    if isinstance(default, bool):
        return refuse_non_bool
    kinds, wanted = (int, float) if isinstance(default, float) else type(default), _WORDS[type(default)]

    def refusal(value: Any) -> str | None:
        fits = isinstance(value, kinds) and not isinstance(value, bool)
        finite = not isinstance(value, float) or math.isfinite(value)
        return None if fits and finite else f"it is {wanted}, as its default {default!r} is"

    return refusal


_WORDS = {bool: "True or False", int: "a whole number", float: "a finite number", str: "a word"}
"""What may be a hyperparameter; a parameter whose default is of another type keeps it."""
