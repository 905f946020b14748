"""The device is watched while a case is sampled: with a made-up driver, and never at the case's expense."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import made_up_driver
import pytest
from made_up_driver import ANSWERS, Driver

from elattn_bench import allowance, energy, monitor, nvml
from elattn_bench.cases import Case
from elattn_bench.energy import Counter
from elattn_bench.monitor import Monitor, Observed, Reading
from elattn_bench.nvml import Gpu
from elattn_bench.results import Measurement
from elattn_bench.stats import Budget

THERMAL_SOFTWARE, THERMAL_HARDWARE, POWER_CAP, POWER_BRAKE, HARDWARE = 0x20, 0x40, 0x04, 0x80, 0x08
IDLE, FIXED_CLOCKS, SYNC_BOOST = 0x01, 0x02, 0x10


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    made_up = made_up_driver.install(monkeypatch)
    monkeypatch.setattr(nvml, "current_gpu", lambda: Gpu("handle"))
    yield made_up
    assert not any(thread.name == "gpu-monitor" for thread in threading.enumerate())


class ManualClock:
    """Each call takes one second of a time that stands still between calls."""

    min_block = 0.0

    def now(self) -> float:
        return 0.0

    def time(self, call: Callable[[], object], calls: int) -> float:
        for _ in range(calls):
            call()
        return float(calls)


def watched(device: str, call: Callable[[], object] = lambda: None, rounds: int = 2) -> Observed:
    with Monitor(ManualClock(), device) as watch:
        for _ in range(rounds):
            watch.time(call, 1)
    return watch.observed


def reading(bits: int | None) -> Reading:
    return Reading(1350.0, 300.0, 70.0, bits)


def test_the_monitor_tells_the_clocks_own_times() -> None:
    watch = Monitor(ManualClock(), "cpu")
    assert (watch.time(lambda: None, 3), watch.now(), watch.min_block) == (3.0, 0.0, 0.0)


def test_clock_power_and_temperature_are_read_in_their_units(driver: Driver) -> None:
    driver.answers |= ANSWERS
    seen = watched("cuda")
    assert (seen.clock_mhz, seen.power_w, seen.temperature_c, seen.throttled) == (1350, 312.5, 71, None)


def test_readings_are_taken_while_calls_run_and_their_median_is_told(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "PERIOD", 1e-3)
    clocks, enough = iter([900, 1800, 1500]), threading.Event()

    def clock_info(handle: str, kind: int) -> int | None:
        mhz = next(clocks, None)
        if mhz is None:
            enough.set()
        return mhz

    driver.answers |= {**ANSWERS, "nvmlDeviceGetClockInfo": clock_info}
    with Monitor(ManualClock(), "cuda") as watch:
        watch.time(lambda: None, 1)
        watch.time(lambda: enough.wait(60), 1)
    assert watch.observed.clock_mhz == 1500


def test_the_first_call_is_not_watched(driver: Driver) -> None:
    driver.answers |= ANSWERS
    with Monitor(ManualClock(), "cuda") as watch:
        watch.time(lambda: pytest.fail("a question during the first call") if driver.asked else None, 1)
        assert driver.asked


def test_a_card_that_answers_nothing_leaves_everything_open(driver: Driver) -> None:
    seen = watched("cuda")
    assert seen == Observed(seconds=seen.seconds, shortest=seen.shortest)
    assert seen.energy_per_call(1.0) is None


@pytest.mark.parametrize("missing", sorted(ANSWERS))
def test_one_question_that_a_card_does_not_support_spoils_no_other(missing: str, driver: Driver) -> None:
    driver.answers |= {name: answer for name, answer in ANSWERS.items() if name != missing}
    seen = watched("cuda")
    assert [seen.clock_mhz, seen.temperature_c, seen.power_w].count(None) == (
        missing in ("nvmlDeviceGetClockInfo", "nvmlDeviceGetTemperature", "nvmlDeviceGetPowerUsage")
    )
    assert seen.throttled is None


def test_the_watching_thread_stops_when_the_case_fails(driver: Driver) -> None:
    driver.answers |= ANSWERS
    alive: list[str] = []

    def call() -> None:
        alive.extend(thread.name for thread in threading.enumerate())
        if len(driver.asked) > 0:
            raise OverflowError

    with pytest.raises(OverflowError):
        watched("cuda", call)
    assert "gpu-monitor" in alive
    # The fixture sees that it is not left.


def test_a_case_that_fails_at_once_was_not_watched(driver: Driver) -> None:
    with pytest.raises(ZeroDivisionError), Monitor(ManualClock(), "cuda") as watch:
        watch.time(lambda: 1 // 0, 1)
    assert watch.observed == Observed()
    assert driver.asked == []


def test_a_gpu_unknown_to_the_driver_is_not_watched(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "current_gpu", lambda: None)
    assert watched("cuda") == Observed()


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (POWER_CAP, "power cap"),
        (POWER_CAP | THERMAL_SOFTWARE | IDLE, "power cap, thermal slowdown by software"),
        (THERMAL_HARDWARE | HARDWARE, "thermal slowdown by hardware"),
        (POWER_BRAKE | HARDWARE, "power brake"),
        (HARDWARE, "hardware slowdown"),
    ],
)
def test_slowdowns_are_named(bits: int, words: str) -> None:
    sentence = monitor.gpu_slowdown([reading(bits)], 1350.0, 1980.0)
    assert sentence == f"the GPU slowed down: {words} (1350 MHz of 1980 MHz)"


@pytest.mark.parametrize("bits", [0, IDLE, FIXED_CLOCKS, SYNC_BOOST, IDLE | FIXED_CLOCKS | 0x100, None])
def test_an_idle_gpu_or_one_with_fixed_clocks_is_not_slowed_down(bits: int | None) -> None:
    assert monitor.gpu_slowdown([reading(bits)], 1350.0, 1980.0) is None


@pytest.mark.parametrize(("slowed", "told"), [(0, False), (1, False), (2, True), (20, True)])
def test_a_slowdown_counts_from_a_tenth_of_the_readings_on(slowed: int, told: bool) -> None:
    readings = [reading(POWER_CAP)] * slowed + [reading(0)] * (20 - slowed) + [reading(None)] * 5
    assert (monitor.gpu_slowdown(readings, None, None) is not None) == told


def test_a_slowdown_without_known_clocks_is_told_without_them() -> None:
    assert monitor.gpu_slowdown([reading(POWER_CAP)], None, 1980.0) == "the GPU slowed down: power cap"


def test_a_slowdown_seen_while_watching_is_told(driver: Driver) -> None:
    driver.answers |= {**ANSWERS, "nvmlDeviceGetCurrentClocksEventReasons": POWER_CAP}
    assert watched("cuda").throttled == "the GPU slowed down: power cap (1350 MHz of 1980 MHz)"


def test_energy_is_the_counters_gain(driver: Driver) -> None:
    counter = iter([5_000_000, 5_042_000])
    driver.answers["nvmlDeviceGetTotalEnergyConsumption"] = lambda handle: next(counter)
    assert watched("cuda").energy_j == pytest.approx(42.0)


def test_energy_per_call_is_mean_power_times_the_latency() -> None:
    assert Observed(energy_j=600.0, seconds=2.0, shortest=1.0).energy_per_call(0.01) == pytest.approx(3.0)


@pytest.mark.parametrize(
    "seen",
    [
        Observed(),
        Observed(seconds=2.0),
        Observed(energy_j=6.0),
        Observed(energy_j=6.0, seconds=0.9, shortest=1.0),
    ],
    ids=["nothing", "no counter", "no window", "window too short for the counter"],
)
def test_energy_that_is_not_known_well_is_not_told(seen: Observed) -> None:
    assert seen.energy_per_call(0.01) is None


def test_the_cpu_is_watched_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([{"package": Counter(10.0)}, {"package": Counter(12.0)}])
    monkeypatch.setattr(energy, "cpu_counters", lambda: next(readings))
    threads = threading.active_count()
    with Monitor(ManualClock(), "cpu") as watch:
        watch.time(lambda: None, 1)
        assert threading.active_count() == threads
    assert watch.observed.energy_j == pytest.approx(2.0)
    assert watch.observed.clock_mhz is None


@pytest.mark.parametrize(
    ("quota", "hot", "sentence"),
    [
        (0.0, 0.0, None),
        (0.09, 0.09, None),
        (0.34, 0.0, "the container's CPU quota ran out in 34% of its periods"),
        (0.0, 0.5, "the CPU was too hot for its clock for 50% of the time"),
    ],
)
def test_a_quota_that_ran_out_and_heat_slow_a_cpu_down(
    quota: float, hot: float, sentence: str | None
) -> None:
    assert monitor.cpu_slowdown(quota, hot) == sentence


def test_a_quota_that_runs_out_while_watching_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([{Path("group"): (100, 10)}, {Path("group"): (110, 15)}])
    monkeypatch.setattr(allowance, "quota_periods", lambda: next(readings))
    assert watched("cpu").throttled == "the container's CPU quota ran out in 50% of its periods"


def test_heat_is_counted_on_the_cpu_that_suffered_most(tmp_path: Path) -> None:
    def hot(cpu: int, milliseconds: int) -> None:
        counter = tmp_path / f"cpu{cpu}/thermal_throttle/core_throttle_total_time_ms"
        counter.parent.mkdir(parents=True, exist_ok=True)
        counter.write_text(f"{milliseconds}\n")

    assert monitor.heat_seconds(tmp_path) == {}
    hot(0, 90_000)
    hot(1, 0)
    before = monitor.heat_seconds(tmp_path)
    hot(0, 90_100)
    hot(1, 500)
    after = monitor.heat_seconds(tmp_path)
    assert monitor.heat_share(before, after, 1.0) == pytest.approx(0.5)
    assert monitor.heat_share({}, {}, 1.0) == 0.0
    assert monitor.heat_share(before, after, 0.0) == 0.0


def test_the_driver_is_asked_as_time_passes_and_not_more_for_more_calls(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "PERIOD", 3600.0)
    driver.answers |= ANSWERS

    def questions(calls: int) -> int:
        driver.asked.clear()
        watched("cuda", rounds=calls)
        return len(driver.asked)

    assert questions(2) == questions(1000) > 0


BRIEF = Budget(min_samples=4, min_time=0.0, max_time=0.2, precision=1.0, warm_up_time=0.05)
SMALL = Case("softmax", "eager", "op", "forward", "float32", "cpu", False, 1, 2, 64, 16)


def measured() -> Measurement:
    pytest.importorskip("torch")
    from elattn_bench.gate import Gate
    from elattn_bench.measure import measure
    from elattn_bench.worker_process import Context, Settings

    outcome = measure(Context(Settings("cpu", BRIEF), Gate(1.0)), SMALL)
    assert isinstance(outcome, Measurement)
    return outcome


def test_a_case_whose_quota_ran_out_is_throttled_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([{Path("group"): (100, 10)}, {Path("group"): (104, 13)}])
    monkeypatch.setattr(allowance, "quota_periods", lambda: next(readings))
    outcome = measured()
    assert outcome.stability == "throttled"
    assert (outcome.stability_reason or "").startswith("the container's CPU quota ran out in 75% of its")


def test_a_case_records_its_energy_where_it_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "UPDATES", 0)
    readings = iter([{"package": Counter(0.0)}, {"package": Counter(5.0)}])
    monkeypatch.setattr(energy, "cpu_counters", lambda: next(readings))
    outcome = measured()
    assert outcome.energy_j is not None
    # One call of several uses less than all did, and more than nothing.
    assert 0 < outcome.energy_j < 5.0
    assert (outcome.clock_mhz, outcome.device_peak_bytes) == (None, None)
