"""A judgement in a sentence that can be quoted alone: numbers, intervals, seeds, epochs, data, floors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from elattn_bench.quality.claims import Claim
from elattn_bench.quality.judging import BLUNT, Finding, Judgement, Verdict
from elattn_bench.quality.scores import UNIFORM, Score
from elattn_bench.units import significant
from elattn_bench.verdicts.nouns import Estimate

OWN_WORDS: Mapping[Verdict, str] = {"reproduced": "holds", "not reproduced": "does not hold"}
"""Of a question that no paper answers nothing can be reproduced."""

NO_NUMBER = "-"
NOTED = 2  # tasks of a claim, up to which notes on their data stand in its sentence
FEW = 2  # tasks of one kind that a sentence gives figures of; of more, the table does


def verdict_word(claim: Claim, verdict: Verdict) -> str:
    """The verdict; ``holds`` or ``does not hold`` of a question of ours."""
    return OWN_WORDS.get(verdict, verdict) if claim.source == "ours" else verdict


def sentence(judgement: Judgement, notes: Mapping[str, str]) -> str:
    """The verdict on a claim, and what it rests on.

    Args:
        notes: task -> what to know of its data, for example that JPEG stands for the original.
    """
    claim = judgement.claim
    verdict = verdict_word(claim, judgement.verdict).capitalize()
    findings = judgement.findings
    if not findings:
        return f"{verdict} ({whose(claim)}, {claim.name}): {claim.obstacle}."
    head = f"{verdict} ({whose(claim)}, {claim.name}{_data(findings, notes)}):"
    body = _of_one(claim, findings[0]) if len(findings) == 1 else _of_many(judgement)
    return f"{head} {body}."


def whose(claim: Claim) -> str:
    """The paper, and whether the words are its own: ``2501.05730 [second-hand]``, ``our question on 1812.01243``."""
    if claim.source == "ours":
        return f"our question on {claim.paper}"
    return claim.paper if claim.source == "quoted" else f"{claim.paper}, {claim.source}"


def _data(findings: Sequence[Finding], notes: Mapping[str, str]) -> str:
    """The notes of the tasks judged, the first clause of each; where they are many, the notes below have them."""
    if len(findings) > NOTED:
        return ""
    said = [short_note(notes[each.task]) for each in findings if each.subject and notes.get(each.task)]
    return "".join(f", {note}" for note in dict.fromkeys(said))


def short_note(note: str) -> str:
    """The note's first clause: ``CIFAR-10 as JPEG``."""
    return re.split(r"[,;:]| \(", note, maxsplit=1)[0].rstrip(".")


def _of_one(claim: Claim, finding: Finding) -> str:
    if finding.subject is None or finding.reference is None:
        return f"{finding.task}: {finding.reason}"
    params = "" if finding.share is None else f" with {share_text(finding.share)} of its parameters"
    first = f"{finding.subject.model} has {measured(finding)} of {finding.reference.model}'s {quality(finding.subject)}"
    aside = f"(claimed: {_bar(claim)}; {conditions([finding])})"
    return "; ".join([f"{first}{params} {aside}", *_doubt(finding), _beside(finding)])


def measured(finding: Finding) -> str:
    """The ratio with its interval; of a single seed without; ``-`` where there is none."""
    if finding.ratio is not None:
        return of_reference(finding.ratio)
    return NO_NUMBER if finding.point is None else percent(finding.point)


def quality(score: Score) -> str:
    """The metric in words; of an error what the ratio is of: ``inverse mse``."""
    name = score.metric.replace("_", " ")
    return name if score.higher_is_better else f"inverse {name}"


def _bar(claim: Claim) -> str:
    share = "" if claim.share is None else f" with {100 * claim.share:g} %"
    return f"{100 * claim.ratio:g} %{share}"


def _doubt(finding: Finding) -> list[str]:
    if not finding.undecided:
        return [finding.reason] if finding.reason else []
    return [f"the seeds do not decide, {might(finding)}"]


def might(finding: Finding) -> str:
    """How many seeds may decide: ``about 7 might``."""
    return f"about {finding.decisive} might" if finding.decisive else "a hundred would not either"


def _beside(finding: Finding) -> str:
    if not finding.floors:
        return "no floor was trained"
    said = [
        f"{name}{' has' * (not place)} {percent(value)}"
        for place, (name, value) in enumerate(finding.floors.items())
    ]
    return f"while {', '.join(said)}"


def _of_many(judgement: Judgement) -> str:
    """On how many tasks it holds, which of the others do not or do not count, and which floors do as well."""
    judged = [each for each in judgement.findings if each.ratio]
    if not judged:
        return "; ".join(_missing(judgement))
    counted = [each for each in judged if not each.blunt]
    parts = [*(_decided(judgement) if counted else []), *_blunt(judgement), *_missing(judgement)]
    return f"{'; '.join(parts)} ({conditions(judged)}); {_passing(judgement.claim, counted or judged)}"


def _decided(judgement: Judgement) -> list[str]:
    """On which tasks the claim holds, fails, and is left open by the seeds."""
    claim = judgement.claim
    held, failed = (judgement.with_verdict(each) for each in ("reproduced", "not reproduced"))
    unsure = [each for each in judgement.findings if each.undecided]
    named = f" ({', '.join(each.task for each in held)})" if 0 < len(held) < len(claim.tasks) else ""
    return [
        f"{claim.subject} has {claim.amount} of {claim.reference}'s score on {how_many(judgement)}{named}",
        *([f"not on {_listed(failed)}"] if failed else []),
        *([f"undecided: {_listed(unsure)}"] if unsure else []),
    ]


def how_many(judgement: Judgement) -> str:
    """On how many of those that count it holds: ``3 of 4 tasks``, ``1 of 3 data sets``."""
    counted = judgement.tally
    noun = "data set" if judgement.claim.at_least else "task"
    return f"{counted.held} of {span({counted.total}, noun)}"


def _blunt(judgement: Judgement) -> list[str]:
    """The tasks that cannot tell attentions apart."""
    names = [each.task for each in judgement.findings if each.blunt]
    return [f"not counted, as {BLUNT}: {', '.join(names)}"] if names else []


def _listed(findings: Sequence[Finding]) -> str:
    """Each with its figure, where they are few."""
    figures = [
        f" {of_reference(each.ratio)}" if each.ratio and len(findings) <= FEW else "" for each in findings
    ]
    return ", ".join(each.task + figure for each, figure in zip(findings, figures, strict=True))


def _missing(judgement: Judgement) -> list[str]:
    """What could not be judged, tasks with the same reason together."""
    reasons: dict[str, list[str]] = {}
    for each in judgement.with_verdict("not testable here"):
        if not each.undecided and not each.blunt:
            reasons.setdefault(each.reason, []).append(each.task)
    return [f"{reason}: {', '.join(tasks)}" for reason, tasks in reasons.items()]


def _passing(claim: Claim, findings: Sequence[Finding]) -> str:
    """Floors that pass the bar as well, and where the floor is missing that would show a task to be blunt."""
    passed = Counter(
        name for each in findings for name, value in each.floors.items() if _passes(claim, value)
    )
    if not any(each.floors for each in findings):
        return "no floor was trained"
    by_count: dict[int, list[str]] = {}
    for name, count in passed.most_common():
        by_count.setdefault(count, []).append(name)
    said = "; ".join(f"{', '.join(names)} on {count}" for count, names in by_count.items())
    return "; ".join([f"floors as good: {said or 'none'}", *_without_mean(claim, findings)])


def _without_mean(claim: Claim, findings: Sequence[Finding]) -> list[str]:
    """The tasks of which nobody knows whether they can tell attentions apart."""
    names = [each.task for each in findings if claim.of_attentions and UNIFORM not in each.floors]
    return (
        [f"mean was not trained on {', '.join(names)}, which may not tell attentions apart"] if names else []
    )


def _passes(claim: Claim, value: float) -> bool:
    return value > claim.ratio if claim.strict else value >= claim.ratio


def conditions(findings: Iterable[Finding]) -> str:
    """``3 seeds, 10 epochs``; ``2 to 3 seeds`` where they differ."""
    both = [score for each in findings for score in (each.subject, each.reference) if score]
    seeds = span({len(score.values) for score in both}, "seed")
    return f"{seeds}, {span({score.epochs for score in both}, 'epoch')}"


def span(counts: set[int], noun: str) -> str:
    """``3 seeds``, ``2 to 3 seeds``."""
    low, high = min(counts), max(counts)
    return f"{low} to {high} {noun}s" if low != high else f"{low} {noun}{'s' * (low != 1)}"


def of_reference(ratio: Estimate) -> str:
    """``93.1 % [92.6, 93.6]``."""
    return f"{percent(ratio.value)} {interval_text(ratio)}"


def interval_text(ratio: Estimate) -> str:
    """``[92.6, 93.6]``, in per cent."""
    return f"[{100 * ratio.low:.1f}, {100 * ratio.high:.1f}]"


def percent(ratio: float) -> str:
    """``93.1 %``: a decimal, as far as scores of small networks repeat themselves."""
    return f"{100 * ratio:.1f} %"


def share_text(share: float) -> str:
    """A share of parameters, in three digits: ``2.95 %``."""
    return f"{significant(100 * share, 3)} %"
