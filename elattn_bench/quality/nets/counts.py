"""How many parameters each network has, by formula, so that a plan can say so before torch is loaded. No torch.

Each function takes what the network's own takes, and raises what that raises.
"""

from __future__ import annotations

from itertools import pairwise

from elattn_bench.quality.nets.conv_size import conv_size
from elattn_bench.quality.nets.form import Form
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

__all__ = ["bigram", "conv", "hadamard_net", "logistic", "mlp", "nlinear", "repeat_last", "vgg"]


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
