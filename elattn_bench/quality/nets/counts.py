"""How many parameters each network has, by formula, so that a plan can say so before torch is loaded. No torch.

Each function takes what the network's own takes, and raises what that raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import attention_impls
from attention_impls import Problem
from attention_impls.costs import layers
from elattn_bench.quality.models import NETWORKS, TRANSFORMER
from elattn_bench.quality.nets.conv_size import conv_size
from elattn_bench.quality.nets.hadamard_size import hadamard_size
from elattn_bench.quality.nets.sizes import (
    MLP_HIDDEN,
    dense,
    logistic_inputs,
    mlp_inputs,
    need,
    need_same_channels,
    vgg,
)
from elattn_bench.quality.nouns import Form, Model, Recipe

__all__ = [
    "bigram", "conv", "hadamard_net", "logistic", "mlp", "nlinear", "params", "repeat_last",
    "tokens_of", "transformer", "vgg",
]  # fmt: skip


def params(model: Model, form: Form, recipe: Recipe) -> int:
    """Parameters of the model on inputs of that form.

    Raises:
        UsageError: the network cannot do such a task.
    """
    if model.network == TRANSFORMER:
        return transformer(model, form, recipe)
    count = _BY_NETWORK[model.network]
    return count(form, model.share) if NETWORKS[model.network].sized else count(form)


def transformer(model: Model, form: Form, recipe: Recipe) -> int:
    """Parameters of ``Transformer``: embedding, blocks, norm and head; of forecasts also the map over time."""
    order = {} if model.order is None else {"order": model.order}
    dim, tokens = recipe.dim, tokens_of(form, recipe)
    problem = Problem(
        1, recipe.heads, max(tokens, form.longest), dim // recipe.heads,
        hyperparameters={**order, **dict(model.hyperparameters)},
    )  # fmt: skip
    block = layers.block_params(
        attention_impls.get(model.attention), problem, recipe.expansion, True, model.qk_norm or "none"
    )
    read = form.shape[-1] * (recipe.patch**2 if form.kind == "image" else 1)
    embedding = form.outputs * dim if form.kind == "language" else dense(read, dim)
    over_time = dense(form.shape[0], form.horizon) if form.kind == "forecast" else 0
    return embedding + recipe.depth * block + 2 * dim + over_time + dense(dim, form.outputs)


def tokens_of(form: Form, recipe: Recipe) -> int:
    """How many tokens an input of the transformer becomes."""
    if form.kind == "image":
        height, width, _ = form.shape
        return (height // recipe.patch) * (width // recipe.patch)
    return form.shape[0]


def hadamard_net(form: Form, share: float) -> int:
    """Parameters of ``hadamard_net``: 6 of each feature of both blocks, and two dense layers."""
    return hadamard_size(form, share).params


def conv(form: Form, share: float) -> int:
    """Parameters of ``conv``: the sum of k^2 C_in C_out + 2 C_out, and dense layers."""
    return conv_size(form, share).params


def logistic(form: Form) -> int:
    """Parameters of ``logistic``: one dense layer."""
    need("logistic", form, "image", "series")
    return dense(logistic_inputs(form), form.outputs)


def mlp(form: Form) -> int:
    """Parameters of ``mlp``: its dense layers."""
    need("mlp", form, "image", "series")
    widths = (mlp_inputs(form), *MLP_HIDDEN[form.kind], form.outputs)
    return sum(dense(inputs, outputs) for inputs, outputs in pairwise(widths))


def nlinear(form: Form) -> int:
    """Parameters of ``nlinear``: one dense layer from history to horizon."""
    need_same_channels("nlinear", form)
    return dense(form.shape[0], form.horizon)


def repeat_last(form: Form) -> int:
    """Parameters of ``repeat_last``: none."""
    need_same_channels("repeat-last", form)
    return 0


def bigram(form: Form) -> int:
    """Parameters of ``bigram``: a logit for each pair of tokens."""
    need("bigram", form, "language")
    return form.outputs**2


_BY_NETWORK: Mapping[str, Callable[..., int]] = {
    "vgg": vgg, "hadamard-net": hadamard_net, "conv": conv, "mlp": mlp, "logistic": logistic, "nlinear": nlinear,
    "repeat-last": repeat_last, "bigram": bigram,
}  # fmt: skip
