"""Peak memory is exact to the byte."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from elattn_bench import memory, nvml  # noqa: E402 - needs torch

KIBI = 1024


def peak(call: object) -> int:
    assert callable(call)
    call()
    return memory.measure(call, "cpu").above_inputs


@pytest.mark.parametrize("count", [1024, 65_536, 1_000_000])
def test_one_allocation_is_counted_to_the_byte(count: int) -> None:
    assert peak(lambda: torch.empty(count, dtype=torch.uint8)) == count


def test_what_is_freed_before_the_peak_does_not_count() -> None:
    def call() -> None:
        for _ in range(5):
            torch.empty(64 * KIBI, dtype=torch.uint8)

    assert peak(call) == 64 * KIBI


def test_the_peak_is_the_sum_of_what_is_held_at_once() -> None:
    def call() -> object:
        first = torch.empty(64 * KIBI, dtype=torch.uint8)
        second = torch.empty(32 * KIBI, dtype=torch.uint8)
        del first
        return second, torch.empty(16 * KIBI, dtype=torch.uint8)

    assert peak(call) == 96 * KIBI


def test_tensors_made_before_the_call_do_not_count() -> None:
    before = torch.empty(1_000_000, dtype=torch.uint8)
    assert peak(lambda: (before, torch.empty(KIBI, dtype=torch.uint8))) == KIBI


def test_the_peak_is_the_same_every_time() -> None:
    query = torch.randn(1, 4, 256, 16)

    def call() -> object:
        return torch.softmax(query @ query.transpose(-1, -2), -1) @ query

    assert len({peak(call) for _ in range(3)}) == 1


def test_the_backward_pass_is_counted_too() -> None:
    weight = torch.ones(256 * KIBI, dtype=torch.float32, requires_grad=True)

    def call() -> object:
        return torch.autograd.grad(weight.exp().sum(), weight)  # exp keeps its output for the backward pass

    assert peak(call) >= 2 * 4 * 256 * KIBI


def test_the_resident_high_water_is_at_least_the_allocation_where_it_can_be_read() -> None:
    measured = memory.measure(lambda: torch.ones(64 * KIBI * KIBI, dtype=torch.uint8), "cpu")
    if measured.resident is None:
        pytest.skip("this system does not let a process reset its resident high-water mark")
    assert measured.resident > 64 * KIBI * KIBI


def test_the_cpu_has_no_device_memory() -> None:
    assert memory.measure(lambda: None, "cpu").device is None


@pytest.mark.parametrize("gpu", [None, SimpleNamespace(process_memory=lambda: 700 * KIBI)])
def test_on_a_gpu_the_drivers_word_on_this_process_is_kept(
    gpu: SimpleNamespace | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_cuda_peak", lambda call: (64, 0))
    monkeypatch.setattr(nvml, "current_gpu", lambda: gpu)
    measured = memory.measure(lambda: None, "cuda")
    assert (measured.above_inputs, measured.device) == (64, 700 * KIBI if gpu else None)
