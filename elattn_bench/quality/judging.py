"""What a run says of each claim: reproduced, not reproduced, or not testable here. Pure: no torch, no disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from elattn_bench.quality.claims import CLAIMS, Claim, data_set
from elattn_bench.quality.nouns import Task
from elattn_bench.quality.ratios import FEWEST_SEEDS, seeds_to_decide
from elattn_bench.quality.references import pick
from elattn_bench.quality.rows import QualityRow
from elattn_bench.quality.scores import (
    UNIFORM,
    Score,
    TaskFacet,
    facet_of,
    is_scored,
    of_facet,
    oriented,
    plain_ratio,
    ratio,
    scores,
    share_of_params,
)
from elattn_bench.quality.suites import SUITES
from elattn_bench.quality.tasks import TASKS
from elattn_bench.verdicts.nouns import Estimate

Verdict = Literal["reproduced", "not reproduced", "not testable here"]

BLUNT = "mean, which does not attend, passes the bar as well"
"""Why a task does not count for a claim about attentions: it cannot tell them apart."""

DEFINITIONS = (
    "Verdicts: a score is divided by its reference's, an error into it, so that above 100 % is better; the 95 % "
    "interval of that ratio is over seeds (Fieller 1954, Student's t). reproduced: all of it lies on the claim's side "
    "of the bar, on as many tasks or data sets as the claim asks for. not reproduced: on so many all of it lies on the "
    "other side that the claim cannot hold. not testable here: data, a model or seeds are missing in this run, it "
    "trained less than is claimed (attentions: less than the standard suite), or the interval holds the bar, so that "
    "the seeds do not decide. A task on which uniform attention (mean) passes the bar with its whole interval cannot "
    "tell attentions apart (no assay sensitivity: ICH E10, 2000): it counts against a claim about attentions where the "
    "model fails, else neither for nor against. Two horizons of a series are one data set. Of a question of ours: "
    "holds, does not hold. Comparable: at least 98 %, a margin of ours. Seeds vary the training alone, not the test "
    "examples."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the run says of a claim on one task.

    Args:
        verdict: of the task alone.
        reason: why it is not testable, or what failed beside the score; else empty.
        ratio: the subject's score over the reference's; None without two seeds of both.
        point: the same without interval, of single seeds too.
        share: of the reference's parameters.
        subject, reference: None where the run has none.
        decisive: how many seeds might decide, where the interval holds the bar; None: more than a hundred.
        floors: what else was trained, for proportion -> its score over the reference's.
        blunt: whether the task cannot tell attentions apart: uniform attention passes the bar, and the subject does
            not fail.
        data_set: what its data is; see ``claims.data_set``.
    """

    task: str
    verdict: Verdict
    reason: str = ""
    ratio: Estimate | None = None
    point: float | None = None
    share: float | None = None
    subject: Score | None = None
    reference: Score | None = None
    decisive: int | None = None
    floors: Mapping[str, float] = field(default_factory=dict)
    blunt: bool = False
    data_set: tuple[object, ...] = ()

    @property
    def undecided(self) -> bool:
        """Whether all was trained, but the interval holds the bar."""
        return self.verdict == "not testable here" and self.ratio is not None and not self.blunt


@dataclass(frozen=True, slots=True)
class Tally:
    """On how many tasks, or data sets, the claim holds, fails, and is not decided; blunt ones do not count."""

    held: int
    failed: int
    undecided: int

    @property
    def total(self) -> int:
        """All that count."""
        return self.held + self.failed + self.undecided


@dataclass(frozen=True, slots=True)
class Judgement:
    """A claim, what the run says of it, task by task, and all in all."""

    claim: Claim
    verdict: Verdict
    findings: tuple[Finding, ...] = ()

    def with_verdict(self, verdict: Verdict) -> list[Finding]:
        """The tasks that are judged so."""
        return [finding for finding in self.findings if finding.verdict == verdict]

    @property
    def tally(self) -> Tally:
        """The findings counted as the claim counts them."""
        return tally(self.claim, self.findings)

    @property
    def concerns_run(self) -> bool:
        """Whether the run has a score of the claim's own models."""
        return any(finding.subject and finding.reference for finding in self.findings)


def judge(
    rows: Sequence[QualityRow], claims: Iterable[Claim] = CLAIMS, tasks: Mapping[str, Task] = TASKS
) -> list[Judgement]:
    """Every claim, in their order.

    Args:
        tasks: by name; those of the rows.
    """
    found = scores(rows, tasks)
    return [_judge(claim, found, rows, tasks) for claim in claims]


def _judge(
    claim: Claim, found: Sequence[Score], rows: Sequence[QualityRow], tasks: Mapping[str, Task]
) -> Judgement:
    findings = tuple(
        replace(
            _of_task(claim, name, found, rows, tasks),
            data_set=data_set(tasks[name]) if name in tasks else (name,),
        )
        for name in claim.tasks
    )
    return Judgement(claim, _overall(claim, findings), findings)


def _overall(claim: Claim, findings: Sequence[Finding]) -> Verdict:
    """As the claim's rule says: it holds on enough, cannot hold on enough any more, or neither."""
    counted = tally(claim, findings)
    wanted = claim.at_least or counted.total
    if not counted.total or counted.total < wanted:
        return "not testable here"
    if counted.held >= wanted:
        return "reproduced"
    return "not reproduced" if counted.held + counted.undecided < wanted else "not testable here"


def tally(claim: Claim, findings: Iterable[Finding]) -> Tally:
    """The findings of tasks that can tell attentions apart, by data set where the claim counts those."""
    groups: defaultdict[object, list[Verdict]] = defaultdict(list)
    for finding in findings:
        if not finding.blunt:
            groups[finding.data_set if claim.at_least else finding.task].append(finding.verdict)
    verdicts = list(map(_together, groups.values()))
    return Tally(*(verdicts.count(each) for each in ("reproduced", "not reproduced", "not testable here")))


def _together(verdicts: Sequence[Verdict]) -> Verdict:
    """Of tasks of one data set: the claim holds there if it holds on one of them and fails on none."""
    if "not reproduced" in verdicts:
        return "not reproduced"
    return "reproduced" if "reproduced" in verdicts else "not testable here"


def _of_task(
    claim: Claim, name: str, found: Sequence[Score], rows: Sequence[QualityRow], tasks: Mapping[str, Task]
) -> Finding:
    facet = TaskFacet(name, claim.causal)
    models = of_facet(found, facet, tasks[name].metric) if name in tasks else {}
    subject, reference = (pick(models, label) for label in (claim.subject, claim.reference))
    if subject is None or reference is None:
        wanting = claim.subject if subject is None else claim.reference
        return Finding(name, "not testable here", _absence(wanting, facet, rows))
    compared = Finding(
        name,
        "not testable here",
        point=plain_ratio(subject, reference),
        share=share_of_params(subject, reference),
        subject=subject,
        reference=reference,
        floors=_floors(models, reference),
    )
    if obstacle := _obstacle(claim, subject, reference, rows, tasks[name]):
        return replace(compared, reason=obstacle)
    decided = _decided(claim, compared, subject, reference)
    uniform = pick(models, UNIFORM) if claim.of_attentions else None
    return _unless_blunt(claim, decided, uniform, reference)


def _unless_blunt(claim: Claim, decided: Finding, uniform: Score | None, reference: Score) -> Finding:
    """The finding, if the task can tell attentions apart: a trial needs assay sensitivity (ICH E10, 2000).

    A subject that fails where uniform attention passes was told apart, and has failed.
    """
    if uniform is None or uniform.epochs != reference.epochs or decided.verdict == "not reproduced":
        return decided
    if _side(claim, ratio(uniform, reference)) != "reproduced":
        return decided
    return replace(decided, verdict="not testable here", reason=BLUNT, decisive=None, blunt=True)


def _absence(label: str, facet: TaskFacet, rows: Sequence[QualityRow]) -> str:
    """Why the facet has no score of the model."""
    here = [row for row in rows if row.task == facet.task]
    if not here:
        return "not in this run"
    if not any(row.split == facet.split for row in here):
        return "judged on validation examples, not on test examples"
    failed = [row for row in here if row.model == label and row.causal == facet.causal and not row.ok]
    if failed:
        return f"{label} failed ({failed[0].status}: {failed[0].reason})"
    forms = {row.causal for row in here if row.attention}
    if forms and facet.causal not in forms:
        return f"not trained {'causal' if facet.causal else 'non-causal'}"
    return f"{label} is not in this run"


def _floors(models: Mapping[str, Score], reference: Score) -> dict[str, float]:
    """The floors that were trained, the best first, over the reference."""
    floors = {name: score for name, score in models.items() if score.family == "floor"}
    known = {name: plain_ratio(score, reference) for name, score in floors.items()}
    found = {name: value for name, value in known.items() if value is not None}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _obstacle(claim: Claim, subject: Score, reference: Score, rows: Sequence[QualityRow], task: Task) -> str:
    """Why the two cannot be compared; empty where they can.

    A model that fails with some seeds is not as good as the others make it look.
    """
    for score in (subject, reference):
        if lost := lost_seeds(score, rows):
            return f"{lost} of {lost + len(score.values)} seeds of {score.model} failed"
        if len(score.values) < FEWEST_SEEDS:
            return f"one seed of {score.model}, at least {FEWEST_SEEDS} are needed"
    if subject.epochs != reference.epochs:
        return f"{subject.model} has {subject.epochs} epochs, {reference.model} {reference.epochs}"
    return _too_short(claim, subject) or _below_standard(claim, (subject, reference), task)


def _too_short(claim: Claim, subject: Score) -> str:
    """What was left out of the training that is claimed; empty where nothing was."""
    if claim.epochs and subject.epochs < claim.epochs:
        return f"trained for {subject.epochs} epochs, the claim is of {claim.epochs}"
    if claim.examples and (subject.train_examples or 0) < claim.examples:
        return f"trained on {subject.train_examples or 0:,} examples, the claim is of {claim.examples:,}"
    return ""


def _below_standard(claim: Claim, compared: Iterable[Score], task: Task) -> str:
    """What the standard suite trains of the task, and these attentions were not; empty where nothing.

    Before they are trained, all attentions are alike: a verdict could be had by stopping early.
    """
    entry = SUITES["standard"].entries.get(task.name)
    if entry is None or not claim.of_attentions:
        return ""
    needed = entry.recipe.train_examples or task.train_examples
    epochs, examples = (
        min(counts)
        for counts in zip(*((each.epochs, each.train_examples or 0) for each in compared), strict=True)
    )
    if epochs < entry.recipe.epochs:
        return f"trained less than the standard suite ({epochs} of {entry.recipe.epochs} epochs)"
    if examples < needed:
        return f"trained less than the standard suite ({examples:,} of {needed:,} examples)"
    return ""


def lost_seeds(score: Score, rows: Iterable[QualityRow]) -> int:
    """With how many seeds the model failed or diverged."""
    whose = (score.facet, score.model)
    return sum(
        (facet_of(row), row.model) == whose and row.metric in (None, score.metric) and not is_scored(row)
        for row in rows
    )


def _decided(claim: Claim, compared: Finding, subject: Score, reference: Score) -> Finding:
    """The finding with the verdict that the interval allows."""
    measured, share = ratio(subject, reference), compared.share
    verdict = _side(claim, measured)
    if claim.share is not None and (share is None or share > claim.share):
        return replace(
            compared, verdict="not reproduced", reason="more parameters than claimed", ratio=measured
        )
    if verdict == "not testable here":
        decisive = seeds_to_decide(*oriented(subject, reference), claim.ratio)
        return replace(compared, reason="the seeds do not decide", ratio=measured, decisive=decisive)
    return replace(compared, verdict=verdict, ratio=measured)


def _side(claim: Claim, measured: Estimate | None) -> Verdict:
    """Where the whole interval lies; at the bar itself ``at least`` holds, ``more than`` does not."""
    if measured is None:
        return "not testable here"
    if measured.low > claim.ratio or (measured.low == claim.ratio and not claim.strict):
        return "reproduced"
    below = measured.high < claim.ratio or (measured.high == claim.ratio and claim.strict)
    return "not reproduced" if below else "not testable here"
