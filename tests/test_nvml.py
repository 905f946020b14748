"""The driver is asked about the GPU that torch uses; what it does not support is not known."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import SimpleNamespace

import made_up_driver
import pytest
from made_up_driver import ANSWERS, Driver, NVMLError

from elattn_bench import nvml
from elattn_bench.nvml import Gpu

POWER_CAP = 0x04


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return made_up_driver.install(monkeypatch)


def test_a_question_that_the_package_does_not_know_is_not_answered(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(NVMLError=NVMLError))
    assert Gpu("handle").ask("nvmlDeviceGetSomethingNew") is None


def test_an_older_driver_is_asked_by_the_older_name(driver: Driver) -> None:
    driver.answers["nvmlDeviceGetCurrentClocksThrottleReasons"] = POWER_CAP
    assert Gpu("handle").slowdown_bits() == POWER_CAP


def instant(milliwatts: int, error: int = 0) -> list[SimpleNamespace]:
    return [SimpleNamespace(nvmlReturn=error, value=SimpleNamespace(uiVal=milliwatts))]


@pytest.mark.parametrize(
    ("field", "watts"), [(instant(500_000), 500.0), (instant(0), 312.5), (instant(500_000, error=3), 312.5)]
)
def test_power_is_this_instants_where_the_card_tells_it(field: object, watts: float, driver: Driver) -> None:
    driver.answers |= {**ANSWERS, "nvmlDeviceGetFieldValues": field}
    assert Gpu("handle").power_w() == watts


def by_uuid(wanted: str) -> Callable[[str], str]:
    def handle(uuid: str) -> str:
        if uuid != wanted:
            raise NVMLError(uuid)
        return f"handle of {uuid}"

    return handle


@pytest.mark.parametrize(
    ("torch_says", "nvml_says"), [("abc", "GPU-abc"), ("GPU-abc", "GPU-abc"), ("abc", "MIG-abc")]
)
def test_the_gpu_is_found_by_its_uuid(torch_says: str, nvml_says: str, driver: Driver) -> None:
    driver.answers["nvmlDeviceGetHandleByUUID"] = by_uuid(nvml_says)
    driver.answers["nvmlDeviceGetHandleByIndex"] = "another"
    assert nvml.find(SimpleNamespace(uuid=torch_says), 0) == Gpu(f"handle of {nvml_says}")


def test_the_gpu_is_found_by_its_place_on_the_bus(driver: Driver) -> None:
    driver.answers["nvmlDeviceGetHandleByPciBusId"] = lambda place: place
    driver.answers["nvmlDeviceGetHandleByIndex"] = "another"
    properties = SimpleNamespace(pci_domain_id=0, pci_bus_id=0xA3, pci_device_id=1)
    assert nvml.find(properties, 0) == Gpu("00000000:a3:01.0")


def test_the_gpu_is_found_by_its_number_where_nothing_else_is_known(driver: Driver) -> None:
    driver.answers["nvmlDeviceGetHandleByIndex"] = lambda index: f"number {index}"
    assert nvml.find(SimpleNamespace(), 3) == Gpu("number 3")


def test_a_gpu_that_the_driver_does_not_know_is_none(driver: Driver) -> None:
    assert nvml.find(SimpleNamespace(uuid="abc"), 0) is None


def process(pid: int, used: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


@pytest.mark.parametrize(
    ("processes", "held"),
    [
        ([process(os.getpid(), 700), process(-1, 5000)], 700),
        ([process(-1, 5000)], None),
        ([process(os.getpid(), None)], None),
        ([], None),
    ],
    ids=["beside another", "known by another number", "memory not told", "none"],
)
def test_the_memory_of_this_process_alone_is_told(
    processes: list[object], held: int | None, driver: Driver
) -> None:
    driver.answers["nvmlDeviceGetComputeRunningProcesses"] = processes
    assert Gpu("handle").process_memory() == held


def test_a_driver_that_lists_no_processes_tells_no_memory(driver: Driver) -> None:
    assert Gpu("handle").process_memory() is None
