"""All tasks at a glance, before the tables of each: every model's score over the reference's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from elattn_bench.quality.nouns import Task
from elattn_bench.quality.overview import UNCLEAR, Overview, overviews
from elattn_bench.quality.scores import Score, TaskFacet, is_share
from elattn_bench.quality.tasks import TASKS
from elattn_bench.tables.listings import NO_NUMBER
from elattn_bench.tables.render import Column, Table
from elattn_bench.units import WITHOUT_INTERVAL, significant

READING = "All tasks: models that at least half of the tasks have; below, each task has all."
FEWEST_TASKS = 2  # of one, its own table says all


def several(
    found: Sequence[Score], reference: str | None, tasks: Mapping[str, Task] = TASKS
) -> list[Overview]:
    """The overviews that have several tasks."""
    return [each for each in overviews(found, reference, tasks) if len(each.bases) >= FEWEST_TASKS]


def overview_table(found: Overview) -> Table:
    """One row per task and form: the reference's own score, the models in per cent of it, the best of the floors.

    Models that fewer than half of the tasks have are left to the tables of those tasks: columns of dashes tell little.
    """
    models = [score for score in found.models if _is_shown(found, score)]
    floors = [score.model for score in found.models if score.is_floor]
    columns = [
        Column("task"), Column(found.reference, "right"), *(Column(score.model, "right") for score in models),
        *([Column("best floor", "right")] if floors else []),
    ]  # fmt: skip
    rows = [
        [
            facet.text, _own(base), *(_cell(found, score.model, facet) for score in models),
            *([_best(found, floors, facet)] if floors else []),
        ]
        for facet, base in found.bases.items()
    ]  # fmt: skip
    return Table(f"All tasks: scores in % of {found.reference}'s, above 100 is better", columns, rows)


def _is_shown(found: Overview, score: Score) -> bool:
    count = sum((score.model, facet) in found.cells for facet in found.bases)
    return score.model != found.reference and not score.is_floor and 2 * count >= len(found.bases)


def _own(base: Score) -> str:
    """``82.9 %``, ``mse 0.412``, ``1.90 bits/byte``."""
    if is_share(base.metric):
        return f"{significant(100 * base.mean, WITHOUT_INTERVAL)} %"
    number = significant(base.mean, WITHOUT_INTERVAL)
    return f"{number} bits/byte" if base.metric == "bits_per_byte" else f"{base.metric} {number}"


def _cell(found: Overview, model: str, facet: TaskFacet) -> str:
    cell = found.cells.get((model, facet))
    return cell.words if cell else NO_NUMBER


def _best(found: Overview, floors: Sequence[str], facet: TaskFacet) -> str:
    """``conv-3 102.8``."""
    known = {model: found.cells[model, facet] for model in floors if (model, facet) in found.cells}
    best = max(known, key=lambda model: known[model].ratio, default=None)
    return NO_NUMBER if best is None else f"{best} {known[best].words}"


def overview_notes(shown: Sequence[Overview]) -> list[str]:
    """How to read these tables."""
    unclear = [UNCLEAR] if any(each.is_unclear for each in shown) else []
    return [" ".join([READING, *unclear])] if shown else []
