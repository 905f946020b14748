"""``--hp``: the knobs of attentions as axes. Its grammar, and which attention a request reaches. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import attention_impls as impls
from attention_impls import Hyperparameter
from elattn_bench.axis import Axis, is_whole
from elattn_bench.errors import UsageError
from elattn_bench.knobs import KnobAxis, Value, finite, is_plain, value_of, word_of
from elattn_bench.names import nearest

OPTION = "hp"
ORDER = "order"  # has an axis, a column and a place in every figure of its own
_SWITCH: Mapping[str, Value] = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Request:
    """Values for a knob: ``latents=64,256``, or ``perceiver.latents=64`` of one attention.

    attention: empty for every one that has the knob.
    """

    attention: str
    knob: str
    values: str

    @property
    def name(self) -> str:
        """``latents``, or ``perceiver.latents``."""
        return f"{self.attention}.{self.knob}" if self.attention else self.knob

    def __str__(self) -> str:
        return f"--{OPTION} {self.name}={self.values}"


def parse(text: str) -> list[Request]:
    """The requests in an option's text; several are separated by commas, as their values are.

    Raises:
        UsageError: one is not NAME=VALUES, is there twice, or is of the order.
    """
    requests = list(map(_request, _split(text)))
    for number, request in enumerate(requests):
        if request.knob == ORDER:
            raise UsageError(f"{request}: the order has an axis of its own: --{ORDER}")
        if earlier := [each for each in requests[:number] if each.name == request.name]:
            joined = f"{request.name}={earlier[0].values},{request.values}"
            raise UsageError(f"{request}: {request.name} is there twice; write {joined}")
    return requests


def _split(text: str) -> list[str]:
    """The text cut before every name: a part without ``=`` is one more value."""
    parts: list[str] = []
    for part in text.split(",") if text.strip() else []:
        if "=" in part or not parts:
            parts.append(part.strip())
        else:
            parts[-1] += f",{part.strip()}"
    return parts


def _request(text: str) -> Request:
    name, _, values = (part.strip() for part in text.partition("="))
    attention, dot, knob = name.rpartition(".")
    if not knob or not values or (dot and not attention):
        raise UsageError(
            f"--{OPTION} {text}: write NAME=VALUES, for example latents=64,256, or perceiver.latents=64"
        )
    return Request(attention, knob, values)


def check_reach(requests: Iterable[Request], attentions: Sequence[str]) -> None:
    """Refuse a request that reaches none of the attentions.

    Raises:
        UsageError: it names another attention, or a knob that none of them has.
    """
    for request in requests:
        if request.attention and request.attention not in attentions:
            hint = _hint(request.attention, attentions)
            known = ", ".join(attentions)
            raise UsageError(f"{request}: '{request.attention}' is not among the impls: {known}{hint}")
        reached = [request.attention] if request.attention else attentions
        if not any(request.knob in _knobs(attention) for attention in reached):
            raise UsageError(_nobody_has(request, reached))


def _nobody_has(request: Request, attentions: Sequence[str]) -> str:
    hint = _hint(request.knob, dict.fromkeys(knob for each in attentions for knob in _knobs(each)))
    have = "; ".join(f"{each} has {', '.join(_knobs(each)) or 'none'}" for each in attentions)
    subject = f"{attentions[0]} has no" if len(attentions) == 1 else f"none of {', '.join(attentions)} has a"
    return f"{request}: {subject} hyperparameter '{request.knob}'{hint}; {have}"


def _hint(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f" (did you mean '{near}'?)" if near else ""


def _knobs(attention: str) -> dict[str, Hyperparameter]:
    """All but the order."""
    return {name: knob for name, knob in impls.get(attention).hyperparameters.items() if name != ORDER}


def axes_of(requests: Iterable[Request], attention: str) -> Iterator[KnobAxis]:
    """What is swept of one attention; a request for it alone takes the place of one for all.

    Raises:
        UsageError: a value is not of the knob's type, or breaks its rule.
    """
    knobs, chosen = _knobs(attention), of_attention(requests, attention)
    for name in sorted(chosen):
        yield KnobAxis(attention, name, _checked(chosen[name], attention, knobs[name]))


def of_attention(requests: Iterable[Request], attention: str) -> dict[str, Request]:
    """The requests that reach the attention, by knob."""
    reaching = [each for each in requests if each.attention in ("", attention)]
    ordered = sorted(reaching, key=lambda each: bool(each.attention))  # the later one stays
    return {each.knob: each for each in ordered if each.knob in _knobs(attention)}


def text_for(requests: Iterable[Request], attention: str) -> str:
    """The option's text, of what reaches the attention."""
    return ",".join(f"{each.name}={each.values}" for each in of_attention(requests, attention).values())


def _checked(request: Request, attention: str, knob: Hyperparameter) -> tuple[Value, ...]:
    values = tuple(_values(request, knob))
    for value in values:
        if refusal := knob.refusal(value):
            raise UsageError(f"{request}: {attention} refuses {knob.name}={word_of(value)}: {refusal}")
    return values


def _values(request: Request, knob: Hyperparameter) -> Sequence[Value]:
    """The values that the text means for the knob: its default tells the type."""
    if isinstance(knob.default, int) and not isinstance(knob.default, bool):
        return _axis(request, request.values)
    words = (part.strip() for part in request.values.split(","))
    return list(dict.fromkeys(value for word in words for value in _word(request, word, knob)))


def _axis(request: Request, text: str) -> tuple[int, ...]:
    name = f"{OPTION} {request.name}"
    try:
        return Axis.parse(name, text, minimum=0).values
    except UsageError as error:
        raise UsageError(str(error).replace(f"--{name} ", f"--{OPTION} {request.name}=", 1)) from None


def _word(request: Request, word: str, knob: Hyperparameter) -> Sequence[Value]:
    if isinstance(knob.default, bool):
        if word not in _SWITCH:
            raise UsageError(f"{request}: '{word}' is not a switch; write true or false")
        return [_SWITCH[word]]
    if isinstance(knob.default, float):
        number = finite(word)
        if number is None:
            raise UsageError(
                f"{request}: '{word}' is not a number; write for example {word_of(knob.default)}"
            )
        return [number]
    if knob.default is None and (":" in word or is_whole(word)):
        return _axis(request, word)
    if not is_plain(word):
        raise UsageError(f"{request}: '{word}' is not a word; write one value, or several with commas")
    return [word if isinstance(knob.default, str) else value_of(word)]
