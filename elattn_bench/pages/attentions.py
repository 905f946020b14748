"""The page of all attentions, written from the registry. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import get_args

import attention_impls as impls
from attention_impls import AttentionSpec, Paper
from attention_impls.nouns import Growth, Operand
from elattn_bench.catalogue import SIZES, sizes
from elattn_bench.pages.blocks import COMMAND, plain_table
from elattn_bench.tables.render import escape_markdown
from elattn_bench.units import format_bytes

PAGE = "docs/attention-table.md"

_HEAD = f"""# Every attention, as the registry has it

This page is generated; write in `attention_impls/rows` and run `make docs`, which is

    {COMMAND}

[Attentions](attentions.md) explains them, `elattn-bench list` says what runs on your machine, and the measure of one is

    elattn-bench sweep -i NAME --seq-len 256:8k:x2

L is seq_len, D is dim (heads * head_dim), H is heads; other letters are hyperparameters. Parameters, shapes and states
are counted at D = {SIZES.dim}, H = {SIZES.heads}, L = {SIZES.seq_len}, {SIZES.dtype}, one sequence, hyperparameters at
their defaults. *What ranks exchange*, where a backend can spread one sequence over several processes, is told in
[A sequence over many ranks](ranks.md)."""

_FORMS = {"defined": "defined by the paper", "extension": "our extension"}

_PROPERTIES = {
    "per_channel": "every channel is its own head: heads only reshape it",
    "averages": "every output is a weighted mean of values",
    "position_local": "value j reaches output j alone",
    "positional": "the output depends on where tokens are, beyond the mask",
}


def page() -> str:
    """The whole page, in Markdown."""
    specs = [impls.get(name) for name in impls.names()]
    growths = sorted(get_args(Growth), key=lambda growth: growth == "linear")
    blocks = [_HEAD, *(block for growth in growths for block in _growth_class(growth, specs))]
    return "\n\n".join(blocks) + "\n"


def _growth_class(growth: Growth, specs: Iterable[AttentionSpec]) -> Iterator[str]:
    specs = list(specs)
    members = [spec for spec in specs if spec.growth == growth]
    guests = [
        f"`{spec.name}/{backend}`"
        for spec in specs
        for backend in spec.backends
        if spec.growth != growth == spec.growth_of(backend)
    ]
    if members or guests:
        yield f"## {growth.capitalize()} in length"
    if members:
        yield _overview(members)
    if guests:
        yield f"Also these backends of attentions in another class: {', '.join(guests)}."
    for spec in members:
        yield from _section(spec)


def _overview(specs: Sequence[AttentionSpec]) -> str:
    rows = []
    for spec in specs:
        found = sizes(spec)
        name = f"[`{spec.name}`](#{spec.name})"
        link = f"[{spec.paper.arxiv}]({_url(spec.paper)})"
        rows.append(
            [name, f"`{spec.time}`", f"`{spec.memory}`", f"{found['layer_params']:,}", _state(spec), link]
        )
    return plain_table(["attention", "time", "memory", "layer parameters", "state", "paper"], rows)


def _section(spec: AttentionSpec) -> Iterator[str]:
    yield f"### {spec.name}"
    yield f"{_sentence(spec.summary)}\n\n    {spec.formula}"
    yield "\n".join(f"- **{what}**: {value}" for what, value in _facts(spec))
    yield _backends(spec)
    if spec.hyperparameters:
        rows = [
            [f"`{knob.name}`", f"`{knob.default!r}`", escape_markdown(knob.description)]
            for knob in spec.hyperparameters.values()
        ]
        yield plain_table(["hyperparameter", "default", "what it is"], rows)
    if operands := _operands(spec):
        rows = [[f"`{name}`", f"`{list(each.shape)}`", _origin(each)] for name, each in operands.items()]
        yield plain_table(["operand", "shape", "what it is"], rows)
    if spec.notes:
        yield f"*{escape_markdown(spec.notes)}*"


def _facts(spec: AttentionSpec) -> Iterator[tuple[str, str]]:
    paper, found = spec.paper, sizes(spec)
    title = f"{paper.authors} {paper.year}, *{escape_markdown(paper.title)}*"
    yield "paper", f"{title}, [{paper.arxiv}]({_url(paper)})"
    yield "time", f"`{spec.time}`"
    yield "memory", f"`{spec.memory}`"
    yield "causal form", _FORMS[spec.causal_form]
    yield "full form", "none: causal only" if spec.causal_only else _FORMS[spec.full_form]
    yield "projections of a layer", _projections(spec)
    yield "parameters", f"{found['layer_params']:,} of a layer, {found['core_params']:,} of them its own"
    yield "recurrent state", _state(spec)
    if spec.approximates:
        yield "approximates", f"`{spec.approximates.attention}`"
    if properties := [words for flag, words in _PROPERTIES.items() if getattr(spec, flag)]:
        yield "also", "; ".join(properties)


def _backends(spec: AttentionSpec) -> str:
    rows = [
        [
            f"`{name}`",
            escape_markdown(backend.summary),
            spec.growth_of(name),
            "yes" if backend.recurrence else "-",
            escape_markdown(backend.sharding.summary) if backend.sharding else "-",
        ]
        for name, backend in spec.backends.items()
    ]
    return plain_table(["backend", "what it is", "time grows", "decodes", "what ranks exchange"], rows)


def _projections(spec: AttentionSpec) -> str:
    kind = {"matrix": "matrices", "array": "arrays"}[spec.projections.kind]
    widths = ", ".join(spec.projected_widths(SIZES))
    residual = ", and a learned residual" if spec.projections.residual else ""
    return f"{kind}: {widths or 'none'}{residual}"


def _operands(spec: AttentionSpec) -> dict[str, Operand]:
    """What the op takes beside query, key and value, in either form."""
    return {**spec.operands(SIZES), **spec.operands(replace(SIZES, causal=True))}


def _origin(operand: Operand) -> str:
    kind = "learned" if operand.learned else "projected from every token"
    return f"{kind}, through {operand.squash}" if operand.squash else kind


def _state(spec: AttentionSpec) -> str:
    state = sizes(spec)["state_bytes"]
    return "-" if state is None else format_bytes(state)


def _url(paper: Paper) -> str:
    return f"https://arxiv.org/abs/{paper.arxiv}"


def _sentence(text: str) -> str:
    shown = escape_markdown(text)
    return f"{shown[0].upper()}{shown[1:].removesuffix('.')}."
