"""From what was asked to the jobs of a run. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import attention_impls
from attention_impls.nouns import QK_NORMS, QkNorm
from elattn_bench.axis import Axis
from elattn_bench.config import ALL
from elattn_bench.defaults import DEFAULT_ORDERS
from elattn_bench.errors import MissingData, UsageError
from elattn_bench.names import check_names
from elattn_bench.quality import data, models, tasks
from elattn_bench.quality.nouns import Job, Model, Recipe, Split, Task
from elattn_bench.quality.suites import SUITES, Entry, Suite

SPLITS = ("test", "validation")
DEFAULTS: Mapping[str, Any] = {
    "tasks": [], "suite": "standard", "impl": None, "order": None, "hp": "", "qk-norm": None, "causal": [],
    "seeds": None, "epochs": None, "examples": None, "learning-rate": None, "data-dir": [], "split": "test",
    "device": "auto", "threads": None, "jobs": 1,
}  # fmt: skip
"""Of every setting that run.json keeps, what it is when nobody says."""


@dataclass(frozen=True, slots=True)
class QualityPlan:
    """The jobs of a run, in the order in which they are trained, and what cannot be trained here.

    Args:
        settings: what was asked, for run.json.
        jobs: seeds of one task one after the other, so that an early end leaves all models with some.
        missing: a task of the suite whose data is not here -> why.
    """

    settings: Mapping[str, Any]
    jobs: Sequence[Job]
    missing: Mapping[str, str]


def make_plan(given: Mapping[str, Any]) -> QualityPlan:
    """The plan of these settings; those not given are the defaults.

    Raises:
        UsageError: a setting makes no sense.
        MissingData: a task that was named has no data here, or none of the suite has.
    """
    settings = {**DEFAULTS, **given}
    check_names("suite", [settings["suite"]], list(SUITES))
    check_names("split", [settings["split"]], SPLITS)
    suite = SUITES[settings["suite"]]
    names = settings["tasks"] or list(suite.entries)
    entries = [(task, _entry(task, suite)) for task in map(tasks.find, names)]
    folders = tuple(Path(folder) for folder in settings["data-dir"])
    missing = _missing([task for task, _ in entries], folders)
    if missing and (settings["tasks"] or len(missing) == len(entries)):
        raise next(iter(missing.values()))
    jobs = [
        job
        for task, entry in entries
        if task.name not in missing
        for job in _jobs(task, entry, range(settings["seeds"] or suite.seeds), folders, settings)
    ]
    reasons = {name: str(error) for name, error in missing.items()}
    return QualityPlan(settings, list({job.key: job for job in jobs}.values()), reasons)


def _missing(wanted: Sequence[Task], folders: Sequence[Path]) -> dict[str, MissingData]:
    """The tasks whose data is not here."""
    found = {}
    for task in wanted:
        try:
            data.locate(task, folders)
        except MissingData as error:
            found[task.name] = error
    return found


def _entry(task: Task, suite: Suite) -> Entry:
    if task.name not in suite.entries:
        raise UsageError(
            f"{task.name} is not in --suite {suite.name}, which has {', '.join(suite.entries)}; "
            "the standard suite has every task"
        )
    return suite.entries[task.name]


def _jobs(
    task: Task, entry: Entry, seeds: Iterable[int], folders: tuple[Path, ...], settings: Mapping[str, Any]
) -> list[Job]:
    """All models with a seed before any with the next."""
    recipe, split = _recipe(entry.recipe, settings), _split(settings["split"])
    # Other networks have no causal form: they are trained once, as the task's first form.
    trained = [
        (model, causal)
        for model in _models(task, entry, settings)
        for causal in (
            _forms(task, entry, settings) if model.network == models.TRANSFORMER else tasks.forms(task)[:1]
        )
    ]
    return [
        Job(task.name, model, causal, seed, recipe, folders, split)
        for seed in seeds
        for model, causal in trained
    ]


def _split(text: str) -> Split:
    return "validation" if text == "validation" else "test"


def _models(task: Task, entry: Entry, settings: Mapping[str, Any]) -> list[Model]:
    words = [name for word in _words(settings, entry) for name in _spelt_out(word)]
    orders = Axis.parse("order", settings["order"] or DEFAULT_ORDERS, minimum=0).values
    parsed = models.parse(words, orders, settings["hp"], _norms(settings["qk-norm"]))
    able = [model for model in parsed if models.can_do(model, task.kind)]
    if not able:
        raise UsageError(
            f"--impl {settings['impl']}: none of these can do {task.name}, a task of kind {task.kind}"
        )
    return able


def _words(settings: Mapping[str, Any], entry: Entry) -> Sequence[str]:
    return [word.strip() for word in settings["impl"].split(",")] if settings["impl"] else entry.models


def _spelt_out(word: str) -> Sequence[str]:
    return attention_impls.names() if word == ALL else [word]


def _norms(text: str | None) -> list[QkNorm]:
    words = text.split(",") if text else []
    check_names("qk-norm", words, QK_NORMS)
    return [norm for word in words for norm in QK_NORMS if norm == word]


def _forms(task: Task, entry: Entry, settings: Mapping[str, Any]) -> Sequence[bool]:
    possible = tasks.forms(task)
    wanted = settings["causal"] or entry.causal or possible[:1]
    forms = [form for form in wanted if form in possible]
    if not forms:
        need = "causal" if possible[0] else "not causal"
        raise UsageError(f"{task.name} is {need}; drop --{'no-' if possible[0] else ''}causal")
    return forms


def _recipe(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    changes: dict[str, Any] = {}
    if settings["epochs"] is not None:
        changes["epochs"] = settings["epochs"]
    if settings["examples"] is not None:
        changes["train_examples"] = settings["examples"]
    if settings["learning-rate"] is not None:
        changes["learning_rate"] = settings["learning-rate"]
    return replace(recipe, **changes)
