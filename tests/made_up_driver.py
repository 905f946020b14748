"""A made-up NVML: one GPU that answers what a test sets and supports no other question."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


class NVMLError(Exception):
    """As the driver's: the question is not supported here."""


class Driver(ModuleType):
    """A pynvml with one GPU whose answers are set by the test; what is not set raises NVMLError."""

    NVMLError = NVMLError
    NVML_CLOCK_SM = 1
    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.answers: dict[str, Any] = {"nvmlInit": None}
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def answer(*arguments: Any) -> Any:
            self.asked.append((name, arguments))
            if name not in self.answers:
                raise NVMLError(name)
            value = self.answers[name]
            return value(*arguments) if callable(value) else value

        return answer


def install(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Put a driver that answers nothing yet in pynvml's place."""
    driver = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    return driver


ANSWERS = {
    "nvmlDeviceGetClockInfo": 1350,
    "nvmlDeviceGetMaxClockInfo": 1980,
    "nvmlDeviceGetTemperature": 71,
    "nvmlDeviceGetPowerUsage": 312_500,
    "nvmlDeviceGetCurrentClocksEventReasons": 0,
}
