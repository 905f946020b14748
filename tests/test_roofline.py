"""The roofline's arithmetic: what bounds a call, what is implausible, what is not known."""

from __future__ import annotations

import itertools
import json

import pytest

from attention_impls import Cost
from elattn_bench.cases import LEVELS
from elattn_bench.roofline import IMPLAUSIBLE, Ceilings, format_rate, passes

GB, GFLOP, CACHE = 10**9, 10**9, 10**9
CEILINGS = Ceilings(
    dram_bytes_per_s=10 * GB,
    cache_bytes_per_s=100 * GB,
    cache_bytes=CACHE,
    matmul_flops_per_s={
        "float32": 200 * GFLOP,
        "bfloat16": 800 * GFLOP,
        "float16": 5 * GFLOP,
        "float64": 50 * GFLOP,
    },
    copy_bytes_per_s={"dram": 8 * GB, "cache": 80 * GB},
)


def least_time(cost: Cost, dtype: str = "float32", cache: str = "hot", passes: int = 1) -> float:
    roof = CEILINGS.roof(dtype, cost, cache=cache, passes=passes)
    assert roof is not None
    return roof.seconds


def test_much_arithmetic_is_bounded_by_the_matmul_rate() -> None:
    roof = CEILINGS.roof("float32", Cost(flops=400 * GFLOP, bytes=GB))
    assert roof is not None
    assert roof.seconds == pytest.approx(2.0)
    assert roof.limit == "matmul rate of 200 GFLOP/s"


def test_much_traffic_is_bounded_by_the_memory() -> None:
    roof = CEILINGS.roof("float32", Cost(flops=1, bytes=101 * GB))
    assert roof is not None
    assert roof.seconds == pytest.approx(10.0)
    assert roof.limit == "memory bandwidth of 10.0 GB/s"


def test_the_fraction_is_the_least_time_over_the_time_it_took() -> None:
    roof = CEILINGS.roof("float32", Cost(flops=400 * GFLOP, bytes=GB))
    assert roof is not None
    assert roof.fraction(8.0) == pytest.approx(0.25)


def test_what_fits_into_the_cache_is_bounded_by_the_cache() -> None:
    assert least_time(Cost(flops=1, bytes=CACHE)) == pytest.approx(0.01)


def test_just_beyond_the_cache_only_the_excess_must_come_from_memory() -> None:
    assert least_time(Cost(flops=1, bytes=CACHE + CACHE // 100)) == pytest.approx(0.0101)
    assert least_time(Cost(flops=1, bytes=2 * CACHE)) == pytest.approx(0.1)


def test_the_least_time_never_jumps_where_the_cache_ends() -> None:
    sizes = [CACHE + step * CACHE // 1000 for step in range(-5, 200)]
    times = [least_time(Cost(flops=1, bytes=size)) for size in sizes]
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(0 < step <= CACHE / 1000 / (10 * GB) * 1.001 for step in steps)


def test_from_a_cold_cache_a_single_pass_finds_nothing() -> None:
    assert least_time(Cost(flops=1, bytes=CACHE), cache="cold") == pytest.approx(0.1)


def test_every_further_pass_may_find_a_cache_full() -> None:
    cost = Cost(flops=1, bytes=4 * CACHE)
    assert least_time(cost, passes=2) == pytest.approx(0.2)
    assert least_time(cost, cache="cold", passes=2) == pytest.approx(0.3)


def test_training_goes_back_and_a_layer_goes_through_projections_core_and_output() -> None:
    assert [passes(level, mode) for level in LEVELS for mode in ("forward", "train")] == [1, 2, 3, 6, 7, 14]


def test_a_step_goes_through_its_state_once() -> None:
    assert passes("op", "decode") == 1


def test_arithmetic_in_a_wider_type_counts_when_that_is_faster() -> None:
    flops = Cost(flops=800 * GFLOP, bytes=1)
    assert least_time(flops, "float16") == least_time(flops, "bfloat16") == pytest.approx(1.0)


def test_arithmetic_in_a_narrower_type_does_not_count() -> None:
    assert least_time(Cost(flops=800 * GFLOP, bytes=1), "float32") == pytest.approx(4.0)
    assert least_time(Cost(flops=800 * GFLOP, bytes=1), "float64") == pytest.approx(16.0)


def test_float32_work_may_run_at_the_rate_of_tf32() -> None:
    ceilings = Ceilings(
        matmul_flops_per_s={"float32": 50 * GFLOP, "tf32": 400 * GFLOP, "float64": 25 * GFLOP}
    )
    single, double = (ceilings.roof(dtype, Cost(400 * GFLOP, 1)) for dtype in ("float32", "float64"))
    assert single is not None
    assert double is not None
    assert (single.seconds, double.seconds) == pytest.approx((1.0, 16.0))


def test_without_ceilings_nothing_is_known() -> None:
    assert Ceilings.UNKNOWN.roof("float32", Cost(10, 10)) is None
    assert Ceilings.from_json({}) == Ceilings.UNKNOWN


def test_a_type_that_nobody_measured_leaves_the_traffic_to_judge() -> None:
    roof = Ceilings(dram_bytes_per_s=GB, matmul_flops_per_s={"float32": GFLOP}).roof(
        "bfloat16", Cost(10**15, GB)
    )
    assert roof is not None
    assert roof.seconds == pytest.approx(1.0)


def test_without_a_known_cache_all_bytes_come_from_memory() -> None:
    roof = Ceilings(dram_bytes_per_s=GB).roof("float32", Cost(0, GB), passes=2)
    assert roof is not None
    assert roof.seconds == pytest.approx(1.0)


def test_memory_bandwidth_alone_says_nothing_of_what_the_cache_holds() -> None:
    assert Ceilings(dram_bytes_per_s=GB, cache_bytes=CACHE).roof("float32", Cost(0, CACHE)) is None


def test_up_to_the_tolerance_a_time_is_plausible_and_beyond_it_is_not() -> None:
    roof = CEILINGS.roof("float32", Cost(flops=200 * GFLOP, bytes=1))
    assert roof is not None
    assert roof.implausible(1.0 / (0.999 * IMPLAUSIBLE)) is None
    assert roof.implausible(1.0 / (1.001 * IMPLAUSIBLE)) is not None


def test_the_reason_names_the_figure_the_ceiling_and_what_to_do() -> None:
    roof = CEILINGS.roof("float32", Cost(flops=475 * GFLOP, bytes=1))
    assert roof is not None
    reason = roof.implausible(1.0)
    assert reason is not None
    assert reason.startswith("implausible: 2.38 times this device's matmul rate of 200 GFLOP/s")
    assert "elattn-bench env" in reason
    assert "other processes" not in reason


def test_the_reason_says_when_the_machine_was_busy_with_other_work() -> None:
    busy = Ceilings(dram_bytes_per_s=GB, others_share=0.4).roof("float32", Cost(0, 2 * GB))
    assert busy is not None
    assert "other processes used 40% of the CPU" in str(busy.implausible(1.0))


def test_of_two_measurements_the_higher_of_each_ceiling_holds() -> None:
    lower = Ceilings(20 * GB, 50 * GB, CACHE, {"float32": 1.0, "float64": 2.0}, {"dram": 9 * GB}, 0.5)
    best = CEILINGS.best_of(lower)
    assert best == lower.best_of(CEILINGS)
    assert (best.dram_bytes_per_s, best.cache_bytes_per_s) == (20 * GB, 100 * GB)
    assert best.matmul_flops_per_s == CEILINGS.matmul_flops_per_s
    assert best.copy_bytes_per_s == {"dram": 9 * GB, "cache": 80 * GB}


def test_what_only_one_measurement_knows_is_kept() -> None:
    only_cache = Ceilings(cache_bytes_per_s=GB)
    assert Ceilings.UNKNOWN.best_of(CEILINGS) == CEILINGS
    assert only_cache.best_of(Ceilings(dram_bytes_per_s=GB)) == Ceilings(GB, GB)


def test_merged_ceilings_were_measured_as_quietly_as_the_quieter_ones() -> None:
    assert Ceilings(others_share=0.5).best_of(Ceilings(others_share=0.0)).others_share == 0.0


def test_ceilings_survive_json() -> None:
    assert Ceilings.from_json(json.loads(json.dumps(CEILINGS.to_json()))) == CEILINGS


def test_what_a_later_version_stores_is_ignored() -> None:
    stored = {**CEILINGS.to_json(), "network_bytes_per_s": 1.0}
    stored["matmul_flops_per_s"] = {**CEILINGS.matmul_flops_per_s, "float8": 10**15}
    roof = Ceilings.from_json(stored).roof("float32", Cost(200 * GFLOP, 1))
    assert roof is not None
    assert roof.seconds == pytest.approx(1.0)


def test_people_read_rates_in_decimal_units() -> None:
    assert CEILINGS.facts() == {
        "bandwidth, memory": "10.0 GB/s (copying 8.00 GB/s)",
        "bandwidth, cache": "100 GB/s (copying 80.0 GB/s)",
        "matmul float32": "200 GFLOP/s",
        "matmul bfloat16": "800 GFLOP/s",
        "matmul float16": "5.00 GFLOP/s",
        "matmul float64": "50.0 GFLOP/s",
    }
    assert format_rate(3.05e12, "B/s") == "3.05 TB/s"
    assert format_rate(12.0, "B/s") == "12.0 B/s"


def test_unknown_ceilings_have_no_facts() -> None:
    assert Ceilings.UNKNOWN.facts() == {}
