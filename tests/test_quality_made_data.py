"""Made data: every question has one answer, which the sequence tells, and a seed makes the same data again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from test_quality_plays import made_up_plays

from elattn_bench.errors import UsageError
from elattn_bench.quality.data import mqar, selective_copy, shakespeare
from elattn_bench.quality.data.made import DATA_SEED
from elattn_bench.quality.data.nouns import IGNORED, DataSet, Examples
from elattn_bench.quality.tasks import TASKS

FEW = {"train": 300, "test": 50}
Load = Callable[..., DataSet]
LOADERS = [pytest.param(mqar.load, id="mqar"), pytest.param(selective_copy.load, id="selective-copy")]

LOADER_OF: dict[str, Load] = {"mqar": mqar.load, "selective_copy": selective_copy.load}


def parts(data: DataSet) -> list[Examples]:
    assert data.validation is not None
    return [data.train, data.validation, data.test, *data.longer.values()]


class TestRecall:
    data = mqar.load([], pairs=8, steps=64, vocabulary=64, longer=((12, 128),), **FEW)

    @pytest.mark.parametrize(("name", "pairs"), [("train", 8), ("test", 8), ("@128", 12)])
    def test_is_answerable_each_key_is_told_once_before_and_asked_for_once(
        self, name: str, pairs: int
    ) -> None:
        part = {"train": self.data.train, "test": self.data.test, **self.data.longer}[name]
        for inputs, targets in zip(part.inputs, part.targets, strict=True):
            told = dict(zip(inputs[0 : 2 * pairs : 2], inputs[1 : 2 * pairs : 2], strict=True))
            asked = np.flatnonzero(targets != IGNORED)
            assert len(told) == len(asked) == pairs
            assert asked.min() >= 2 * pairs
            assert {inputs[place]: targets[place] for place in asked} == told

    def test_has_keys_in_the_lower_half_values_in_the_upper_and_the_filler_elsewhere(self) -> None:
        for part in parts(self.data):
            pairs = int((part.targets[0] != IGNORED).sum())
            keys, values, rest = (
                part.inputs[:, 0 : 2 * pairs : 2],
                part.inputs[:, 1 : 2 * pairs : 2],
                part.inputs,
            )
            assert keys.min() > mqar.FILLER
            assert keys.max() < 32 <= values.min()
            assert values.max() < 64
            assert (rest[:, 2 * pairs :][part.targets[:, 2 * pairs :] == IGNORED] == mqar.FILLER).all()

    def test_asks_near_the_pairs_more_often_than_far_from_them(self) -> None:
        asked = (self.data.train.targets != IGNORED).sum(axis=0)[16::2]
        assert asked[:6].sum() > 2 * asked[-6:].sum()
        assert (asked > 0).all()

    def test_does_not_tell_by_a_pairs_place_when_it_is_asked_for(self) -> None:
        inputs, targets = self.data.train.inputs, self.data.train.targets
        first = [
            np.flatnonzero((row == row[0]) & (target != IGNORED))[0]
            for row, target in zip(inputs, targets, strict=True)
        ]
        every = np.nonzero(targets != IGNORED)[1]
        # 300 draws of a place of sd 14: its mean is within 3 standard errors of that of all pairs.
        assert abs(np.mean(first) - every.mean()) < 3 * every.std() / np.sqrt(len(first))

    @pytest.mark.parametrize(
        ("sizes", "rule"),
        [
            ({"pairs": 9, "steps": 35}, "4 \\* pairs must be at most steps, got 9 pairs in 35 steps"),
            ({"pairs": 0, "steps": 8}, "got 0 pairs"),
            ({"pairs": 8, "vocabulary": 16}, "has 7 keys, too few for 8 pairs; take at least 18"),
        ],
    )
    def test_that_has_no_room_is_refused(self, sizes: dict[str, Any], rule: str) -> None:
        with pytest.raises(UsageError, match=rule):
            mqar.load([], **sizes)

    def test_fits_where_the_sizes_are_the_smallest_allowed(self) -> None:
        data = mqar.load([], pairs=8, steps=32, vocabulary=18, longer=(), **FEW)
        assert ((data.train.targets != IGNORED).sum(axis=1) == 8).all()


class TestSelectiveCopying:
    data = selective_copy.load([], tokens=6, steps=32, vocabulary=8, longer=(64,), **FEW)

    def test_asks_at_the_end_for_the_tokens_among_the_noise_in_their_order(self) -> None:
        for part in parts(self.data):
            told = part.inputs[:, :-6]
            assert np.array_equal(told[told > selective_copy.MARKER].reshape(-1, 6), part.targets[:, -6:])
            assert (part.inputs[:, -6:] == selective_copy.MARKER).all()
            assert (part.targets[:, :-6] == IGNORED).all()

    def test_has_its_tokens_everywhere_before_the_markers(self) -> None:
        counts = (self.data.train.inputs[:, :-6] > selective_copy.MARKER).sum(axis=0)
        # 300 sequences, each step holds a token with probability 6/26: 69 are expected, with an sd of 7.3.
        assert counts.min() > 69 - 5 * 7.3
        assert counts.max() < 69 + 5 * 7.3

    def test_uses_every_token_that_is_neither_noise_nor_marker(self) -> None:
        assert set(self.data.train.targets[:, -6:].ravel()) == set(range(2, 8))

    def test_is_as_hard_but_longer_in_the_longer_set(self) -> None:
        longer = self.data.longer["@64"]
        assert longer.inputs.shape == (50, 64)
        assert ((longer.targets != IGNORED).sum(axis=1) == 6).all()

    @pytest.mark.parametrize("sizes", [{"tokens": 17, "steps": 33}, {"tokens": 0}, {"vocabulary": 3}])
    def test_that_has_no_room_is_refused(self, sizes: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match="selective-copy: "):
            selective_copy.load([], **sizes)


class TestMadeData:
    @pytest.mark.parametrize("module", [mqar, selective_copy])
    def test_needs_no_files(self, module: ModuleType) -> None:
        assert module.locate([], steps=64) == []

    @pytest.mark.parametrize("load", LOADERS)
    def test_is_the_same_every_time(self, load: Load) -> None:
        again, once = load([], **FEW), load([], **FEW)
        assert once.files == again.files
        for one, other in zip(parts(once), parts(again), strict=True):
            assert np.array_equal(one.inputs, other.inputs)
            assert np.array_equal(one.targets, other.targets)

    @pytest.mark.parametrize("load", LOADERS)
    def test_of_one_part_does_not_depend_on_the_size_of_another(self, load: Load) -> None:
        small, large = load([], train=10, test=20), load([], train=500, test=20)
        assert small.files["test"] == large.files["test"]
        assert small.files["train"] != large.files["train"]

    @pytest.mark.parametrize("load", LOADERS)
    def test_shares_no_sequence_between_its_parts_even_if_they_are_of_one_size(self, load: Load) -> None:
        data = load([], train=50, test=50)
        assert data.validation is not None
        rows = [row.tobytes() for part in (data.train, data.validation, data.test) for row in part.inputs]
        assert len(set(rows)) == 150

    @pytest.mark.parametrize("load", LOADERS)
    def test_of_another_seed_is_other_data(self, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        usual = load([], **FEW)
        monkeypatch.setattr("elattn_bench.quality.data.made.DATA_SEED", DATA_SEED + 1)
        other = load([], **FEW)
        assert set(usual.files.values()).isdisjoint(other.files.values())

    @pytest.mark.parametrize("load", LOADERS)
    def test_stays_within_the_vocabulary(self, load: Load) -> None:
        data = load([], **FEW)
        for part in parts(data):
            assert part.inputs.min() >= 0
            assert max(part.inputs.max(), part.targets.max()) < data.outputs


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.length])
def test_the_length_that_a_task_names_is_the_one_that_its_data_has(name: str) -> None:
    task = TASKS[name]
    if task.loader == "shakespeare":
        data = shakespeare.split(made_up_plays(3_000), **_usual(shakespeare.load))
    else:
        data = LOADER_OF[task.loader]([], **FEW, **task.arguments)
    assert data.train.inputs.shape[1] == data.test.inputs.shape[1] == task.length
    assert data.longer


def _usual(load: Callable[..., DataSet]) -> dict[str, Any]:
    """What the loader takes unless told otherwise."""
    parameters = inspect.signature(load).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def test_every_task_with_tests_at_other_lengths_names_its_own() -> None:
    loaders = {task.loader for task in TASKS.values() if task.length}
    assert loaders == {task.loader for task in TASKS.values() if task.kind == "language"}
