"""The lines above these figures: machine, run, how long and on what was trained, how many seeds, what failed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from elattn_bench.figures.header import compose
from elattn_bench.figures.look import Look
from elattn_bench.figures.quality.nouns import Comparison
from elattn_bench.quality.rows import QualityRow
from elattn_bench.quality.rundir import QualityRun
from elattn_bench.quality.scores import Score, TaskFacet


def describe(
    run: QualityRun, rows: Sequence[QualityRow], remarks: Sequence[str], look: Look, *, brief: bool = False
) -> list[str]:
    """The lines below a title, of the rows shown.

    Args:
        brief: the tasks differ too much for one sentence on their sizes.
    """
    shown = [row for row in rows if row.ok] or list(rows)
    fixed = [_range("epoch", (row.epochs for row in shown)), seeds_words(shown)]
    if not brief:
        fixed += [_range("batch of", (row.batch for row in shown), plural=False), *_sizes(shown)]
    fixed.append(f"judged on {' and '.join(sorted({row.split for row in shown}))}")
    return compose(run, f"run {run.path.name}", f"{', '.join(filter(None, fixed))}.", [*remarks], look)


def seeds_words(rows: Iterable[QualityRow]) -> str:
    """``3 seeds``; ``2 to 3 seeds`` where models differ."""
    seeds: defaultdict[tuple[str, bool, str], set[int]] = defaultdict(set)
    for row in rows:
        seeds[row.task, row.causal, row.model].add(row.seed)
    return _range("seed", map(len, seeds.values()))


def bars_words(found: Iterable[Comparison]) -> str:
    """What the bars are, if there are any."""
    seeds = {score.seeds for comparison in found for score in comparison.scores}
    if max(seeds, default=1) == 1:
        return "One seed: no spread is known."
    some = " (a mark without: one seed)" if 1 in seeds else ""
    return f"Marks: means over seeds; bars: lowest to highest seed{some}."


def far_words(comparison: Comparison, far: Sequence[Score]) -> str:
    """Which floors are not drawn, if any."""
    words = ", ".join(f"{each.model} ({comparison.metric.text(each.mean)})" for each in far)
    return f"Off the axis: {words}." if far else ""


def data_words(run: QualityRun, facets: Iterable[TaskFacet]) -> str:
    """What to know of the data, as the run has noted it."""
    noted = run.info.get("data", {})
    notes = [noted.get(task, {}).get("note", "") for task in dict.fromkeys(each.task for each in facets)]
    return " ".join(
        f"{note[0].upper()}{note[1:].rstrip('.')}." for note in dict.fromkeys(filter(None, notes))
    )


def _sizes(rows: Sequence[QualityRow]) -> list[str]:
    """How many examples, and the transformer's sizes where they are the same in all rows."""
    examples = [_range("training example", (row.train_examples for row in rows))]
    examples.append(_range("test example", (row.test_examples for row in rows)))
    net = [row for row in rows if row.dim is not None]
    if not net:
        return examples
    sizes = ", ".join(
        f"{name} {'/'.join(map(str, sorted({getattr(row, name) for row in net})))}"
        for name in ("dim", "heads", "depth")
    )
    return [*examples, f"transformer of {sizes}"]


def _range(noun: str, values: Iterable[int | None], *, plural: bool = True) -> str:
    """``10 epochs``, ``2 to 10 epochs``; ``batch of 128``; empty where nothing is known."""
    known = sorted({value for value in values if value is not None})
    if not known:
        return ""
    numbers = f"{known[0]:,}" if len(known) == 1 else f"{known[0]:,} to {known[-1]:,}"
    return f"{numbers} {noun}{'' if known == [1] else 's'}" if plural else f"{noun} {numbers}"
