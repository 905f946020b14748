"""Who is one of many ranks, who is let in, and what a killed sweep leaves behind. No process is started."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path

import pytest

from elattn_bench.commands import sweep
from elattn_bench.errors import UsageError, WorkerError
from elattn_bench.locking import LOCK
from elattn_bench.ranks import meeting_place, torchrun
from elattn_bench.ranks.world import NEEDED, RUN_ID, World, serving

WHOLE = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
SECRET = b"of this sweep"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs these tests may be one of many itself."""
    for name in (*NEEDED, RUN_ID, "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def say(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


class TestWorld:
    def test_a_whole_set_of_variables_makes_a_world(self, monkeypatch: pytest.MonkeyPatch) -> None:
        say(monkeypatch, **WHOLE)
        world = serving()
        assert world == World(1, 2, 1, 2, "node0", 29500, is_torchruns=False, has_store=False)

    @pytest.mark.parametrize(
        "variables",
        [
            {},
            {"MASTER_ADDR": "node0", "MASTER_PORT": "x"},
            {**WHOLE, "RANK": "0", "WORLD_SIZE": "1"},
            {**WHOLE, "RANK": "x", "WORLD_SIZE": "1"},
        ],
    )
    def test_a_process_that_is_alone_sweeps_as_any_other(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
    ) -> None:
        say(monkeypatch, **variables)
        assert World.of_this_process() is None

    def test_torchruns_only_process_is_a_world(self, monkeypatch: pytest.MonkeyPatch) -> None:
        say(monkeypatch, **{**WHOLE, "RANK": "0", "WORLD_SIZE": "1", RUN_ID: "none"})
        assert str(World.of_this_process()) == "torchrun started 1 process"

    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({"RANK": "x"}, "RANK=x .*RANK is no number from 0 on"),
            ({"WORLD_SIZE": "0"}, "WORLD_SIZE is no number from 1 on"),
            ({"RANK": "2"}, "RANK counts from 0 and is below WORLD_SIZE"),
            ({"RANK": "-1"}, "RANK is no number"),
            ({"MASTER_PORT": "65536"}, "MASTER_PORT is no number from 1 to 65535"),
            ({"LOCAL_RANK": ""}, "LOCAL_RANK is no number"),
        ],
    )
    def test_what_is_no_world_is_refused_with_the_variables(
        self, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], reason: str
    ) -> None:
        say(monkeypatch, **{**WHOLE, **changed})
        with pytest.raises(UsageError, match=f"{reason}.*unset them"):
            serving()

    @pytest.mark.parametrize("name", NEEDED)
    def test_half_a_set_is_refused_with_what_is_missing(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        say(monkeypatch, **{other: value for other, value in WHOLE.items() if other != name})
        with pytest.raises(UsageError, match=f"without {name};"):
            World.of_this_process()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


class TestLetIn:
    def test_strangers_do_not_keep_the_ranks_out(self, server: socket.socket) -> None:
        address = server.getsockname()

        def come() -> None:
            socket.create_connection(address).close()
            with pytest.raises(AuthenticationError):
                Client(address, authkey=b"of another")
            with closing(Client(address, authkey=SECRET)) as rank:
                rank.send((1, "node1", 3))

        with socket.create_connection(address):  # and says nothing
            thread = threading.Thread(target=come)
            thread.start()
            members = torchrun._accepted(server, SECRET, 1)
            thread.join()
        assert [(rank, member.host) for rank, member in members.items()] == [(1, "node1")]
        members[1].close()

    def test_ranks_that_do_not_come_are_named(
        self, server: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torchrun, "JOINING", 0.0)
        with pytest.raises(WorkerError, match="the ranks 1, 2 have not come"):
            torchrun._accepted(server, SECRET, 2)


class TestMeetingPlace:
    @pytest.fixture(autouse=True)
    def places(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def test_it_is_gone_afterwards(self, tmp_path: Path) -> None:
        with meeting_place.meeting_place() as place:
            (place / "1").touch()
        assert not list(tmp_path.iterdir())

    def test_what_a_killed_sweep_left_is_removed_and_what_is_in_use_stays(self, tmp_path: Path) -> None:
        left, foreign = (tmp_path / f"{meeting_place.PREFIX}{name}" for name in ("left", "foreign"))
        left.mkdir()
        (left / LOCK).touch()
        foreign.mkdir()
        with meeting_place.meeting_place() as first, meeting_place.meeting_place() as second:
            assert {*tmp_path.iterdir()} == {first, second, foreign}


def test_an_interruption_before_a_run_exists_does_not_advise_to_resume_it(tmp_path: Path) -> None:
    told = str(sweep._how_to_go_on(tmp_path / "run", 3, 1))
    assert "no run was begun" in told
    assert "--resume" not in told
