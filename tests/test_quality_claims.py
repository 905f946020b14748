"""Verdicts on claims: where the whole interval lies, what cannot be tested, what a sentence must hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_quality import FASHION, JPEG, Score, add, open_run, task, write_quality

from elattn_bench.quality.claims import CLAIMS, SERIES, Claim, targets
from elattn_bench.quality.judging import Finding, Judgement, judge
from elattn_bench.quality.rundir import QualityDir, QualityRun
from elattn_bench.quality.suites import SUITES
from elattn_bench.quality.told import sentence
from elattn_bench.results import Skipped

BY_NAME = {claim.name: claim for claim in CLAIMS}
FASHION_CLAIM, CIFAR_CLAIM = BY_NAME["92 % on Fashion-MNIST"], BY_NAME["60 % on CIFAR-10"]
SERIES_CLAIM, CAUSAL_CLAIM = BY_NAME["EA like SA, non-causal"], BY_NAME["EA like SA, causal"]
EFFICIENT_CLAIM = BY_NAME["efficient comparable"]
BETTER_CLAIM, ORDER_CLAIM = BY_NAME["EA-6 outperforms"], BY_NAME["EA-6 better than EA-2"]


def _judged(run: QualityRun, claim: Claim) -> Judgement:
    (judgement,) = judge(run.rows, [claim])
    return judgement


def _fashion(path: Path, subject: Score, vgg: Score = 0.925, **how: Any) -> Judgement:
    run = write_quality(path / "run", {"fashion-mnist": {"hadamard-net-3": subject, "vgg": vgg}}, **how)
    return _judged(run, FASHION_CLAIM)


def _series(
    path: Path,
    ratios: Mapping[str, float],
    claim: Claim,
    reference: str = "softmax",
    mean: Mapping[str, float] | None = None,
) -> Judgement:
    """Accuracies of 0.8 and errors of 0.4 of the reference; those of ``ea-series t=6`` and of ``mean`` by the ratio."""
    made_up: dict[str, dict[str, Score]] = {
        name: {reference: _base(name), "ea-series t=6": _scaled(name, ratio)}
        for name, ratio in ratios.items()
    }
    for name, ratio in (mean or {}).items():
        made_up[name]["mean"] = _scaled(name, ratio)
    return _judged(write_quality(path / "run", made_up, causal=claim.causal, spread=0.0005, epochs=30), claim)


def _judged_finding(run: QualityDir | QualityRun, claim: Claim, name: str) -> Finding:
    (judgement,) = judge(run.rows, [claim])
    (finding,) = [each for each in judgement.findings if each.task == name]
    return finding


def _base(name: str) -> float:
    return 0.8 if task(name).higher_is_better else 0.4


def _scaled(name: str, ratio: float) -> float:
    return _base(name) * ratio if task(name).higher_is_better else _base(name) / ratio


@pytest.mark.parametrize(
    ("subject", "verdict"),
    [(0.87, "reproduced"), (0.83, "not reproduced"), (0.8515, "not testable here")],
    ids=["above", "below", "astride"],
)
def test_the_verdict_is_where_the_whole_interval_lies(tmp_path: Path, subject: float, verdict: str) -> None:
    judgement = _fashion(tmp_path, subject)

    assert judgement.verdict == verdict
    (finding,) = judgement.findings
    assert finding.ratio is not None
    assert finding.ratio.holds(0.92) == (verdict == "not testable here")


def test_seeds_that_do_not_decide_say_how_many_might(tmp_path: Path) -> None:
    judgement = _fashion(tmp_path, 0.8535)

    assert judgement.findings[0].decisive == 6
    assert "the seeds do not decide, about 6 might" in sentence(judgement, {})


def test_one_seed_decides_nothing_but_shows_its_figure(tmp_path: Path) -> None:
    judgement = _fashion(tmp_path, 0.87, seeds=1)

    assert judgement.verdict == "not testable here"
    said = sentence(judgement, {})
    assert "one seed of hadamard-net-3, at least 2 are needed" in said
    assert f"has {100 * (0.87 - 0.002) / (0.925 - 0.002):.1f} % of vgg's accuracy" in said


def test_a_model_that_fails_with_a_seed_is_not_judged_by_the_others(tmp_path: Path) -> None:
    judgement = _fashion(tmp_path, [0.87, 0.871, float("nan")])

    assert judgement.verdict == "not testable here"
    assert "1 of 3 seeds of hadamard-net-3 failed" in sentence(judgement, {})


def test_a_good_score_with_too_many_parameters_does_not_reproduce_a_saving(tmp_path: Path) -> None:
    run = write_quality(tmp_path / "run", {"cifar10": {"hadamard-net-50": 0.75, "vgg": 0.8}})
    thrifty = Claim("", "", "quoted", "", "hadamard-net-50", "vgg", ("cifar10",), ratio=0.6, share=0.03)

    assert _judged(run, CIFAR_CLAIM).verdict == "reproduced"
    judgement = _judged(run, thrifty)
    assert judgement.verdict == "not reproduced"
    assert "more parameters than claimed" in sentence(judgement, {})


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ({"vgg": 0.9}, "hadamard-net-3 is not in this run"),
        ({"hadamard-net-3": 0.9}, "vgg is not in this run"),
        (
            {"vgg": 0.9, "hadamard-net-3": Skipped("oom", "needs 64 GiB")},
            "hadamard-net-3 failed (oom: needs 64 GiB)",
        ),
    ],
    ids=["subject", "reference", "failed"],
)
def test_what_is_missing_is_said(tmp_path: Path, scores: Mapping[str, Score], reason: str) -> None:
    judgement = _judged(write_quality(tmp_path / "run", {"fashion-mnist": scores}), FASHION_CLAIM)

    assert judgement.verdict == "not testable here"
    assert judgement.findings[0].reason == reason


def test_a_choice_on_validation_examples_is_no_test_of_a_claim(tmp_path: Path) -> None:
    judgement = _fashion(tmp_path, 0.87, split="validation")

    assert judgement.verdict == "not testable here"
    assert judgement.findings[0].reason == "judged on validation examples, not on test examples"


def test_models_of_different_epochs_are_not_compared(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        add(run, "fashion-mnist", {"vgg": 0.92}, epochs=10)
        add(run, "fashion-mnist", {"hadamard-net-3": 0.88}, epochs=2)
    (judgement,) = judge(run.rows, [FASHION_CLAIM])

    assert judgement.verdict == "not testable here"
    assert judgement.findings[0].reason == "hadamard-net-3 has 2 epochs, vgg 10"


def test_a_claim_of_ten_epochs_on_all_images_is_not_judged_by_less(tmp_path: Path) -> None:
    short = _fashion(tmp_path / "short", 0.87, epochs=3)
    assert short.verdict == "not testable here"
    assert "trained for 3 epochs, the claim is of 10" in sentence(short, {})

    run = write_quality(tmp_path / "few", {"fashion-mnist": {"hadamard-net-3": 0.87, "vgg": 0.925}})
    few = replace(run, rows=[replace(row, train_examples=6000) for row in run.rows])
    assert (
        _judged(few, FASHION_CLAIM).findings[0].reason == "trained on 6,000 examples, the claim is of 60,000"
    )


@pytest.mark.parametrize(
    ("name", "how", "reason"),
    [
        ("etth1-96", {"epochs": 1}, "trained less than the standard suite (1 of 2 epochs)"),
        ("basic-motions", {"epochs": 29}, "trained less than the standard suite (29 of 30 epochs)"),
        ("etth1-96", {"train_examples": 1000}, "trained less than the standard suite (1,000 of 8,449 examples)"),
        ("cifar10", {"train_examples": 11_999}, "trained less than the standard suite (11,999 of 12,000 examples)"),
        ("cifar10", {"epochs": 4, "train_examples": 12_000}, ""),
        ("shakespeare", {"epochs": 1, "train_examples": 18_959}, ""),
    ],
)  # fmt: skip
def test_attentions_are_not_judged_by_less_than_the_standard_suite(
    tmp_path: Path, name: str, how: Mapping[str, Any], reason: str
) -> None:
    claim = next(each for each in (EFFICIENT_CLAIM, SERIES_CLAIM, CAUSAL_CLAIM) if name in each.tasks)
    made_up = {name: {"softmax": 0.9, claim.subject: 0.9}}
    run = write_quality(tmp_path / "run", made_up, spread=0.0005, causal=claim.causal)
    changed: dict[str, Any] = {"epochs": 30, **how}
    rows = [replace(row, **changed) for row in run.rows]
    finding = _judged_finding(replace(run, rows=rows), claim, name)

    assert finding.reason == reason
    assert finding.verdict == ("not testable here" if reason else "reproduced")


def test_what_the_standard_suite_trains_is_enough_for_its_claims() -> None:
    entries = SUITES["standard"].entries

    assert {name for claim in CLAIMS if claim.of_attentions for name in claim.tasks} <= set(entries)
    assert not any(claim.of_attentions and (claim.epochs or claim.examples) for claim in CLAIMS)


def test_comparable_must_hold_on_each_task_and_one_that_does_not_is_enough_to_refute(tmp_path: Path) -> None:
    good = dict.fromkeys(SERIES, 0.995)

    assert _series(tmp_path / "all", good, SERIES_CLAIM).verdict == "reproduced"
    judgement = _series(tmp_path / "one", {**good, "etth1-96": 0.93}, SERIES_CLAIM)
    assert judgement.verdict == "not reproduced"
    assert [each.task for each in judgement.with_verdict("not reproduced")] == ["etth1-96"]
    assert "etth2-96, etth2-192); not on etth1-96 93.0 %" in sentence(judgement, {})


def test_a_task_that_is_not_in_the_run_leaves_a_claim_on_all_of_them_open(tmp_path: Path) -> None:
    judgement = _series(tmp_path, dict.fromkeys(SERIES[:-1], 0.995), SERIES_CLAIM)

    assert judgement.verdict == "not testable here"
    said = sentence(judgement, {})
    assert "on 5 of 6 tasks (japanese-vowels, " in said
    assert "; not in this run: etth2-192" in said


def test_an_error_within_the_margin_is_comparable_and_one_beyond_is_not(tmp_path: Path) -> None:
    judgement = _series(tmp_path, {"etth1-96": 1 / 1.01, "etth2-96": 1 / 1.04}, SERIES_CLAIM)

    assert [each.task for each in judgement.with_verdict("reproduced")] == ["etth1-96"]
    assert [each.task for each in judgement.with_verdict("not reproduced")] == ["etth2-96"]


def test_a_task_that_uniform_attention_passes_counts_neither_for_nor_against(tmp_path: Path) -> None:
    good, blunt = dict.fromkeys(SERIES, 0.995), dict.fromkeys(SERIES[:2], 0.99)
    apart = dict.fromkeys(SERIES[2:], 0.9)

    held = _series(tmp_path / "held", good, SERIES_CLAIM, mean={**blunt, **apart})
    assert held.verdict == "reproduced"
    assert [each.task for each in held.findings if each.blunt] == list(SERIES[:2])
    assert [each.task for each in held.with_verdict("reproduced")] == list(SERIES[2:])
    said = sentence(held, {})
    assert "on 4 of 4 tasks (etth1-96, etth1-192, etth2-96, etth2-192); not counted, as mean, which" in said
    assert "passes the bar as well: japanese-vowels, basic-motions (3 seeds" in said

    unsure = _series(tmp_path / "unsure", {**good, SERIES[0]: 0.98}, SERIES_CLAIM, mean={**blunt, **apart})
    assert unsure.verdict == "reproduced"


def test_where_no_task_tells_attentions_apart_the_claim_is_not_testable(tmp_path: Path) -> None:
    judgement = _series(
        tmp_path, dict.fromkeys(SERIES, 0.995), SERIES_CLAIM, mean=dict.fromkeys(SERIES, 0.99)
    )

    assert judgement.verdict == "not testable here"
    assert sentence(judgement, {}).startswith(
        "Not testable here (2501.05730, EA like SA, non-causal): not counted, as mean, which does not attend, "
        "passes the bar as well: japanese-vowels, basic-motions, "
    )


def test_who_fails_where_uniform_attention_passes_has_failed(tmp_path: Path) -> None:
    ratios = {**dict.fromkeys(SERIES, 0.995), "etth2-96": 0.9}
    judgement = _series(tmp_path, ratios, SERIES_CLAIM, mean=dict.fromkeys(SERIES, 0.99))

    assert judgement.verdict == "not reproduced"
    assert [each.task for each in judgement.with_verdict("not reproduced")] == ["etth2-96"]


def test_uniform_attention_must_pass_with_its_whole_interval_and_trained_as_long(tmp_path: Path) -> None:
    near = _series(tmp_path / "near", {"etth1-96": 0.995}, SERIES_CLAIM, mean={"etth1-96": 0.981})
    assert near.findings[2].verdict == "reproduced"

    with open_run(tmp_path / "longer") as run:
        add(run, "etth1-96", {"softmax": 0.4, "ea-series t=6": 0.4}, spread=0.0005)
        add(run, "etth1-96", {"mean": 0.4}, spread=0.0005, epochs=100)
    assert _judged_finding(run, SERIES_CLAIM, "etth1-96").verdict == "reproduced"


def test_a_network_against_vgg_is_judged_whatever_uniform_attention_reaches(tmp_path: Path) -> None:
    made_up = {"fashion-mnist": {"hadamard-net-3": 0.87, "vgg": 0.925, "mean": 0.9}}
    judgement = _judged(write_quality(tmp_path / "run", made_up), FASHION_CLAIM)

    assert judgement.verdict == "reproduced"
    assert sentence(judgement, {}).endswith("while mean has 97.3 %.")


def test_without_uniform_attention_the_sentence_says_what_is_not_known(tmp_path: Path) -> None:
    made_up = {"etth1-96": {"softmax": 0.4, "ea-series t=6": 0.4, "nlinear": 0.6}}
    judgement = _judged(write_quality(tmp_path / "run", made_up, spread=0.0005), SERIES_CLAIM)

    assert sentence(judgement, {}).endswith(
        "floors as good: none; mean was not trained on etth1-96, which may not tell attentions apart."
    )


def test_two_horizons_of_a_series_are_one_data_set(tmp_path: Path) -> None:
    hours = {"etth1-96": 1.03, "etth1-192": 1.03}
    judgement = _series(tmp_path / "open", hours, BETTER_CLAIM)
    assert judgement.verdict == "not testable here"
    assert "on 1 of 4 data sets (etth1-96, etth1-192)" in sentence(judgement, {})

    refuted = _series(tmp_path / "refuted", {**dict.fromkeys(SERIES, 0.97), **hours}, BETTER_CLAIM)
    assert refuted.verdict == "not reproduced"
    assert "2 of 4 data sets" in BETTER_CLAIM.rule
    assert "2 of 4 data sets" in ORDER_CLAIM.rule


def test_a_data_set_on_which_one_horizon_fails_does_not_count_for_a_claim(tmp_path: Path) -> None:
    mixed = {"etth1-96": 1.03, "etth1-192": 0.97, "etth2-96": 1.03, "etth2-192": 1.0}
    tally = _series(tmp_path, mixed, BETTER_CLAIM).tally

    assert (tally.held, tally.failed, tally.undecided) == (1, 1, 2)


def test_too_few_data_sets_that_tell_attentions_apart_refute_nothing(tmp_path: Path) -> None:
    ratios = {**dict.fromkeys(SERIES, 1.05), "japanese-vowels": 0.97}
    mean = dict.fromkeys(SERIES[1:], 1.04)
    judgement = _series(tmp_path, ratios, BETTER_CLAIM, mean=mean)

    assert judgement.verdict == "not testable here"
    assert "on 0 of 1 data set; not on japanese-vowels 97.0 %" in sentence(judgement, {})


def test_better_on_two_data_sets_is_better_on_multiple_and_equal_is_not_better(tmp_path: Path) -> None:
    assert (
        _series(tmp_path / "two", {"etth1-96": 1.03, "etth2-96": 1.03}, BETTER_CLAIM).verdict == "reproduced"
    )
    refuted = {**dict.fromkeys(SERIES, 0.97), "etth1-96": 1.03}
    assert _series(tmp_path / "one", refuted, BETTER_CLAIM).verdict == "not reproduced"
    equal = _series(tmp_path / "none", {"etth1-96": 1.0, "etth2-96": 1.0}, BETTER_CLAIM)
    assert equal.with_verdict("reproduced") == []


def test_a_question_of_ours_holds_or_does_not(tmp_path: Path) -> None:
    judgement = _series(tmp_path, {"etth1-96": 1.03, "etth2-96": 1.03}, ORDER_CLAIM, "ea-series t=2")

    assert sentence(judgement, {}).startswith("Holds (our question on 2501.05730, ")


def test_a_claim_on_the_causal_form_is_not_told_from_the_other_form(tmp_path: Path) -> None:
    judgement = _series(tmp_path, dict.fromkeys(SERIES, 0.995), SERIES_CLAIM)
    run = write_quality(tmp_path / "again", {"etth1-96": {"softmax": 0.4, "ea-series t=6": 0.4}})

    assert judgement.verdict == "reproduced"
    reasons = {each.task: each.reason for each in _judged(run, CAUSAL_CLAIM).findings}
    assert reasons["etth1-96"] == "not trained causal"
    assert reasons["shakespeare"] == "not in this run"


def test_a_subject_may_have_been_asked_for_with_a_backend(tmp_path: Path) -> None:
    made_up = {"etth1-96": {"softmax/sdpa": 0.4, "ea-series/fused t=6": 0.4}}
    run = write_quality(tmp_path / "run", made_up)

    assert [each.task for each in _judged(run, SERIES_CLAIM).with_verdict("reproduced")] == ["etth1-96"]


def test_a_sentence_can_be_quoted_alone(tmp_path: Path) -> None:
    made_up = {"cifar10": {"vgg": 0.8, "hadamard-net-50": 0.6, "conv-50": 0.7, "logistic": 0.4}}
    run = write_quality(tmp_path / "run", made_up, epochs=12)

    said = sentence(_judged(run, CIFAR_CLAIM), {"cifar10": JPEG})
    assert said == (
        "Reproduced (2302.05488, 60 % on CIFAR-10, CIFAR-10 as JPEG): hadamard-net-50 has 75.0 % [74.5, 75.5] of "
        "vgg's accuracy with 49.9 % of its parameters (claimed: 60 % with 50 %; 3 seeds, 12 epochs); while conv-50 "
        "has 87.5 %, logistic 50.0 %."
    )


def test_floors_that_pass_the_bar_as_well_are_counted(tmp_path: Path) -> None:
    made_up = {
        name: {"softmax": 0.4, "ea-series t=6": 0.4, "mean": uniform, "nlinear": error}
        for name, uniform, error in (
            ("etth1-96", 0.408, 0.39), ("etth2-96", 0.407, 0.6), ("etth2-192", 0.4, 0.4),
        )
    }  # fmt: skip
    run = write_quality(tmp_path / "run", made_up)

    said = sentence(_judged(run, SERIES_CLAIM), {})
    assert said.endswith("floors as good: mean on 2; nlinear on 1.")


def test_claims_without_a_task_say_what_lacks(tmp_path: Path) -> None:
    run = write_quality(tmp_path / "run", {"fashion-mnist": FASHION})

    judgement = _judged(run, BY_NAME["boosts on MS-COCO"])
    assert judgement.verdict == "not testable here"
    assert sentence(judgement, {}).endswith("neither MS-COCO nor a detector is here.")


def test_every_claim_can_be_tested_or_says_why_not() -> None:
    assert len(BY_NAME) == len(CLAIMS)
    for claim in CLAIMS:
        assert bool(claim.tasks) != bool(claim.obstacle)
        assert bool(claim.tasks) == bool(claim.subject and claim.reference)
        assert claim.rule


def test_figures_find_the_claims_with_a_ratio_and_a_share() -> None:
    def told(name: str) -> Iterable[tuple[float, float, str]]:
        return [(each.ratio, each.share, each.reference) for each in targets(name)]

    assert told("fashion-mnist") == [(0.92, 0.03, "vgg")]
    assert told("cifar10") == [(0.60, 0.50, "vgg")]
    assert told("etth1-96") == []
