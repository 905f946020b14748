"""The table of all attentions. To add one: write its family file, add its row to one of ``rows/``.

No torch at import: the callables are named, and resolved when first used.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from attention_impls.nouns import UnknownAttention, nearest
from attention_impls.rows import dot_product, element_wise, gated, kernelised
from attention_impls.spec import AttentionSpec

ATTENTIONS: Mapping[str, AttentionSpec] = {
    **dot_product.ROWS,
    **element_wise.ROWS,
    **kernelised.ROWS,
    **gated.ROWS,
}
"""Name -> everything there is to know of that attention, in the order in which lists show them."""


def names() -> list[str]:
    """The names of all attentions, in the table's order."""
    return list(ATTENTIONS)


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
