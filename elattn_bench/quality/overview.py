"""All tasks at a glance: how good each model is against the reference. Pure: no torch, no disk."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from elattn_bench.quality.nouns import Task
from elattn_bench.quality.references import reference_of
from elattn_bench.quality.scores import FAMILIES, Score, TaskFacet, facets, of_facet, plain_ratio, ratio
from elattn_bench.quality.tasks import TASKS

UNCLEAR = "~: the 95 % interval over seeds holds 100 %, or there is one seed."


@dataclass(frozen=True, slots=True)
class Cell:
    """A ratio to the reference, and whether the seeds tell the two apart."""

    ratio: float
    clear: bool

    @property
    def words(self) -> str:
        """``98.2``; ``~99.8`` where the seeds do not tell the two apart; percent."""
        percent = 100 * self.ratio
        number = f"{percent:.1f}" if percent < 999.5 else ">999"
        return number if self.clear else f"~{number}"


@dataclass(frozen=True, slots=True)
class Overview:
    """The tasks that have one reference.

    Args:
        bases: task and form -> the reference's score.
        models: the reference, the others from the best on average down, networks and floors last.
        cells: where a model and a task meet; the reference's own too.
    """

    reference: str
    bases: Mapping[TaskFacet, Score]
    models: tuple[Score, ...] = ()
    cells: Mapping[tuple[str, TaskFacet], Cell] = field(default_factory=dict)

    @property
    def facets(self) -> list[TaskFacet]:
        """In the order trained."""
        return list(self.bases)

    @property
    def is_unclear(self) -> bool:
        """Whether there is a cell that needs ``UNCLEAR`` said."""
        return any(not cell.clear for cell in self.cells.values())

    def part(self, shown: Sequence[TaskFacet]) -> Overview:
        """Of these tasks alone, with the models that they have."""
        cells = {key: cell for key, cell in self.cells.items() if key[1] in shown}
        models = tuple(score for score in self.models if any(key[0] == score.model for key in cells))
        return Overview(self.reference, {facet: self.bases[facet] for facet in shown}, models, cells)


def overviews(
    found: Sequence[Score], reference: str | None = None, tasks: Mapping[str, Task] = TASKS
) -> list[Overview]:
    """One for every reference that tasks are compared with: that asked for, else softmax, else vgg.

    A task with no other model than its reference is left out.
    """
    groups: defaultdict[str, dict[TaskFacet, Mapping[str, Score]]] = defaultdict(dict)
    for facet in facets(found):
        models = of_facet(found, facet, tasks[facet.task].metric)
        base = reference_of(models, reference)
        if base and len(models) > 1:
            groups[base.model][facet] = models
    return [_overview(label, of_tasks) for label, of_tasks in groups.items()]


def _overview(reference: str, of_tasks: Mapping[TaskFacet, Mapping[str, Score]]) -> Overview:
    bases = {facet: models[reference] for facet, models in of_tasks.items()}
    cells = {
        (label, facet): cell
        for facet, models in of_tasks.items()
        for label, score in models.items()
        if (cell := _cell(score, bases[facet]))
    }
    known = {label: score for models in of_tasks.values() for label, score in models.items()}
    kept = [score for label, score in known.items() if any(key[0] == label for key in cells)]
    kept.sort(
        key=lambda score: (
            score.model != reference, FAMILIES.index(score.family), -_average(cells, score.model),
        )
    )  # fmt: skip
    return Overview(reference, bases, tuple(kept), cells)


def _cell(score: Score, base: Score) -> Cell | None:
    """None where a side is 0: no ratio says how much better the other is."""
    value = plain_ratio(score, base)
    if not value:
        return None
    measured = ratio(score, base)
    return Cell(value, score.model == base.model or (measured is not None and not measured.holds(1)))


def _average(cells: Mapping[tuple[str, TaskFacet], Cell], model: str) -> float:
    """The mean logarithm of the model's ratios."""
    logs = [math.log(cell.ratio) for (label, _), cell in cells.items() if label == model]
    return sum(logs) / len(logs)
