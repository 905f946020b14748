"""What ``--impl`` names: attentions inside the transformer, and other networks. No torch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import attention_impls
from attention_impls.nouns import QkNorm
from elattn_bench import knob_axes
from elattn_bench.cases import Impl
from elattn_bench.errors import UsageError
from elattn_bench.knobs import combinations
from elattn_bench.names import nearest
from elattn_bench.quality.nouns import Kind, Model

TRANSFORMER = "transformer"


@dataclass(frozen=True, slots=True)
class Network:
    """A network beside the transformer.

    Args:
        name: on the command line; of one that is ``sized``, followed by a percentage: ``conv-3``.
        summary: one line for people.
        kinds: of tasks that it can do.
        target: ``module:function`` that builds it.
        sized: whether it is given a share of the parameters of ``vgg``.
        is_floor: whether it is there to put the others into proportion.
    """

    name: str
    summary: str
    kinds: tuple[Kind, ...]
    target: str
    sized: bool = False
    is_floor: bool = True


_NETS = "elattn_bench.quality.nets"
_ALL = (
    Network("vgg", "VGG-like: conv 32, 64, 128 twice each, dense 512", ("image",), f"{_NETS}.vgg:vgg", is_floor=False),
    Network(
        "hadamard-net",
        "element-wise attention network, our reading of 2302.05488, at a share of vgg's parameters",
        ("image",),
        f"{_NETS}.hadamard_net:hadamard_net",
        sized=True,
        is_floor=False,
    ),
    Network(
        "conv",
        "convolutions alone, at a share of vgg's parameters",
        ("image", "series", "forecast"),
        f"{_NETS}.conv:conv",
        sized=True,
    ),
    Network("mlp", "two hidden layers", ("image", "series"), f"{_NETS}.floors:mlp"),
    Network("logistic", "logistic regression", ("image", "series"), f"{_NETS}.floors:logistic"),
    Network("nlinear", "one linear map of the window (Zeng et al. 2022)", ("forecast",), f"{_NETS}.floors:nlinear"),
    Network("repeat-last", "the last value, for ever", ("forecast",), f"{_NETS}.untrained:repeat_last"),
    Network("bigram", "counts of pairs of tokens", ("language",), f"{_NETS}.untrained:bigram"),
)  # fmt: skip

NETWORKS: Mapping[str, Network] = {network.name: network for network in _ALL}
_SIZED = re.compile(r"(?P<name>[a-z-]+)-(?P<percent>\d+(\.\d+)?)")


def parse(words: Iterable[str], orders: Sequence[int], knobs: str, qk_norms: Sequence[QkNorm]) -> list[Model]:
    """The models that the words name, each once.

    Args:
        words: ``softmax``, ``ea-series/fused``, ``vgg``, ``hadamard-net-3``.
        orders: of attentions that have one.
        knobs: the text of ``--hp``.
        qk_norms: how query and key are normalised, of attentions that read them; none asks for the default.

    Raises:
        UsageError: a word names nothing, or a value breaks its rule.
    """
    requests = knob_axes.parse(knobs)
    found = [_of_word(word.strip(), orders, requests, qk_norms) for word in words]
    models = list(dict.fromkeys(itertools.chain.from_iterable(found)))
    attentions = list(dict.fromkeys(model.attention for model in models if model.attention))
    if requests:
        knob_axes.check_reach(requests, attentions)
    return models


def network_of(model: Model) -> Network | None:
    """What is known of its network; None of a transformer."""
    return NETWORKS.get(model.network)


def can_do(model: Model, kind: Kind) -> bool:
    """Whether the model can do a task of this kind."""
    network = network_of(model)
    return network is None or kind in network.kinds


def _of_word(
    word: str, orders: Sequence[int], requests: Sequence[knob_axes.Request], qk_norms: Sequence[QkNorm]
) -> list[Model]:
    if word in NETWORKS and not NETWORKS[word].sized:
        return [Model(word)]
    sized = _SIZED.fullmatch(word)
    if sized and (network := NETWORKS.get(sized["name"])) and network.sized:
        return [Model(network.name, share=_share(word, float(sized["percent"])))]
    if word in NETWORKS:
        raise UsageError(
            f"--impl {word}: say how large, in percent of vgg's parameters: {word}-3 or {word}-50"
        )
    return list(_transformers(_impl(word), orders, requests, qk_norms))


def _share(word: str, percent: float) -> float:
    if not 0 < percent <= 100:
        raise UsageError(f"--impl {word}: the percentage must be above 0 and at most 100")
    return percent / 100


def _impl(word: str) -> Impl:
    attention = word.partition("/")[0]
    if attention not in attention_impls.names() and ":" not in attention:
        known = [*attention_impls.names(), *NETWORKS]
        near = nearest(attention, known)
        hint = f" (did you mean '{near}'?)" if near else ""
        raise UsageError(
            f"--impl {word}: is neither an attention nor a network{hint}; known are {', '.join(known)}"
        )
    impl = Impl.parse(word)
    if impl.spec.own_layer is not None:
        raise UsageError(
            f"--impl {word}: is a module with projections of its own, which no transformer of ours has a place for; "
            "give the attention alone, as a function of query, key and value"
        )
    return impl


def _transformers(
    impl: Impl, orders: Sequence[int], requests: Sequence[knob_axes.Request], qk_norms: Sequence[QkNorm]
) -> Iterator[Model]:
    of_impl: Sequence[int | None] = orders if impl.has_order else (None,)
    for order in of_impl:
        if order is not None and (refusal := impl.spec.hyperparameters["order"].refusal(order)):
            raise UsageError(f"--order {order}: {refusal}")
    projected = {"query", "key"} <= set(impl.spec.projections.names)
    norms: Sequence[QkNorm | None] = qk_norms if qk_norms and projected else (None,)
    knobs = combinations(knob_axes.axes_of(requests, impl.attention))
    for order, values, norm in itertools.product(of_impl, knobs, norms):
        yield Model(TRANSFORMER, impl.attention, impl.backend or "", order, values, norm)
