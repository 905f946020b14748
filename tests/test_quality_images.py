"""Images are standardised, and Fashion-MNIST is read exactly, or refused with what is wrong and what gives it."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_images import USERS_FOLDERS, Array, here, idx, pixels

from elattn_bench.errors import MissingData
from elattn_bench.quality.data import fashion_mnist
from elattn_bench.quality.data.fashion_mnist import parse_idx
from elattn_bench.quality.data.pixels import Pixels, data_set

SHAPES = {"images-idx3": (28, 28), "labels-idx1": ()}


def fashion_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, suffix: str = ".gz") -> dict[str, Array]:
    """Four small files whose checksums are the expected ones, on a machine without the package."""
    monkeypatch.setattr(fashion_mnist, "PACKAGE_FOLDER", folder / "no-package")
    folder.mkdir(exist_ok=True)
    arrays = {}
    for part, count in (("train", 12), ("t10k", 5)):
        for name, shape in SHAPES.items():
            file = f"{part}-{name}-ubyte"
            arrays[file] = pixels(count, *shape, seed=count)
            content = idx(arrays[file])
            monkeypatch.setitem(fashion_mnist.SHA256, file, hashlib.sha256(content).hexdigest())
            (folder / (file + suffix)).write_bytes(gzip.compress(content) if suffix else content)
    return arrays


class TestStandardised:
    def test_training_images_have_mean_0_and_deviation_1_in_each_channel(self) -> None:
        images = pixels(50, 8, 8, 3) // np.array([1, 2, 5], np.uint8)
        train = data_set(
            Pixels(images, np.zeros(50, np.int64)), Pixels(images, np.zeros(50, np.int64)), 10, {}
        ).train
        assert train.inputs.dtype == np.float32
        rows = train.inputs.reshape(-1, 3).astype(np.float64)
        np.testing.assert_allclose(rows.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(rows.std(0), 1, atol=1e-6)

    def test_test_images_are_standardised_as_the_training_images_are(self) -> None:
        train = Pixels(np.array([0, 100], np.uint8).reshape(2, 1, 1, 1), np.arange(2))
        test = Pixels(np.array([200], np.uint8).reshape(1, 1, 1, 1), np.arange(1))
        assert data_set(train, test, 10, {}).test.inputs.item() == 3.0

    def test_a_channel_that_never_changes_becomes_0(self) -> None:
        black = Pixels(np.zeros((4, 2, 2, 1), np.uint8), np.arange(4))
        assert not data_set(black, black, 10, {}).train.inputs.any()


class TestIdx:
    @pytest.mark.parametrize("shape", [(3,), (2, 28, 28), (0, 28, 28)])
    def test_what_was_written_is_read(self, shape: tuple[int, ...]) -> None:
        array = pixels(*shape)
        np.testing.assert_array_equal(parse_idx("a", idx(array)), array, strict=True)

    @pytest.mark.parametrize("kept", [0, 3, 7, 10])
    def test_a_file_cut_in_its_head_is_refused(self, kept: int) -> None:
        with pytest.raises(MissingData, match="some-file is not an IDX file of bytes"):
            parse_idx("some-file", idx(pixels(2, 28, 28))[:kept])

    @pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"\0"])
    def test_one_value_too_few_or_too_many_is_refused(self, change: Any) -> None:
        with pytest.raises(MissingData, match=r"announces 12 values, shape \(3, 4\), and holds 1[13]"):
            parse_idx("a", change(idx(pixels(3, 4))))

    def test_other_numbers_than_bytes_are_refused(self) -> None:
        floats = b"\0\0\x0d" + idx(pixels(4))[3:]
        with pytest.raises(MissingData, match="begins with 00 00 0d 01"):
            parse_idx("a", floats)


class TestFashionMnist:
    @pytest.mark.parametrize("suffix", [".gz", ""])
    @pytest.mark.parametrize("below", ["", "fashion-mnist"])
    def test_files_are_read_packed_or_not_in_a_folder_or_below_it(
        self, suffix: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        arrays = fashion_folder(tmp_path / below, monkeypatch, suffix)
        data = fashion_mnist.load([tmp_path])
        assert data.train.inputs.shape == (12, 28, 28, 1)
        assert data.test.inputs.shape == (5, 28, 28, 1)
        np.testing.assert_array_equal(data.train.targets, arrays["train-labels-idx1-ubyte"])
        order = data.train.inputs.ravel().argsort(kind="stable")
        np.testing.assert_array_equal(order, arrays["train-images-idx3-ubyte"].ravel().argsort(kind="stable"))
        assert data.files == fashion_mnist.SHA256
        assert data.outputs == 10

    def test_where_it_is_missing_the_package_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fashion_mnist, "PACKAGE_FOLDER", tmp_path / "no-package")
        with pytest.raises(MissingData, match="apt install dataset-fashion-mnist"):
            fashion_mnist.locate([])

    def test_the_one_file_that_is_missing_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fashion_folder(tmp_path, monkeypatch)
        (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
        with pytest.raises(MissingData, match="t10k-labels-idx1-ubyte.gz not found in"):
            fashion_mnist.locate([tmp_path])

    def test_a_cut_file_is_refused_with_its_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fashion_folder(tmp_path, monkeypatch)
        path = tmp_path / "train-images-idx3-ubyte.gz"
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(MissingData, match=f"{path} cannot be decompressed"):
            fashion_mnist.load([tmp_path])

    def test_other_images_under_the_same_names_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fashion_folder(tmp_path, monkeypatch)
        path = tmp_path / "train-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(idx(pixels(12, 28, 28, seed=7))))
        with pytest.raises(MissingData, match="is not the file it should be: sha256"):
            fashion_mnist.load([tmp_path])

    @pytest.mark.skipif(not here(fashion_mnist), reason="needs the Debian package dataset-fashion-mnist")
    def test_the_real_one_has_ten_balanced_classes_and_the_known_mean_and_deviation(self) -> None:
        data = fashion_mnist.load(USERS_FOLDERS)
        assert np.bincount(data.train.targets).tolist() == [6_000] * 10
        assert np.bincount(data.test.targets).tolist() == [1_000] * 10
        lowest, highest = float(data.train.inputs.min()), float(data.train.inputs.max())
        assert 1 / (highest - lowest) == pytest.approx(0.3530, abs=5e-5)
        assert -lowest / (highest - lowest) == pytest.approx(0.2860, abs=5e-5)


def test_importing_the_loaders_loads_neither_torch_nor_pillow() -> None:
    code = (
        "import sys; from elattn_bench.quality.data import cifar10, fashion_mnist; "
        "print({'torch', 'PIL', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
