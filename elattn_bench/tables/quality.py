"""What ``quality report`` shows: verdicts on claims, the claims, a table of scores per task, as ``render.Report``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from elattn_bench.errors import RunDirError
from elattn_bench.names import check_names
from elattn_bench.quality.joined import Joined, join
from elattn_bench.quality.judging import judge
from elattn_bench.quality.nouns import Task
from elattn_bench.quality.references import pick, reference_of
from elattn_bench.quality.rundir import QualityRun
from elattn_bench.quality.scores import Score, TaskFacet, facets, of_facet, scores
from elattn_bench.quality.tasks import TASKS
from elattn_bench.rundir import Run
from elattn_bench.tables.quality_claims import claim_notes, claim_records, claim_tables, sentences
from elattn_bench.tables.quality_notes import notes, notes_of_data
from elattn_bench.tables.quality_overview import overview_notes, overview_table, several
from elattn_bench.tables.quality_records import score_record
from elattn_bench.tables.quality_scores import length_tables, order_tables, score_table
from elattn_bench.tables.render import Report, Table


def quality_report(
    run: QualityRun, reference: str | None, sweep: Run | None = None, tasks: Mapping[str, Task] = TASKS
) -> Report:
    """The verdicts, the claims as quoted, and per task and form the models with what they reached and took.

    Args:
        reference: label of the model that scores are a share of; None: softmax, else vgg.
        sweep: its latencies of the models' attentions become a column.
        tasks: by name; those of the run.

    Raises:
        RunDirError: the run has a task that is none of them.
        UsageError: no task of the run has the reference.
    """
    _check_tasks(run, tasks)
    found = scores(run.rows, tasks)
    check_reference(found, reference)
    judged = judge(run.rows, tasks=tasks)
    data = notes_of_data(run)
    joins = {facet: join(found, sweep, causal=facet.causal) for facet in facets(found)} if sweep else {}
    tables = [
        table
        for facet in facets(found)
        for table in _tables(found, facet, reference, tasks, joins.get(facet))
    ]
    glance = several(found, reference, tasks)
    return Report(
        [*map(overview_table, glance), *claim_tables(judged), *tables],
        _records(found, reference, joins),
        [*claim_notes(judged), *overview_notes(glance), *notes(run, found, data), *_of_joins(joins)],
        {"device": run.device_name, "data": data, "claims": claim_records(judged, data)},
        sentences(judged, data),
    )


def _check_tasks(run: QualityRun, tasks: Mapping[str, Task]) -> None:
    unknown = {row.task for row in run.rows}.difference(tasks)
    if unknown:
        raise RunDirError(
            f"{run.path}: holds {', '.join(sorted(unknown))}, which is no task of this elattn-bench "
            f"({', '.join(tasks)}); read the run with the version that made it"
        )


def check_reference(found: Sequence[Score], reference: str | None) -> None:
    """Refuse a reference that no task of the run has.

    Raises:
        UsageError: it lists those that there are.
    """
    models = {score.model: score for score in found}
    if reference is not None and pick(models, reference) is None:
        check_names("reference", [reference], list(models))


def _tables(
    found: Sequence[Score],
    facet: TaskFacet,
    reference: str | None,
    tasks: Mapping[str, Task],
    joined: Joined | None,
) -> list[Table]:
    metric = tasks[facet.task].metric
    models = of_facet(found, facet, metric)
    if not models:
        return []
    base = reference_of(models, reference)
    longer = [score for score in found if score.facet == facet and score.length is not None]
    return [
        score_table(facet, models, base, joined),
        *order_tables(facet, models),
        *length_tables(facet, models, longer),
    ]


def _records(
    found: Sequence[Score], reference: str | None, joins: Mapping[TaskFacet, Joined]
) -> list[dict[str, object]]:
    records = []
    for score in found:
        base = reference_of(of_facet(found, score.facet, score.metric), reference)
        records.append(score_record(score, base, joins.get(score.facet) if joins else None))
    return records


def _of_joins(joins: Mapping[TaskFacet, Joined]) -> list[str]:
    return list(dict.fromkeys(joined.note for joined in joins.values()))
