"""Calls that may never come back, each in a thread, so that signals are heard and an end is found. No Ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from elattn_bench.units import Seconds

T = TypeVar("T")

_POLL: Seconds = 0.1  # for signals; a person takes as much for at once


class Silence(Exception):
    """Nobody answered in time; nor will anybody who is asked the same way."""


class Aside:
    """Makes calls aside, and waits for what they give.

    Args:
        patience: how long a call may take.
        check: called while one waits; raises what should end the wait.
    """

    def __init__(self, patience: Seconds, check: Callable[[], None] = lambda: None) -> None:
        self._patience = patience
        self._check = check
        self.is_silent = False

    def __call__(self, function: Callable[..., T], *arguments: Any) -> T:
        """What the call gives, or raises.

        Raises:
            Silence: it did not come back, or an earlier one did not.
        """
        if self.is_silent:
            raise Silence
        answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        # A daemon: a call that never comes back must not hold up the end of the program.
        threading.Thread(target=_answer, args=(answers, function, arguments), daemon=True).start()
        value, error = self._await(answers)
        if error is not None:
            raise error
        given: T = value
        return given

    def _await(self, answers: SimpleQueue[tuple[Any, BaseException | None]]) -> tuple[Any, Any]:
        deadline = time.monotonic() + self._patience
        while True:
            self._check()
            try:
                return answers.get(timeout=_POLL)
            except Empty:
                if time.monotonic() > deadline:
                    self.is_silent = True
                    raise Silence from None


def _answer(
    answers: SimpleQueue[tuple[Any, BaseException | None]],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    try:
        answers.put((function(*arguments), None))
    except BaseException as error:  # whatever it is belongs to who asked
        answers.put((None, error))
