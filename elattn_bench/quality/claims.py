"""What the papers claim of quality, as a literal table: whose words, of which models, on which tasks, how tested.

Of the element-wise papers we have the abstracts alone, so claims are tested on networks and tasks of ours: what is
reproduced or not is the claim, never the paper's own experiment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import attention_impls
from elattn_bench.quality.nouns import Task
from elattn_bench.quality.tasks import TASKS

Source = Literal["quoted", "second-hand", "ours"]
"""``quoted``: the paper's own words. ``second-hand``: others' words about it. ``ours``: a question beside them."""

MARGIN = 0.02
"""By what share a score may lie below the reference's and still be comparable; an error 1 / 0.98 - 1 = 2.04 % above it.

A choice of ours, made without a look at any result: no paper says what it means by comparable. MLPerf inference accepts
98 or 99 % of its reference's quality (Reddi et al. 2019, arXiv 1911.02549); small networks repeat themselves less well,
so the wider of the two.
"""

VISION = ("fashion-mnist", "cifar10")
RECALL = ("mqar", "selective-copy")
"""What compression of the past shows in: a network must say again what it was told, word for word."""

SERIES = ("japanese-vowels", "basic-motions", "etth1-96", "etth1-192", "etth2-96", "etth2-192")


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim, and what decides it.

    Args:
        name: in tables and records; unique.
        paper: its arXiv number.
        source: whose words ``text`` are.
        text: the words.
        subject, reference: labels of the models that it compares.
        tasks: where; none where no task here can show it.
        causal: the form of the attention.
        ratio: the subject's score over the reference's that is claimed at least, or more than; see ``scores``.
        strict: more than ``ratio``, not at least.
        share: of the reference's parameters, at most; None: any.
        at_least: on how many data sets, of which two horizons are one; None: on each of the tasks.
        epochs, examples: at least so many, and so many to train on, or it was not trained as claimed; None: any.
        obstacle: why no task here can show it.
    """

    name: str
    paper: str
    source: Source
    text: str
    subject: str = ""
    reference: str = ""
    tasks: tuple[str, ...] = ()
    causal: bool = False
    ratio: float = 1.0
    strict: bool = False
    share: float | None = None
    at_least: int | None = None
    epochs: int | None = None
    examples: int | None = None
    obstacle: str = ""

    @property
    def form(self) -> str:
        """``causal`` or ``non-causal``."""
        return "causal" if self.causal else "non-causal"

    @property
    def amount(self) -> str:
        """``at least 98 %``, ``more than 100 %``."""
        return f"{'more than' if self.strict else 'at least'} {100 * self.ratio:g} %"

    @property
    def rule(self) -> str:
        """What must be true, in words: ``at least 92 % of the score of vgg with at most 3 % of its parameters``."""
        if not self.tasks:
            return self.obstacle
        share = "" if self.share is None else f" with at most {100 * self.share:g} % of its parameters"
        but = ", but for those where mean passes as well" if self.of_attentions else ""
        where = "" if len(self.tasks) == 1 else f", on {self._where}{but}"
        return f"{self.amount} of the score of {self.reference}{share}{where}"

    @property
    def of_attentions(self) -> bool:
        """Whether attentions are compared, between transformers that are the same but for them."""
        return all(map(_is_attention, (self.subject, self.reference)))

    @property
    def _where(self) -> str:
        if self.at_least is None:
            return f"each of {len(self.tasks)} tasks"
        return f"{self.at_least} of {len({data_set(TASKS[name]) for name in self.tasks})} data sets"


def _is_attention(label: str) -> bool:
    """Of a model's label without its order, knobs and backend."""
    return label.partition(" ")[0].partition("/")[0] in attention_impls.names()


def data_set(task: Task) -> tuple[object, ...]:
    """What the task's data is, whatever is asked of it: two horizons of one series are the same."""
    return task.loader, *sorted((key, value) for key, value in task.arguments.items() if key != "horizon")


_BACOCHINA = "2302.05488"
_FENG = "2501.05730"
_SHEN = "1812.01243"
_COMPARABLE = (
    "the element-wise attention circumvents the performance degradation factors present in these approaches and "
    "achieves performance comparable to SA in both causal and non-causal forms"
)

_UNDIMINISHED = (
    "Although these approaches achieve reduced complexity than SA, they all have built-in performance degradation "
    "factors, such as diminished “spikiness” and compression of historical information. [...] Furthermore, the "
    "element-wise attention circumvents the performance degradation factors present in these approaches"
)

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "92 % on Fashion-MNIST",
        _BACOCHINA,
        "quoted",
        "The results show that this mechanism allows for an accuracy of 92% of the VGG-like counterpart in Fashion "
        "MNIST dataset, while reducing the number of parameters in 97%.",
        "hadamard-net-3",
        "vgg",
        ("fashion-mnist",),
        ratio=0.92,
        share=0.03,
        epochs=10,
        examples=60_000,
    ),
    Claim(
        "60 % on CIFAR-10",
        _BACOCHINA,
        "quoted",
        "For CIFAR10, the accuracy is still equivalent to 60% of the VGG-like counterpart while using 50% less "
        "parameters.",
        "hadamard-net-50",
        "vgg",
        ("cifar10",),
        ratio=0.60,
        share=0.50,
        epochs=10,
        examples=50_000,
    ),
    Claim(
        "EA like SA, non-causal",
        _FENG,
        "quoted",
        _COMPARABLE,
        "ea-series t=6",
        "softmax",
        SERIES,
        ratio=1 - MARGIN,
    ),
    Claim(
        "EA like SA, causal",
        _FENG,
        "quoted",
        _COMPARABLE,
        "ea-series t=6",
        "softmax",
        (*SERIES, "shakespeare"),
        causal=True,
        ratio=1 - MARGIN,
    ),
    Claim(
        "EA recalls like SA",
        _FENG,
        "quoted",
        _UNDIMINISHED,
        "ea-series t=6",
        "softmax",
        RECALL,
        causal=True,
        ratio=1 - MARGIN,
    ),
    Claim(
        "EA-6 outperforms",
        _FENG,
        "second-hand",
        "EA-6 outperforms standard self-attention on multiple time series datasets",
        "ea-series t=6",
        "softmax",
        SERIES,
        strict=True,
        at_least=2,
    ),
    Claim(
        "EA-6 better than EA-2",
        _FENG,
        "ours",
        "Does a higher order of the polynomial give a better network?",
        "ea-series t=6",
        "ea-series t=2",
        SERIES,
        strict=True,
        at_least=2,
    ),
    Claim(
        "boosts on MS-COCO",
        _SHEN,
        "quoted",
        "Efficient attention modules brought significant performance boosts to object detectors and instance "
        "segmenters on MS-COCO 2017.",
        obstacle="neither MS-COCO nor a detector is here",
    ),
    Claim(
        "Scene Flow",
        _SHEN,
        "quoted",
        "a model with efficient attention achieved state-of-the-art accuracies for stereo depth estimation on the "
        "Scene Flow dataset",
        obstacle="neither Scene Flow nor a stereo network is here",
    ),
    Claim(
        "efficient comparable",
        _SHEN,
        "ours",
        "Is efficient attention comparable to softmax attention on small images?",
        "efficient",
        "softmax",
        VISION,
        ratio=1 - MARGIN,
    ),
)
"""Order: as they are told."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure draws beside the measurement: a ratio to a reference's score at a share of its parameters."""

    task: str
    reference: str
    ratio: float
    share: float
    label: str


def targets(task: str) -> Iterator[Target]:
    """The claims of the task that name a ratio and a share of parameters."""
    for claim in CLAIMS:
        if task in claim.tasks and claim.share is not None:
            label = (
                f"claimed: {100 * claim.ratio:g} % of {claim.reference} "
                f"at {100 * claim.share:g} % of its parameters ({claim.paper})"
            )
            yield Target(task, claim.reference, claim.ratio, claim.share, label)
