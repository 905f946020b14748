"""Calls that may never come back: what they give is given, and nothing waits for those that give nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from elattn_bench.cluster import quiet
from elattn_bench.cluster.aside import Aside, Silence

LONG = 60.0  # s; no test waits for it


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """What does not happen before the test is over."""
    event = threading.Event()
    yield event
    event.set()


class TestAside:
    def test_a_call_gives_what_it_gives_and_raises_what_it_raises(self) -> None:
        aside = Aside(LONG)
        assert aside(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            aside(divmod, 7, 0)
        assert not aside.is_silent

    def test_a_call_that_does_not_come_back_is_given_up_and_so_is_every_later_one(
        self, never: threading.Event
    ) -> None:
        aside = Aside(0.0)
        with pytest.raises(Silence):
            aside(never.wait)
        with pytest.raises(Silence):
            aside(divmod, 7, 2)

    def test_what_the_check_raises_ends_the_wait(self, never: threading.Event) -> None:
        def check() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            Aside(LONG, check)(never.wait)


class TestQuiet:
    def test_a_cluster_of_this_machine_alone_has_a_token_of_its_own_each_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            monkeypatch.delenv(name, raising=False)
        one, two = quiet.of_own_cluster(), quiet.of_own_cluster()
        assert one["RAY_AUTH_MODE"] == "token"
        assert one["RAY_AUTH_TOKEN"] != two["RAY_AUTH_TOKEN"]

    @pytest.mark.parametrize("name", ["RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"])
    def test_what_somebody_has_decided_of_tokens_stays(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv(name, "theirs")
        assert not [each for each in quiet.of_own_cluster() if "AUTH" in each]

    def test_variables_are_there_within_and_what_was_there_before_stays(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ELATTN_OLD", "theirs")
        monkeypatch.delenv("ELATTN_NEW", raising=False)
        with quiet.variables({"ELATTN_OLD": "ours", "ELATTN_NEW": "ours"}):
            assert (os.environ["ELATTN_OLD"], os.environ["ELATTN_NEW"]) == ("theirs", "ours")
        assert os.environ["ELATTN_OLD"] == "theirs"
        assert "ELATTN_NEW" not in os.environ

    def test_what_is_written_to_stderr_meanwhile_is_not_seen(self, capfd: pytest.CaptureFixture[str]) -> None:
        with quiet.unheard():
            os.write(2, b"C++ says")
        os.write(2, b"we say")
        assert capfd.readouterr().err == "we say"
