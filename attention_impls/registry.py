"""The table of all attentions. To add one: write its family file, add its row to one of ``rows/``.

No torch at import: the callables are named, and resolved when first used.
"""

from __future__ import annotations

from collections.abc import Mapping

from attention_impls import plugins
from attention_impls.nouns import UnknownAttention, nearest
from attention_impls.rows import aft, dot_product, element_wise, gated, kernelised, taylor
from attention_impls.spec import AttentionSpec

FAMILIES: Mapping[str, Mapping[str, AttentionSpec]] = {
    "dot product": dot_product.ROWS,
    "element-wise": {**element_wise.ROWS, **aft.ROWS},
    "kernelised": kernelised.ROWS,
    "Taylor": taylor.ROWS,
    "gated": gated.ROWS,
}
"""Kind of attention -> its rows; figures with many lines show a family at a time."""

ATTENTIONS: Mapping[str, AttentionSpec] = {
    name: spec for rows in FAMILIES.values() for name, spec in rows.items()
}
"""Name -> everything there is to know of that attention, in the order in which lists show them."""


def names() -> list[str]:
    """The names of all attentions of the table, in its order; ``plugins.names`` has those of other packages."""
    return list(ATTENTIONS)


def family(name: str) -> str:
    """The family of an attention; ``others`` for one that is not in the table."""
    return next((kind for kind, rows in FAMILIES.items() if name in rows), "others")


def get(name: str) -> AttentionSpec:
    """Everything there is to know of one attention.

    Args:
        name: of the table; of an installed package's entry point; or ``module:name`` of your own function,
            module or spec, see ``plugins``.

    Raises:
        UnknownAttention: no attention has the name, and the message lists the known and the nearest; or
            what it names cannot be imported, or is no attention.
    """
    if name in ATTENTIONS:
        return ATTENTIONS[name]
    if ":" in name:
        return plugins.named(name)
    if name in plugins.names():
        return plugins.installed(name)
    known = list(dict.fromkeys([*ATTENTIONS, *plugins.names()]))
    raise UnknownAttention(f"no attention is named '{name}'{nearest(name, known)}; known: {', '.join(known)}")
