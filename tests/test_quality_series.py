"""Series to classify and to forecast: what the loaders promise, on made-up files and on real data where it is here."""

from __future__ import annotations

import hashlib
import lzma
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from real_data import folders_or_skip

from elattn_bench.errors import MissingData
from elattn_bench.quality.data import ett, uea
from elattn_bench.quality.data.files import missing
from elattn_bench.quality.data.nouns import Array
from elattn_bench.quality.data.packages import absence
from elattn_bench.quality.data.ts_format import parse

HEADER = """# made up
@problemName Vowels
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength false
@classLabel true low high
@data
"""
TRAIN = HEADER + "1,2,3:10,20,30:low\n5,6:50,60:high\n"
TEST = HEADER + "9,8,7,6:1,2,3,4:high\n"
NAME = "Vowels"


def written(folder: Path, *, train: str = TRAIN, test: str = TEST) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{NAME}_TRAIN.ts").write_text(train, encoding="ascii")
    (folder / f"{NAME}_TEST.ts").write_text(test, encoding="ascii")
    return folder


@pytest.fixture
def _expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The made-up files are the right ones."""
    for part, text in (("TRAIN", TRAIN), ("TEST", TEST)):
        monkeypatch.setitem(uea.SHA256, f"{NAME}_{part}.ts", hashlib.sha256(text.encode()).hexdigest())


class TestATsFile:
    def test_is_read_channel_by_channel_with_its_classes(self) -> None:
        read = parse(TRAIN, "made-up.ts")
        assert [series.tolist() for series in read.series] == [
            [[1, 10], [2, 20], [3, 30]],
            [[5, 50], [6, 60]],
        ]
        assert (read.classes, read.names) == ((0, 1), ("low", "high"))

    @pytest.mark.parametrize("kept", range(len(HEADER) - 1, len(HEADER) + 14))
    def test_cut_within_its_first_series_is_refused(self, kept: int) -> None:
        with pytest.raises(MissingData, match="damaged or of another kind"):
            parse(TRAIN[:kept], "made-up.ts")

    @pytest.mark.parametrize(
        ("old", "new", "reason"),
        [
            ("5,6:50,60:high", "5,6:50:high", "line 11: its channels are not of one length"),
            ("5,6:50,60:high", "5,6:50,60:hi", "line 11: 'hi' is none of the classes low, high"),
            ("5,6:50,60:high", "5,6:high", "line 11: 2 channels and a class were expected, 1 channels came"),
            ("5,6:50,60", "5,NaN:50,60", "not a finite number"),
            ("5,6:50,60", "5,?:50,60", "could not convert"),
            ("@timeStamps false", "@timeStamps true", "its header must say '@timestamps false'"),
            ("@classLabel true low high", "@classLabel false", "its header must say '@classlabel true'"),
            ("@dimensions 2", "@dimensions", "must say '@dimensions' and a number"),
        ],
    )
    def test_that_is_of_another_kind_is_refused_by_its_line(self, old: str, new: str, reason: str) -> None:
        with pytest.raises(MissingData, match="made-up.ts") as caught:
            parse(TRAIN.replace(old, new), "made-up.ts")
        assert reason in str(caught.value)


class TestSeriesOfUnequalLength:
    data = uea.split(parse(TRAIN, "train"), parse(TEST, "test"))

    def test_are_padded_with_zeros_to_the_longest_of_both_parts(self) -> None:
        assert self.data.train.inputs.shape == (2, 4, 2)
        assert not self.data.train.inputs[0, 3:].any()
        assert not self.data.train.inputs[1, 2:].any()

    def test_say_how_many_steps_are_real(self) -> None:
        assert self.data.train.lengths is not None
        assert self.data.train.lengths.tolist() == [3, 2]

    def test_have_mean_0_and_sd_1_over_the_real_steps_of_the_training_part(self) -> None:
        real = np.concatenate([self.data.train.inputs[0, :3], self.data.train.inputs[1, :2]])
        assert real.mean(axis=0) == pytest.approx(0, abs=1e-6)
        assert real.std(axis=0) == pytest.approx(1, abs=1e-6)

    def test_that_never_change_become_0_not_nan(self) -> None:
        constant = HEADER + "0.1,0.1,0.1:10,20,30:low\n0.1,0.1:50,60:high\n"
        data = uea.split(parse(constant, "train"), parse(constant, "test"))
        assert np.allclose(data.train.inputs[..., 0], 0, atol=1e-6)
        assert np.isfinite(data.train.inputs).all()

    def test_of_the_test_part_are_scaled_by_the_training_part(self) -> None:
        first = np.array([1, 2, 3, 5, 6])
        assert self.data.test.inputs[0, :, 0] == pytest.approx(
            (np.array([9, 8, 7, 6]) - first.mean()) / first.std()
        )

    def test_keep_their_lengths_when_rows_are_taken(self) -> None:
        taken = self.data.train.take(np.array([1]))
        assert taken.lengths is not None
        assert taken.lengths.tolist() == [2]


class TestSeriesFiles:
    @pytest.mark.usefixtures("_expected")
    @pytest.mark.parametrize("under", ["", NAME])
    def test_are_found_in_the_folder_or_in_the_one_of_their_name(self, tmp_path: Path, under: str) -> None:
        folder = written(tmp_path / under)
        assert uea.locate([tmp_path], NAME) == [folder / "Vowels_TRAIN.ts", folder / "Vowels_TEST.ts"]
        assert len(uea.load([tmp_path], NAME).test) == 1

    @pytest.mark.usefixtures("_expected")
    def test_in_a_wheel_are_the_same_as_in_a_folder(self, tmp_path: Path) -> None:
        folder = written(tmp_path / "plain")
        wheel = tmp_path / "aeon-9.9-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for path in folder.iterdir():
                archive.write(path, f"aeon/datasets/data/{NAME}/{path.name}")
        assert uea.locate([tmp_path], NAME) == [wheel]
        packed, plain = uea.load([tmp_path], NAME), uea.load([folder], NAME)
        assert packed.files == plain.files
        assert np.array_equal(packed.train.inputs, plain.train.inputs)

    @pytest.mark.usefixtures("_expected")
    def test_in_an_installed_package_are_found_without_importing_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = tmp_path / "site" / "aeon"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('it was imported')", encoding="ascii")
        written(package / "datasets" / "data" / NAME)
        monkeypatch.syspath_prepend(tmp_path / "site")
        assert len(uea.load([], NAME).train) == 2

    @pytest.mark.usefixtures("_expected")
    def test_with_another_content_are_refused(self, tmp_path: Path) -> None:
        written(tmp_path, test=TEST.replace("9,8", "9,9"))
        with pytest.raises(MissingData, match=r"Vowels_TEST.ts is not the file it should be"):
            uea.load([tmp_path], NAME)

    def test_that_are_not_there_are_told_with_what_gives_them(self, tmp_path: Path) -> None:
        with pytest.raises(MissingData, match=r"pip download --no-deps aeon==1.6.0.*Nothing is downloaded"):
            uea.locate([tmp_path], "BasicMotions")

    def test_of_which_one_is_missing_are_told_by_its_name(self, tmp_path: Path) -> None:
        (written(tmp_path) / "Vowels_TEST.ts").unlink()
        with pytest.raises(
            MissingData, match=r"Vowels_TEST.ts, which belongs to Vowels_TRAIN.ts, not found in"
        ):
            uea.locate([tmp_path], NAME)

    def test_in_a_cut_wheel_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "aeon-1.6.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 and no more")
        with pytest.raises(MissingData, match="is not a whole wheel"):
            uea.load([tmp_path], "BasicMotions")


def made_up_hours(month: int = 20, horizon: int = 3, history: int = 5) -> tuple[Array, int, int, int]:
    """Hours that say their own number, in two channels; more of them than the split uses."""
    hours = np.arange(21 * month, dtype=np.float64)
    return np.stack([hours, -hours], axis=1), month, horizon, history


class TestAForecastsWindows:
    hours, month, horizon, history = made_up_hours()
    data = ett.split(hours, horizon, history, month=month)

    def hour_numbers(self, values: Array) -> Array:
        """Which hours these standardised values of the first channel are."""
        training = self.hours[: 12 * self.month, 0]
        numbers: Array = np.rint(values[..., 0] * training.std() + training.mean()).astype(int)
        return numbers

    def test_ask_for_the_hours_right_after_the_history(self) -> None:
        for part in (self.data.train, self.data.test):
            whole = np.concatenate([self.hour_numbers(part.inputs), self.hour_numbers(part.targets)], axis=1)
            assert (np.diff(whole, axis=1) == 1).all()

    def test_are_one_for_each_hour_at_which_history_and_horizon_fit(self) -> None:
        assert len(self.data.train) == 12 * self.month - self.history - self.horizon + 1
        assert len(self.data.test) == 4 * self.month - self.horizon + 1

    def test_of_training_hold_no_hour_that_is_forecast_elsewhere(self) -> None:
        assert self.data.validation is not None
        trained = self.hour_numbers(self.data.train.targets).max()
        chosen = self.hour_numbers(self.data.validation.targets)
        tested = self.hour_numbers(self.data.test.targets)
        assert trained < chosen.min()
        assert chosen.max() < tested.min()
        assert self.hour_numbers(self.data.train.inputs).max() < chosen.min()

    def test_forecast_every_hour_of_a_part_and_none_beyond_twenty_months(self) -> None:
        tested = self.hour_numbers(self.data.test.targets)
        assert set(tested.ravel()) == set(range(16 * self.month, 20 * self.month))

    def test_have_mean_0_and_sd_1_over_the_training_hours(self) -> None:
        train = self.data.train
        whole = np.concatenate([train.inputs[:, 0], train.inputs[-1, 1:], train.targets[-1]])
        assert len(whole) == 12 * self.month
        assert whole.mean(axis=0) == pytest.approx(0, abs=1e-6)
        assert whole.std(axis=0) == pytest.approx(1, abs=1e-6)

    def test_of_a_channel_that_never_changes_become_0_not_nan(self) -> None:
        hours = np.random.default_rng(0).normal(size=(200, 2))
        hours[:, 1] = 0.1
        data = ett.split(hours, horizon=2, history=3, month=10)
        assert np.allclose(data.test.inputs[..., 1], 0, atol=1e-6)
        assert np.isfinite(data.test.inputs).all()

    def test_are_views_of_the_hours_not_copies(self) -> None:
        assert np.shares_memory(self.data.train.inputs, self.data.train.targets)


class TestAForecastsFile:
    text = "date," + ",".join(ett.CHANNELS) + "\n" + "2016-07-01 00:00:00,1,2,3,4,5,6,7\n" * 3

    def test_is_read_without_its_dates(self) -> None:
        assert ett.values(self.text, "ETTh1").tolist() == [[1, 2, 3, 4, 5, 6, 7]] * 3

    @pytest.mark.parametrize("text", [text[5:], text[:-4], text.replace("5,6", "5,six")])
    def test_that_is_cut_or_another_is_refused(self, text: str) -> None:
        with pytest.raises(MissingData, match="ETTh1"):
            ett.values(text, "ETTh1")

    @pytest.mark.parametrize("under", ["", "ETT-small"])
    @pytest.mark.parametrize("suffix", ["", ".xz"])
    def test_is_found_plain_or_compressed(self, tmp_path: Path, under: str, suffix: str) -> None:
        (tmp_path / under).mkdir(exist_ok=True)
        path = tmp_path / under / f"ETTh1.csv{suffix}"
        path.touch()
        assert ett.locate([tmp_path], series="ETTh1", horizon=96) == [path]

    def test_with_another_content_is_refused_also_when_compressed(self, tmp_path: Path) -> None:
        (tmp_path / "ETTh1.csv.xz").write_bytes(lzma.compress(self.text.encode()))
        with pytest.raises(MissingData, match="is not the file it should be"):
            ett.load([tmp_path], series="ETTh1")

    def test_that_is_cut_while_compressed_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "ETTh2.csv.xz").write_bytes(lzma.compress(self.text.encode())[:40])
        with pytest.raises(MissingData, match="is not a whole xz file"):
            ett.load([tmp_path], series="ETTh2")

    def test_that_is_not_there_is_told_with_what_gives_it(self, tmp_path: Path) -> None:
        with pytest.raises(MissingData, match="ETTh2.csv or ETTh2.csv.xz not found"):
            ett.locate([tmp_path], series="ETTh2")


class TestRealData:
    @pytest.mark.parametrize(
        ("name", "shapes", "classes"),
        [
            ("JapaneseVowels", [(270, 29, 12), (370, 29, 12)], 9),
            ("BasicMotions", [(40, 100, 6), (40, 100, 6)], 4),
        ],
    )
    def test_of_uea_has_its_known_sizes(self, name: str, shapes: list[tuple[int, ...]], classes: int) -> None:
        data = uea.load(folders_or_skip(partial(uea.locate, name=name)), name)
        assert [data.train.inputs.shape, data.test.inputs.shape] == shapes
        assert (
            set(data.train.targets)
            == set(data.test.targets)
            == set(range(data.outputs))
            == set(range(classes))
        )
        assert (data.train.lengths is None) == (name == "BasicMotions")

    def test_japanese_vowels_have_7_to_29_steps_and_30_utterances_of_each_speaker(self) -> None:
        data = uea.load(folders_or_skip(partial(uea.locate, name="JapaneseVowels")), "JapaneseVowels")
        assert data.train.lengths is not None
        assert data.test.lengths is not None
        assert np.bincount(data.train.targets).tolist() == [30] * 9
        both = np.concatenate([data.train.lengths, data.test.lengths])
        assert (both.min(), both.max()) == (7, 29)
        for part in (data.train, data.test):
            assert part.lengths is not None
            real = np.arange(29) < part.lengths[:, None]
            assert not part.inputs[~real].any()
            assert part.inputs[real].any(axis=1).all()

    @pytest.mark.parametrize(("horizon", "counts"), [(96, (8449, 2785, 2785)), (192, (8353, 2689, 2689))])
    @pytest.mark.parametrize("series", ["ETTh1", "ETTh2"])
    def test_of_ett_has_the_windows_of_the_standard_split(
        self, series: str, horizon: int, counts: tuple[int, int, int]
    ) -> None:
        data = ett.load(folders_or_skip(partial(ett.locate, series=series)), series, horizon)
        assert data.validation is not None
        assert (len(data.train), len(data.validation), len(data.test)) == counts

    @pytest.mark.parametrize(
        ("series", "horizon", "error"),
        [("ETTh1", 96, 1.294), ("ETTh1", 192, 1.325), ("ETTh2", 96, 0.432), ("ETTh2", 192, 0.534)],
    )
    def test_repeating_the_last_hour_of_ett_errs_as_much_as_it_did_when_written(
        self, series: str, horizon: int, error: float
    ) -> None:
        test = ett.load(folders_or_skip(partial(ett.locate, series=series)), series, horizon).test
        assert np.mean((test.inputs[:, -1:] - test.targets) ** 2, dtype=np.float64) == pytest.approx(
            error, abs=5e-4
        )


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        ([], "X: x.csv not found: no folder to look in was given; get it. Nothing is downloaded."),
        (["a"], "X: x.csv not found in a; get it. Nothing is downloaded."),
        (["a", "b/c"], "X: x.csv not found in a, b/c; get it. Nothing is downloaded."),
    ],
)
def test_missing_data_say_where_they_were_looked_for(folders: list[str], said: str) -> None:
    assert str(missing("X", "x.csv", "get it", [Path(each) for each in folders])) == said


def test_missing_data_of_a_package_say_whether_it_is_installed() -> None:
    said = str(missing("X", "x.csv", "get it", [], absence("no_such_package_as_this")))
    assert "no folder to look in was given, and the package no_such_package_as_this is not installed;" in said
    assert absence("numpy") == "the package numpy is installed without it"
