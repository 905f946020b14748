"""Ceilings: the choice of the best on a clock that the test holds, and one real measurement of this CPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import chain, cycle, repeat
from typing import Any

import pytest
import torch

from elattn_bench import ceilings
from elattn_bench.gate import Gate
from elattn_bench.roofline import Ceilings
from elattn_bench.sampling import Stopwatch
from elattn_bench.stats import BUDGETS
from elattn_bench.tables import listings
from elattn_bench.tries import ENOUGH, FEWEST_ROUNDS, FEWEST_TRIES, Job, Tries, best_of_rounds
from elattn_bench.worker_process import Context, Settings

MIB, GIB = 2**20, 2**30


class WorkClock:
    """A clock that only moves when a call says how long it works."""

    min_block = 1e-3

    def __init__(self) -> None:
        self.time_now = 0.0

    def now(self) -> float:
        return self.time_now

    def time(self, call: Callable[[], object], calls: int) -> float:
        before = self.time_now
        for _ in range(calls):
            call()
        return self.time_now - before

    def works(self, durations: Iterator[float]) -> Callable[[], None]:
        """A call that takes the next of the durations each time."""

        def work() -> None:
            self.time_now += next(durations)

        return work


@pytest.fixture
def clock() -> WorkClock:
    return WorkClock()


@pytest.fixture
def tries(clock: WorkClock) -> Tries:
    return Tries(Stopwatch(clock), block=1e-4)


class TestTries:
    def test_the_shortest_try_counts(self, clock: WorkClock, tries: Tries) -> None:
        disturbed = cycle([0.02, 0.05, 0.01, 0.03, 0.02])
        assert tries.best(clock.works(disturbed)) == pytest.approx(0.01)

    def test_short_calls_are_tried_in_blocks_that_outlast_the_clock(
        self, clock: WorkClock, tries: Tries
    ) -> None:
        # One impossibly short reading within a block of a hundred calls cannot be the best alone.
        calls = chain(repeat(1e-6, 50), [1e-9], repeat(1e-6))
        assert tries.best(clock.works(calls)) == pytest.approx(1e-6, rel=0.02)

    def test_long_calls_are_tried_a_few_times_only(self, clock: WorkClock, tries: Tries) -> None:
        tries.best(clock.works(repeat(1.0)))
        assert tries.spent == pytest.approx(FEWEST_TRIES)


class TestProducts:
    def test_a_fast_device_is_tried_up_to_the_largest_size(self, clock: WorkClock, tries: Tries) -> None:
        tried = []

        def product(rows: int) -> Callable[[], None]:
            tried.append(rows)
            return clock.works(repeat(2 * rows**3 / 1e15))

        assert ceilings.product_rate(product, tries, 2048) == pytest.approx(1e15)
        assert tried == [128, 256, 512, 1024, 2048]

    @pytest.mark.parametrize("rate", [1e8, 3e9, 1e11, 1e13])
    def test_a_slow_device_is_never_asked_for_more_than_the_time(
        self, clock: WorkClock, tries: Tries, rate: float
    ) -> None:
        found = ceilings.product_rate(lambda rows: clock.works(repeat(2 * rows**3 / rate)), tries, 8192)
        smallest = FEWEST_TRIES * 2 * ceilings.SMALLEST_PRODUCT**3 / rate
        assert found == pytest.approx(rate)
        assert tries.spent <= max(smallest, ceilings.PRODUCT_TIME) * 1.01

    def test_the_best_size_counts_when_larger_ones_are_slower(self, clock: WorkClock, tries: Tries) -> None:
        def product(rows: int) -> Callable[[], None]:
            return clock.works(repeat(2 * rows**3 / (5e12 if rows == 512 else 1e12)))

        assert ceilings.product_rate(product, tries, 2048) == pytest.approx(5e12)


class TestRounds:
    def run(self, clock: WorkClock, rates: Iterator[float], lasting: float = 0.01) -> tuple[Ceilings, float]:
        tries = Tries(Stopwatch(clock), block=0.0)

        def one_round() -> Ceilings:
            tries.watch.time(clock.works(repeat(lasting)), 1)
            return Ceilings(dram_bytes_per_s=next(rates))

        return best_of_rounds([Job(one_round)], tries), tries.spent

    def test_rounds_that_agree_end_the_measuring(self, clock: WorkClock) -> None:
        found, spent = self.run(clock, repeat(5.0))
        assert found == Ceilings(dram_bytes_per_s=5.0)
        assert spent == pytest.approx(FEWEST_ROUNDS * 0.01)

    def test_a_best_round_that_no_other_comes_near_asks_for_more(self, clock: WorkClock) -> None:
        found, spent = self.run(clock, chain([4.0, 4.0, 9.0, 4.0, 8.9], repeat(1.0)))
        assert found.dram_bytes_per_s == 9.0
        assert spent == pytest.approx(5 * 0.01)

    def test_rounds_that_never_agree_end_when_time_is_up(self, clock: WorkClock) -> None:
        found, spent = self.run(clock, (2.0**power for power in range(1000)), lasting=0.1)
        assert found.dram_bytes_per_s is not None
        assert ENOUGH <= spent < ENOUGH + 0.2

    def test_only_what_is_not_settled_goes_on(self, clock: WorkClock) -> None:
        tries = Tries(Stopwatch(clock), block=0.0)
        counts = {"steady": 0, "rising": 0}

        def job(name: str, rates: Iterator[float]) -> Job:
            def one_round() -> Ceilings:
                counts[name] += 1
                return Ceilings(matmul_flops_per_s={name: next(rates)})

            return Job(one_round)

        jobs = [job("steady", repeat(1.0)), job("rising", chain([1.0, 2.0, 4.0, 8.0], repeat(16.0)))]
        found = best_of_rounds(jobs, tries)
        assert counts == {"steady": FEWEST_ROUNDS, "rising": 6}
        assert found.matmul_flops_per_s == {"steady": 1.0, "rising": 16.0}


class TestWorkingSets:
    def test_memory_is_streamed_through_many_times_the_cache(self) -> None:
        assert ceilings.working_set(32 * MIB, room=16 * GIB) == ceilings.MEMORY_CACHES * 32 * MIB

    def test_a_tight_limit_makes_it_smaller(self) -> None:
        assert ceilings.working_set(32 * MIB, room=100 * MIB) == 100 * MIB
        assert ceilings.working_set(32 * MIB, room=-1) == 0

    def test_a_huge_cache_does_not_make_it_endless(self) -> None:
        assert ceilings.working_set(384 * MIB, room=100 * GIB) == ceilings.LARGEST_SET
        assert ceilings.working_set(2 * GIB, room=100 * GIB) == 4 * GIB

    def test_parts_that_the_cache_holds_are_told_from_what_it_does_not(self) -> None:
        sets = ceilings.working_sets(torch.ones(8 * MIB // 4), cache=MIB)
        assert [sum(piece.nbytes for piece in pieces) for pieces in sets["dram"]] == [8 * MIB, 8 * MIB]
        assert max(piece.nbytes for pieces in sets["cache"] for piece in pieces) < MIB

    def test_between_two_turns_of_a_piece_more_passes_than_the_cache_holds(self) -> None:
        for size in (2 * MIB, 5 * MIB // 2, 8 * MIB):
            pieces = ceilings.working_sets(torch.ones(size // 4), cache=MIB)["dram"][1]
            assert sum(piece.nbytes for piece in pieces[1:]) > MIB
            assert len({piece.nbytes for piece in pieces}) == 1

    def test_a_buffer_that_the_cache_serves_for_the_most_part_tells_nothing_of_memory(self) -> None:
        assert "dram" not in ceilings.working_sets(torch.ones(3 * MIB // 2 // 4), cache=MIB)

    def test_without_room_nothing_is_streamed(self) -> None:
        assert ceilings.working_sets(torch.ones(0), cache=MIB) == {}

    @pytest.mark.parametrize("room", [-1, 0, 1, MIB, 100 * MIB, 100 * GIB])
    def test_the_largest_product_fits(self, room: int) -> None:
        rows = ceilings.largest_product(room)
        assert rows == 1 or 2 * rows**2 * 8 <= room
        assert rows <= ceilings.LARGEST_PRODUCT


def context(device: str = "cpu", memory_limit: int | None = None) -> Context:
    return Context(Settings(device, BUDGETS["quick"], memory_limit=memory_limit), Gate(1.0))


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return ceilings.measure(context())


class TestThisCpu:
    def test_every_ceiling_is_measured_and_positive(self, measured: dict[str, Any]) -> None:
        found = Ceilings.from_json(measured)
        assert {"stream dram", "stream cache", "matmul float32", "matmul float64"} <= found.rates().keys()
        assert all(rate > 0 for rate in found.rates().values())
        assert found.cache_bytes is not None
        assert found.cache_bytes > 0

    def test_it_survives_json(self, measured: dict[str, Any]) -> None:
        assert measured.keys() == {each.name for each in fields(Ceilings)}
        assert Ceilings.from_json(json.loads(json.dumps(measured))).to_json() == measured

    def test_copying_is_never_above_the_best_of_all_streams(self, measured: dict[str, Any]) -> None:
        found = Ceilings.from_json(measured).rates()
        assert found["copy dram"] <= found["stream dram"]
        assert found["copy cache"] <= found["stream cache"]

    def test_the_settings_of_torch_are_as_before(self) -> None:
        before = (torch.get_num_threads(), torch.get_float32_matmul_precision())
        with ceilings._one_thread(), ceilings._float32_precision("high"):
            assert torch.get_num_threads() == 1
        assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before

    def test_env_shows_them_to_people(self, measured: dict[str, Any]) -> None:
        environment, reached = listings.environment_report(
            {"cache_bytes": 2**25, "ceilings": measured}
        ).tables
        assert ["cache", "32.0 MiB"] in [list(row) for row in environment.rows]
        assert {"bandwidth, memory", "matmul float32"} <= {row[0] for row in reached.rows}

    def test_env_says_why_there_are_none(self) -> None:
        (only,) = listings.environment_report({"ceilings": {}, "ceilings_missing": "no memory"}).tables
        assert [list(row) for row in only.rows] == [["ceilings missing", "no memory"]]


def test_a_busy_cpu_is_also_measured_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def best() -> Ceilings:
        threads.append(torch.get_num_threads())
        return Ceilings(dram_bytes_per_s=float(len(threads)))

    monkeypatch.setattr(ceilings, "others_share", lambda before, after: 0.5)
    found = ceilings._beside_others(best)
    assert threads[1:] == [1]
    assert found == Ceilings(dram_bytes_per_s=2.0, others_share=0.5)


def test_a_type_that_the_device_does_not_multiply_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def matmul(dtype: str, device: str, rows: int) -> Callable[[], object]:
        def call() -> None:
            if dtype == "float16":
                raise RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'")

        return call

    monkeypatch.setattr(ceilings, "_matmul", matmul)
    assert {route.name for route in ceilings._routes("cpu")} == {"float64", "float32", "bfloat16"}


def test_a_bug_does_not_become_a_missing_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def matmul(dtype: str, device: str, rows: int) -> Callable[[], object]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(ceilings, "_matmul", matmul)
    with pytest.raises(RuntimeError, match="shapes"):
        ceilings._routes("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_multiplies_float32_faster_as_tf32_or_as_fast() -> None:
    found = Ceilings.from_json(ceilings.measure(context("cuda")))
    assert found.rates()["matmul tf32"] >= 0.9 * found.rates()["matmul float32"]
    assert found.others_share is None
