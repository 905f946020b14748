"""Tables of scores: per task and form every model; by order of a polynomial; by length of the sequence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from elattn_bench.quality.joined import Joined
from elattn_bench.quality.scores import Score, TaskFacet, is_share, plain_ratio, ratio, share_of_params
from elattn_bench.quality.told import interval_text, percent, share_text, span
from elattn_bench.tables.listings import NO_NUMBER
from elattn_bench.tables.render import Column, Table
from elattn_bench.units import WITHOUT_INTERVAL, format_bytes, format_ms, significant

SD_DIGITS = 2  # of a standard deviation, whose own uncertainty is large (GUM 7.2.6: at most two)
THOUSAND, MILLION = 1e3, 1e6
SCORE = 1  # the column of the score


def score_table(
    facet: TaskFacet, models: Mapping[str, Score], reference: Score | None, joined: Joined | None
) -> Table:
    """One row per model, in the order given: what it reached over seeds, and what it took.

    Args:
        reference: whose share the scores are; None: no share is shown.
        joined: latencies from a sweep, which become the last column.
    """
    counts = {len(score.values) for score in models.values()}
    columns = [
        Column("model"), Column(unit(models.values()), "right"), Column("sd", "right"),
        *([Column("seeds", "right")] if len(counts) > 1 else []), *_of_columns(reference),
        Column("params", "right"), *_params_columns(reference), Column("backend"),
        Column("train", "right"), Column("step", "right"), Column("memory", "right"),
        *([Column(joined.title, "right")] if joined and joined.rows else []),
    ]  # fmt: skip
    rows = [_row(score, reference, joined, seeds=len(counts) > 1) for score in models.values()]
    best = frozenset((place, SCORE) for place, name in enumerate(models) if name in best_of(models))
    return Table(_title(facet, models.values()), columns, rows, best=best)


def _of_columns(reference: Score | None) -> list[Column]:
    return [Column(f"of {reference.model}", "right"), Column("interval", "right")] if reference else []


def _params_columns(reference: Score | None) -> list[Column]:
    return [Column("of its params", "right")] if reference else []


def unit(found: Collection[Score]) -> str:
    """What the numbers of a column are: ``accuracy %``, ``mse``."""
    metric = next(iter(found)).metric.replace("_", " ")
    return f"{metric} %" if is_share(metric) else metric


def _title(facet: TaskFacet, found: Collection[Score]) -> str:
    first = next(iter(found))
    better = "higher" if first.higher_is_better else "lower"
    seeds = span({len(score.values) for score in found}, "seed")
    epochs = span({score.epochs for score in found}, "epoch")
    examples = f"{first.train_examples:,} examples" if first.train_examples else ""
    return f"{facet.text}: {', '.join(filter(None, (f'{better} is better', seeds, epochs, examples)))}"


def _row(score: Score, reference: Score | None, joined: Joined | None, *, seeds: bool) -> list[str]:
    latency = joined.latency_ms.get(score.model) if joined else None
    return [
        called(score), mean_text(score), sd_text(score), *([str(len(score.values))] if seeds else []),
        *(_of_reference(score, reference) if reference else []),
        count_text(score.params), *([_share(score, reference)] if reference else []),
        score.backend or NO_NUMBER,
        format_ms(1e3 * score.train_s if score.train_s is not None else None), format_ms(score.step_ms_p50),
        format_bytes(score.peak_memory_bytes), *([format_ms(latency)] if joined and joined.rows else []),
    ]  # fmt: skip


def called(score: Score) -> str:
    """The model, and that it is a floor."""
    return f"{score.model} (floor)" if score.family == "floor" else score.model


def mean_text(score: Score) -> str:
    """The mean, with the decimals of two digits of its spread; with three digits where there is none."""
    factor = 100 if is_share(score.metric) else 1
    if not score.sd:
        return significant(factor * score.mean, WITHOUT_INTERVAL)
    decimals = len(significant(factor * score.sd, SD_DIGITS).partition(".")[2])
    return f"{factor * score.mean:.{decimals}f}"


def sd_text(score: Score) -> str:
    """The standard deviation over seeds, in the mean's unit; ``-`` of one seed."""
    factor = 100 if is_share(score.metric) else 1
    return NO_NUMBER if score.sd is None else significant(factor * score.sd, SD_DIGITS)


def _of_reference(score: Score, reference: Score) -> list[str]:
    if score.model == reference.model:
        return [percent(1.0), NO_NUMBER]
    plain, measured = plain_ratio(score, reference), ratio(score, reference)
    return [
        NO_NUMBER if plain is None else percent(plain),
        interval_text(measured) if measured else NO_NUMBER,
    ]


def _share(score: Score, reference: Score) -> str:
    share = share_of_params(score, reference)
    return NO_NUMBER if share is None else share_text(share)


def count_text(count: int | None) -> str:
    """A number of parameters for people: ``7.85k``, ``882k``, ``1.34M``, counted in thousands, not in 1024s."""
    if count is None:
        return NO_NUMBER
    if count < THOUSAND:
        return str(count)
    # Judged once it is rounded: 999,900 is 1.00M, not 1000k.
    thousands = significant(count / THOUSAND, 3)
    return f"{thousands}k" if float(thousands) < THOUSAND else f"{significant(count / MILLION, 3)}M"


def best_of(models: Mapping[str, Score]) -> frozenset[str]:
    """The best model, and those whose ratio to it holds 1: the seeds cannot tell them apart. None of a single one."""
    if len(models) < 2:
        return frozenset()
    ordered = sorted(
        models.values(), key=lambda score: score.mean, reverse=next(iter(models.values())).higher_is_better
    )
    return frozenset(score.model for score in ordered if _ties(score, ordered[0]))


def _ties(score: Score, best: Score) -> bool:
    measured = ratio(score, best)
    return score.mean == best.mean or (measured is not None and measured.holds(1))


def order_tables(facet: TaskFacet, models: Mapping[str, Score]) -> list[Table]:
    """Scores by order, of the attentions that were trained with several; no table where none was."""
    lines: defaultdict[str, dict[int, Score]] = defaultdict(dict)
    for score in models.values():
        if score.order is not None:
            lines[score.model.replace(f" t={score.order}", "")][score.order] = score
    several = {line: by_order for line, by_order in lines.items() if len(by_order) > 1}
    orders = sorted({order for by_order in several.values() for order in by_order})
    columns = [Column("model"), *(Column(f"t={order}", "right") for order in orders)]
    rows = [[line, *_cells(by_order, orders)] for line, by_order in several.items()]
    title = f"{facet.text}: {unit(models.values())} by order of the polynomial, mean (sd)"
    return [Table(title, columns, rows)] if rows else []


def _cells(by_column: Mapping[int, Score], keys: Iterable[int]) -> list[str]:
    return [_with_sd(by_column[key]) if key in by_column else NO_NUMBER for key in keys]


def _with_sd(score: Score) -> str:
    return mean_text(score) + (f" ({sd_text(score)})" if score.sd is not None else "")


def length_tables(facet: TaskFacet, models: Mapping[str, Score], longer: Sequence[Score]) -> list[Table]:
    """Scores at other lengths than that of training, by model; no table where there are none."""
    by_model: defaultdict[str, dict[int, Score]] = defaultdict(dict)
    for score in longer:
        if score.length is not None:
            by_model[score.model][score.length] = score
    lengths = sorted({score.length for score in longer if score.length is not None})
    columns = [
        Column("model"),
        Column("as trained", "right"),
        *(Column(str(length), "right", group="L") for length in lengths),
    ]
    rows = [
        [called(score), _with_sd(score), *_cells(by_model[name], lengths)]
        for name, score in models.items()
        if name in by_model
    ]
    title = f"{facet.text}: {unit(models.values())} at other lengths L than trained at, mean (sd)"
    return [Table(title, columns, rows)] if rows else []
