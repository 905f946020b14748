"""The table of all attentions. To add one: write its family file, add its row to one of ``rows/``.

No torch at import: the callables are named, and resolved when first used.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from attention_impls.nouns import UnknownAttention, nearest
from attention_impls.rows import aft, dot_product, element_wise, kernelised
from attention_impls.spec import AttentionSpec

FAMILIES: Mapping[str, Mapping[str, AttentionSpec]] = {
    "dot product": dot_product.ROWS,
    "element-wise": {**element_wise.ROWS, **aft.ROWS},
    "kernelised": kernelised.ROWS,
}
"""Kind of attention -> its rows; figures with many lines show a family at a time."""

ATTENTIONS: Mapping[str, AttentionSpec] = {
    name: spec for rows in FAMILIES.values() for name, spec in rows.items()
}
"""Name -> everything there is to know of that attention, in the order in which lists show them."""


def names() -> list[str]:
    """The names of all attentions, in the table's order."""
    return list(ATTENTIONS)


def family(name: str) -> str:
    """The family of an attention; ``others`` for one that is not in the table."""
    return next((kind for kind, rows in FAMILIES.items() if name in rows), "others")


def get(name: str) -> AttentionSpec:
    """Everything there is to know of one attention: of the table, or ``module:name`` of your own spec.

    Raises:
        UnknownAttention: no attention has the name; the message lists the known and the nearest.
    """
    if ":" in name:
        return _elsewhere(name)
    try:
        return ATTENTIONS[name]
    except KeyError:
        raise UnknownAttention(
            f"no attention is named '{name}'{nearest(name, names())}; known: {', '.join(ATTENTIONS)}"
        ) from None


@cache
def _elsewhere(target: str) -> AttentionSpec:
    try:
        spec = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownAttention(f"'{target}' cannot be imported: {error}") from None
    if not isinstance(spec, AttentionSpec):
        raise UnknownAttention(f"'{target}' is a {type(spec).__name__}, not an AttentionSpec")
    return replace(spec, name=target)
