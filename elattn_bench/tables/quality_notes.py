"""Notes below the tables of a quality run: how to read them, what failed, what to know of the data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from elattn_bench.quality.claims import MARGIN
from elattn_bench.quality.rows import QualityRow
from elattn_bench.quality.rundir import QualityRun
from elattn_bench.quality.scores import Score, facet_of, is_scored

READING = (
    "Scores: mean over seeds after the last epoch; sd: their standard deviation. Best: the best, and those that the "
    "seeds cannot tell from it. Floors put the others into proportion: without attention, or with uniform weights. "
    "train: time in training steps; step: median of one; memory: the most that a step allocates beyond parameters, "
    "optimiser and batch; medians over seeds."
)
ERRORS_INVERTED = "Errors (mse, bits per byte) are divided into the reference's: above 100 % is better."
BUSY = 0.10  # of the CPU, in use by others when the run began; an idle desktop stays below (a choice of ours)
FEW_EXAMPLES = "Few test examples, one of which weighs 1 % of the accuracy or more: {}."


def notes_of_data(run: QualityRun) -> dict[str, str]:
    """Task -> what a reader should know of its data, as run.json has it; tasks without a note are left out."""
    data = run.info.get("data")
    found = data if isinstance(data, Mapping) else {}
    notes = {task: entry.get("note") for task, entry in found.items() if isinstance(entry, Mapping)}
    return {task: str(note) for task, note in notes.items() if note}


def notes(run: QualityRun, found: Sequence[Score], data: Mapping[str, str]) -> list[str]:
    """How to read the tables; then what lacks, and of which data and machine the numbers are."""
    return [
        READING,
        *([ERRORS_INVERTED] if any(not score.higher_is_better for score in found) else []),
        *_single_seeds(found),
        *_few_examples(found),
        *_failed(run.rows),
        *_left_out(run),
        *(f"Data of {task}: {note.rstrip('.')}." for task, note in data.items()),
        _machine(run),
    ]


def _single_seeds(found: Sequence[Score]) -> list[str]:
    single: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for score in found:
        if len(score.values) == 1:
            single[score.facet.text][score.model] = None
    if not single:
        return []
    alone = "; ".join(f"{facet}: {', '.join(models)}" for facet, models in single.items())
    which = "all models" if all(len(score.values) == 1 for score in found) else alone
    return [
        f"One seed alone: {which}. Nobody knows how far another seed would lie; train with --seeds 3 or more."
    ]


def _few_examples(found: Sequence[Score]) -> list[str]:
    """Tasks of which a test example weighs half the margin or more, which no seed shows."""
    counts = {score.facet.task: score.test_examples for score in found if score.metric == "accuracy"}
    few = [f"{task} has {count}" for task, count in counts.items() if count and 1 / count >= MARGIN / 2]
    return [FEW_EXAMPLES.format(", ".join(few))] if few else []


def _failed(rows: Sequence[QualityRow]) -> list[str]:
    """Jobs that have no score; the seeds of a model with one reason together."""
    seeds: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        if not is_scored(row):
            why = f"{row.metric} is {row.value}" if row.ok else f"{row.status}: {row.reason}"
            seeds[f"{row.model} on {facet_of(row).text}", why.rstrip(".")].append(str(row.seed))
    return [
        f"Failed: {model}, seed{'s' * (len(found) > 1)} {', '.join(found)} ({why})."
        for (model, why), found in seeds.items()
    ]


def _left_out(run: QualityRun) -> list[str]:
    """Tasks whose data was not there, as run.json has them; those with one reason together."""
    missing = run.info.get("missing")
    found = missing if isinstance(missing, Mapping) else {}
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for task, reason in found.items():
        reasons[str(reason).rstrip(".")].append(task)
    return [f"Left out: {', '.join(tasks)}: {reason}." for reason, tasks in reasons.items()]


def _machine(run: QualityRun) -> str:
    threads = sorted({row.threads for row in run.rows if row.threads})
    count = f", {' or '.join(map(str, threads))} thread{'s' * (threads != [1])}" if threads else ""
    busy = "; ".join(_busy(run))
    return f"Trained on {run.device_name}{count}{f'; times are of a busy machine ({busy})' * bool(busy)}."


def _busy(run: QualityRun) -> list[str]:
    """What ran beside each model while it was timed, as run.json has it; older runs do not say."""
    share, jobs = _number(run, "environment", "cpu_busy_at_start"), _number(run, "config", "jobs")
    return [
        *([f"others used {share:.0%} of its CPU at the start".replace("%", " %")] if share > BUSY else []),
        *([f"{jobs:g} models at once"] if jobs > 1 else []),
    ]


def _number(run: QualityRun, part: str, name: str) -> float:
    """The entry of run.json; 0 where it lacks or is no number."""
    entries = run.info.get(part)
    value = entries.get(name) if isinstance(entries, Mapping) else None
    return value if isinstance(value, (int, float)) else 0.0
