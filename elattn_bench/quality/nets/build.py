"""A model as a torch module."""

from __future__ import annotations

import pkgutil

from torch import nn

from elattn_bench.quality.models import network_of
from elattn_bench.quality.nets.transformer import Transformer
from elattn_bench.quality.nouns import Form, Model, Recipe


def build(model: Model, form: Form, recipe: Recipe, *, causal: bool) -> nn.Module:
    """The network, freshly initialised from torch's generator.

    Args:
        causal: of a transformer's attention; the other networks do not know of it.
    """
    network = network_of(model)
    if network is None:
        return Transformer(model, form, recipe, causal=causal)
    build_it = pkgutil.resolve_name(network.target)
    built: nn.Module = build_it(form, model.share) if network.sized else build_it(form)
    return built
