"""Claims as they stand in the papers, what was measured, and the verdicts: sentences, tables, records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elattn_bench.quality.claims import Claim
from elattn_bench.quality.judging import DEFINITIONS, Finding, Judgement
from elattn_bench.quality.told import (
    conditions,
    how_many,
    measured,
    might,
    sentence,
    share_text,
    span,
    verdict_word,
    whose,
)
from elattn_bench.tables.listings import interval_record
from elattn_bench.tables.render import Column, Table

SAID: Mapping[str, str] = {"quoted": '"{}"', "second-hand": 'second-hand: "{}"', "ours": "our question: {}"}


def sentences(judged: Sequence[Judgement], data: Mapping[str, str]) -> list[str]:
    """The verdicts on the claims that the run has models and a task of."""
    return [sentence(each, data) for each in judged if each.concerns_run]


def claim_tables(judged: Sequence[Judgement]) -> list[Table]:
    """The claims as quoted with their verdicts; then task by task what was measured. None where the run has none."""
    told = [each for each in judged if each.concerns_run]
    if not told:
        return []
    columns = [Column("claim", wraps=True), Column("measured", wraps=True), Column("verdict")]
    rows = [[_quoted(each.claim), _measured(each), verdict_word(each.claim, each.verdict)] for each in told]
    return [Table("Claims", columns, rows), _by_task(told)]


def _quoted(claim: Claim) -> str:
    return f"{claim.name} ({claim.paper}): {SAID[claim.source].format(claim.text)}"


def _measured(judgement: Judgement) -> str:
    """The ratio of a claim on one task; of several, on how many it holds."""
    claim, findings = judgement.claim, judgement.findings
    if len(findings) > 1:
        return f"{claim.amount} of {claim.reference} on {how_many(judgement)}" + _left_out(findings)
    (finding,) = findings
    if finding.subject is None or finding.reference is None:
        return finding.reason
    share = "" if finding.share is None else f" with {share_text(finding.share)} of its parameters"
    return f"{measured(finding)} of {claim.reference}{share}"


def _left_out(findings: Sequence[Finding]) -> str:
    """How many tasks do not count, as they cannot tell attentions apart; empty where all do."""
    count = sum(finding.blunt for finding in findings)
    return f"; {span({count}, 'task')} not counted" if count else ""


def _by_task(told: Sequence[Judgement]) -> Table:
    columns = [
        Column("claim"), Column("task"), Column("% of reference", "right"), Column("verdict"),
    ]  # fmt: skip
    rows = [
        [each.claim.name, finding.task, _plain(finding), verdict_word(each.claim, finding.verdict)]
        for each in told
        for finding in each.findings
        if finding.subject and finding.reference
    ]  # fmt: skip
    return Table("Claims, task by task", columns, rows, pinned=2)


def _plain(finding: Finding) -> str:
    """The ratio, its unit in the heading."""
    return measured(finding).replace(" %", "")


def claim_notes(judged: Sequence[Judgement]) -> list[str]:
    """What the verdicts mean, what would decide the undecided, and the claims that this run cannot test."""
    told = [each for each in judged if each.concerns_run]
    undecided = [
        f"{each.claim.name} on {finding.task}: {might(finding)}"
        for each in told
        for finding in each.findings
        if finding.undecided
    ]
    return [
        *([DEFINITIONS] if told else []),
        *(
            [f"Seeds that may decide, if means and spreads stay: {'; '.join(undecided)}."]
            if undecided
            else []
        ),
        *_not_tested([each for each in judged if not each.concerns_run]),
    ]


def _not_tested(others: Sequence[Judgement]) -> list[str]:
    """Claims that this run says nothing of, those with one reason together."""
    reasons: dict[str, list[str]] = {}
    for each in others:
        reasons.setdefault(_why(each), []).append(f"{each.claim.name} ({whose(each.claim)})")
    said = "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())
    return [f"Not testable here: {said}."] if said else []


def _why(judgement: Judgement) -> str:
    if not judgement.findings:
        return judgement.claim.obstacle
    absent = "not in this run"
    reasons = dict.fromkeys(each.reason for each in judgement.findings if each.reason != absent)
    return ", ".join(reasons) or absent


def claim_records(judged: Sequence[Judgement], data: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every claim, tested or not, with its words and its findings."""
    return [
        {
            "claim": each.claim.name, "paper": each.claim.paper, "source": each.claim.source, "text": each.claim.text,
            "subject": each.claim.subject, "reference": each.claim.reference, "causal": each.claim.causal,
            "rule": each.claim.rule, "verdict": verdict_word(each.claim, each.verdict),
            "sentence": sentence(each, data), "findings": [_finding(each.claim, one) for one in each.findings],
        }
        for each in judged
    ]  # fmt: skip


def _finding(claim: Claim, finding: Finding) -> dict[str, Any]:
    return {
        "task": finding.task, "verdict": verdict_word(claim, finding.verdict), "reason": finding.reason,
        **interval_record("ratio", finding.ratio), "ratio": finding.point, "bar": claim.ratio,
        "params_ratio": finding.share,
        "conditions": conditions([finding]) if finding.subject and finding.reference else None,
        "seeds_that_may_decide": finding.decisive, "floors": dict(finding.floors),
    }  # fmt: skip
