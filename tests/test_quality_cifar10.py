"""CIFAR-10 is read exactly from each of its three forms, or refused with what is wrong and what gives it."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import subprocess
import tarfile
import warnings
from pathlib import Path
from typing import Any

import made_up_images
import numpy as np
import pytest
from made_up_images import USERS_FOLDERS, Array, batch, here, image_folder, pixels

from elattn_bench.errors import MissingData
from elattn_bench.quality.data import cifar10, cifar10_batches, cifar10_images
from elattn_bench.quality.data.cifar10_batches import read_batch


def official_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Array]:
    """Six small batches whose checksums are the expected ones; their rows by name."""
    folder.mkdir()
    rows = {}
    for number, name in enumerate(cifar10_batches.MD5):
        rows[name] = pixels(3, 3072, seed=number)
        content = batch(rows[name], [number, 9 - number, number])
        monkeypatch.setitem(cifar10_batches.MD5, name, hashlib.md5(content).hexdigest())
        (folder / name).write_bytes(content)
    return rows


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CIFAR-10 of three images a class to learn from and two to test with."""
    monkeypatch.setitem(cifar10_images.COUNTS, "train", 3)
    monkeypatch.setitem(cifar10_images.COUNTS, "test", 2)


def packed(folder: Path, archive: Path, prefix: str = "") -> Path:
    with tarfile.open(archive, "w:xz") as tar:
        for part in ("train", "test"):
            tar.add(folder / part, prefix + part)
    return archive


class TestBatches:
    def test_planes_of_red_green_and_blue_become_the_channels_of_each_pixel(self) -> None:
        images = pixels(4, 32, 32, 3)
        read = read_batch("a", batch(images.transpose(0, 3, 1, 2).reshape(4, -1), [3, 0, 9, 3]))
        np.testing.assert_array_equal(read.images, images)
        assert read.classes.tolist() == [3, 0, 9, 3]
        assert read.classes.dtype == np.int64

    def test_rows_in_the_order_of_fortran_are_read_alike(self) -> None:
        data = pixels(3, 3072)
        there, here = (
            read_batch("a", batch(data, [1, 2, 3], fortran=order)).images for order in (True, False)
        )
        np.testing.assert_array_equal(there, here)

    def test_numpy_itself_reads_the_made_up_batch_alike(self) -> None:
        data = pixels(2, 3072)
        # Numpy warns of its old module name, and from 2.4 on of the old call of dtype: so none of it is called.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = pickle.loads(batch(data, [1, 2]), encoding="bytes")
        np.testing.assert_array_equal(read[b"data"], data, strict=True)
        assert read[b"labels"] == [1, 2]

    @pytest.mark.parametrize(
        ("attack", "named"),
        [
            (b"cos\nsystem\n(S'touch {mark}'\ntR.", "os.system"),
            (b"cposix\nsystem\n(S'touch {mark}'\ntR.", "posix.system"),
            (b'c__builtin__\neval\n(S\'open("{mark}", "w")\'\ntR.', "eval"),
            (b"\x80\x04\x8c\x08builtins\x8c\x04open\x93\x8c{size}{mark}\x8c\x01w\x86R.", "builtins.open"),
            (b"\x80\x02cnumpy\nload\n(S'{mark}'\ntR.", "numpy.load"),
            (b"(S'touch {mark}'\nios\nsystem\n.", "os.system"),
        ],
    )
    def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(
        self, attack: bytes, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        content = attack.replace(b"{size}", b"\x04").replace(b"{mark}", b"mark")
        with pytest.raises(MissingData, match=f"data_batch_1 is refused: .*it asks for .*{named}"):
            read_batch("data_batch_1", content)
        assert not list(tmp_path.iterdir())

    def test_a_name_that_hides_in_an_attribute_of_an_admitted_one_is_refused(self) -> None:
        with pytest.raises(MissingData, match="it asks for numpy.ndarray.tofile"):
            read_batch("a", b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.")

    @pytest.mark.parametrize("kept", [*range(0, 200, 7), 3000])
    def test_a_cut_batch_is_refused(self, kept: int) -> None:
        with pytest.raises(MissingData, match="is refused: .*cut"):
            read_batch("a", batch(pixels(2, 3072), [1, 2])[:kept])

    @pytest.mark.parametrize(
        "content",
        [
            batch(pixels(2, 3072), [1]),
            batch(pixels(2, 3072), [1, 10]),
            batch(pixels(2, 3072), [1, -1]),
            batch(pixels(2, 3071), [1, 2]),
            batch(pixels(2, 3072), [1, 2], dtype=b"i1"),
            pickle.dumps({b"labels": [1]}),
            pickle.dumps([1, 2]),
        ],
    )
    def test_anything_but_a_batch_is_refused_with_what_a_batch_holds(self, content: bytes) -> None:
        with pytest.raises(MissingData, match="it must hold b'data', uint8 of 3,072 values an image"):
            read_batch("a", content)


class TestOfficialFolder:
    @pytest.mark.parametrize("given", ["", "cifar-10-batches-py"])
    def test_the_folder_or_the_one_above_it_may_be_given(
        self, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = official_folder(tmp_path / "cifar-10-batches-py", monkeypatch)
        data = cifar10.load([tmp_path / given])
        assert data.train.inputs.shape == (15, 32, 32, 3)
        assert data.test.inputs.shape == (3, 32, 32, 3)
        assert data.train.targets.tolist() == [c for n in range(5) for c in (n, 9 - n, n)]
        assert data.test.targets.tolist() == [5, 4, 5]
        red = np.concatenate([rows[f"data_batch_{n}"] for n in range(1, 6)])[:, :1024].ravel()
        np.testing.assert_array_equal(
            data.train.inputs[..., 0].ravel().argsort(kind="stable"), red.argsort(kind="stable")
        )
        assert data.note == ""
        content = (tmp_path / "cifar-10-batches-py" / "test_batch").read_bytes()
        assert data.files["test_batch"] == hashlib.sha256(content).hexdigest()

    @pytest.mark.parametrize("name", ["data_batch_1", "data_batch_3", "test_batch"])
    def test_a_missing_batch_is_named(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        official_folder(tmp_path / "cifar-10-batches-py", monkeypatch)
        (tmp_path / "cifar-10-batches-py" / name).unlink()
        with pytest.raises(MissingData, match=f"and lacks {name}; unpack cifar-10-python.tar.gz"):
            cifar10.locate([tmp_path])

    def test_a_changed_batch_is_refused_before_it_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        official_folder(tmp_path / "cifar-10-batches-py", monkeypatch)
        (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
        with pytest.raises(MissingData, match="data_batch_2 is not the official file: md5"):
            cifar10.load([tmp_path])

    def test_the_original_pixels_are_preferred_to_images(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image_folder(tmp_path / "images", 1, 1)
        official_folder(tmp_path / "cifar-10-batches-py", monkeypatch)
        assert len(cifar10.locate([tmp_path / "images", tmp_path])) == 6


@pytest.mark.usefixtures("few")
class TestImages:
    @pytest.mark.parametrize("below", ["", "cifar10"])
    def test_each_image_keeps_its_pixels_and_its_class_and_classes_take_turns(
        self, below: str, tmp_path: Path
    ) -> None:
        image_folder(tmp_path / below, 3, 2)
        data = cifar10.load([tmp_path])
        assert data.train.targets.tolist() == [*range(10)] * 3
        assert data.test.targets.tolist() == [*range(10)] * 2
        red, green = (data.train.inputs[:, 0, 0, channel] for channel in (0, 1))
        np.testing.assert_array_equal(np.unique(red, return_inverse=True)[1], data.train.targets)
        np.testing.assert_array_equal(np.unique(green, return_inverse=True)[1], np.arange(30) // 10)
        assert "JPEG" not in data.note

    @pytest.mark.parametrize("prefix", ["", "./"])
    def test_an_archive_gives_what_its_folder_gives(self, prefix: str, tmp_path: Path) -> None:
        image_folder(tmp_path / "folder", 3, 2, "jpg")
        archive = packed(tmp_path / "folder", tmp_path / cifar10.ARCHIVE, prefix)
        assert cifar10.locate([tmp_path]) == [archive]
        folder, read = cifar10.load([tmp_path / "folder"]), cifar10.load([tmp_path])
        np.testing.assert_array_equal(folder.train.inputs, read.train.inputs)
        np.testing.assert_array_equal(folder.test.inputs, read.test.inputs)
        assert (folder.files, folder.note) == (read.files, read.note)
        assert not (tmp_path / "train").exists()

    def test_jpeg_and_an_unknown_checksum_are_noted(self, tmp_path: Path) -> None:
        data = cifar10.load([image_folder(tmp_path, 3, 2, "jpg")])
        (checksum,) = data.files.values()
        assert data.note == (
            "CIFAR-10 as JPEG (a lossy re-encoding), not the original pixels; "
            f"checksum unknown: {checksum[:16]}..."
        )

    def test_a_known_checksum_is_not_noted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        image_folder(tmp_path, 3, 2)
        monkeypatch.setattr(
            cifar10, "DEVELOPMENT_SHA256", cifar10_images.digest(cifar10_images.from_folder(tmp_path))
        )
        assert cifar10.load([tmp_path]).note == ""

    @pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs sha256sum of the coreutils")
    def test_the_checksum_is_what_the_documented_command_prints(self, tmp_path: Path) -> None:
        image_folder(tmp_path, 3, 2)
        command = "find train test -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
        printed = subprocess.run(
            command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert printed.stdout.split()[0] == cifar10_images.digest(cifar10_images.from_folder(tmp_path))

    @pytest.mark.parametrize(
        ("spoil", "said"),
        [
            (
                lambda root: (root / "train/frog/0000.png").unlink(),
                "train/ must hold 3 images of each .* frog 2",
            ),
            (lambda root: (root / "test/cat").rename(root / "test/kitten"), "lacks test/cat"),
            (lambda root: shutil.rmtree(root / "test"), "lacks test/airplane, test/automobile"),
            (
                lambda root: shutil.copytree(root / "test/cat", root / "test/kitten"),
                "test/ .* horse 2, kitten 2",
            ),
            (
                lambda root: (root / "train/dog/0001.png").write_bytes(b"\x89PNG"),
                "train/dog/0001.png is not an image",
            ),
            (
                lambda root: (root / "train/dog/0001.png").write_bytes(made_up_images.png(pixels(28, 32, 3))),
                "train/dog/0001.png must be 32 x 32 pixels and is 32 x 28",
            ),
        ],
    )
    def test_what_is_not_the_whole_data_set_is_refused_with_what_was_found(
        self, spoil: Any, said: str, tmp_path: Path
    ) -> None:
        image_folder(tmp_path, 3, 2)
        spoil(tmp_path)
        with pytest.raises(MissingData, match=said):
            cifar10.load([tmp_path])

    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_a_cut_image_is_refused(self, kind: str) -> None:
        whole = (made_up_images.png if kind == "PNG" else made_up_images.jpeg)(pixels(32, 32, 3))
        assert cifar10_images.image("a", whole).shape == (32, 32, 3)
        for kept in range(0, len(whole) // 2, 7):
            with pytest.raises(MissingData, match="some.jpg is not an image"):
                cifar10_images.image("some.jpg", whole[:kept])

    def test_files_that_are_no_images_are_left_alone(self, tmp_path: Path) -> None:
        before = cifar10.load([image_folder(tmp_path, 3, 2)])
        for name in (".DS_Store", "._0000.png", "notes.txt"):
            (tmp_path / "train" / "cat" / name).write_bytes(b"no image")
        assert cifar10.load([tmp_path]).files == before.files

    @pytest.mark.parametrize("kept", [0, 0.1, 0.5])
    def test_a_cut_archive_is_refused_with_its_path(self, kept: float, tmp_path: Path) -> None:
        archive = packed(image_folder(tmp_path / "folder", 3, 2), tmp_path / cifar10.ARCHIVE)
        whole = archive.read_bytes()
        archive.write_bytes(whole[: int(kept * len(whole))])
        with pytest.raises(MissingData, match=f"{archive} cannot be read"):
            cifar10.load([tmp_path])


def test_where_cifar_10_is_missing_all_that_would_do_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingData) as told:
        cifar10.locate([tmp_path])
    for wanted in (
        "cifar-10-batches-py/",
        "train/ and test/",
        "cifar10-jpeg.tar.xz",
        "cifar-10-python.tar.gz",
        str(tmp_path),
    ):
        assert wanted in str(told.value)


@pytest.mark.skipif(not here(cifar10), reason="needs CIFAR-10 in a folder of ELATTN_BENCH_DATA")
def test_the_real_cifar_10_is_whole_and_has_the_known_mean_and_deviation() -> None:
    data = cifar10.load(USERS_FOLDERS)
    assert np.bincount(data.train.targets).tolist() == [5_000] * 10
    assert np.bincount(data.test.targets).tolist() == [1_000] * 10
    assert "checksum unknown" not in data.note
    spans = np.ptp(data.train.inputs.reshape(-1, 3), axis=0)
    # Of the original pixels, as everybody quotes them; JPEG moves them by less than the last figure or so.
    np.testing.assert_allclose(1 / spans, [0.2470, 0.2435, 0.2616], atol=2e-3)
    np.testing.assert_allclose(-data.train.inputs.min((0, 1, 2)) / spans, [0.4914, 0.4822, 0.4465], atol=2e-3)
