"""Ranks on one machine: measured in lockstep, gated together, and none that fails leaves the others waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_up
import pytest

from attention_impls.sharding import shard_lengths
from elattn_bench.cases import Case
from elattn_bench.errors import Interrupted, WorkerError
from elattn_bench.gate import GateError
from elattn_bench.prediction import Predictor
from elattn_bench.ranks import collectives, exchanges, gate, verdict, work
from elattn_bench.ranks import group as group_module
from elattn_bench.ranks.group import RankGroup, Share
from elattn_bench.ranks.lockstep import Agreement, RankClock
from elattn_bench.ranks.measure import most_of
from elattn_bench.ranks.member import LocalMember
from elattn_bench.results import Measurement, Skipped
from elattn_bench.rundir import RunDir
from elattn_bench.sampling import sample
from elattn_bench.stats import BUDGETS, Budget
from elattn_bench.units import Seconds
from elattn_bench.worker import Settings

EA = Case("ea-series", "eager", "op", "forward", "float32", "cpu", False, 1, 2, 256, 16, 2, ranks=2)
FAULTY = Case("", "eager", "op", "forward", "float32", "cpu", False, 1, 1, 512, 16, ranks=2)
GIBIBYTE = 2**30
SHORT = Budget(min_samples=5, min_time=0.02, max_time=0.1, precision=0.5, warm_up_time=0.02)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankGroup]:
    """Two real ranks for all tests: whatever one case does to them must not reach the next."""
    directory = tmp_path_factory.mktemp("meetings")
    members = [LocalMember(Settings("cpu", SHORT, 1, 4 * GIBIBYTE)) for _ in range(2)]
    share = Share(threads=1, memory=4 * GIBIBYTE, cpus=1)
    with RankGroup(members, lambda task: f"file://{directory}/{task}", share) as group:
        yield group


def measured(group: RankGroup, case: Case, timeout: Seconds = 60) -> Measurement:
    outcome = group.measure(case, timeout)
    assert isinstance(outcome, Measurement), outcome
    return outcome


def of_fault(group: RankGroup, fault: str, timeout: Seconds = 60) -> Skipped:
    outcome = group.measure(replace(FAULTY, attention=f"faulty_ranks:{fault}"), timeout)
    assert isinstance(outcome, Skipped), outcome
    return outcome


@pytest.mark.parametrize(
    ("attention", "mode", "causal"),
    [("ea-series", "train", True), ("linear", "train", False), ("softmax", "forward", True)],
)
def test_two_ranks_receive_what_the_formula_says(
    group: RankGroup, attention: str, mode: str, causal: bool
) -> None:
    backend = "sdpa" if attention == "softmax" else "eager"
    order = 2 if attention == "ea-series" else None
    case = replace(EA, attention=attention, backend=backend, order=order, mode=mode, causal=causal)
    found = measured(group, case)
    assert found.received_bytes == case.received_bytes_formula
    assert found.received_bytes
    assert found.rel_rms_error is not None
    assert 0 < found.rel_rms_error < 1e-5
    assert min(found.latency_ms) > 0
    assert not any(sentence.startswith("leak") for sentence in found.warnings)


def test_what_ea_series_receives_does_not_depend_on_the_length(group: RankGroup) -> None:
    short, long = (measured(group, replace(EA, seq_len=seq_len)) for seq_len in (101, 1001))
    assert short.received_bytes == long.received_bytes
    assert (short.peak_memory_bytes or 0) < (long.peak_memory_bytes or 0)


def test_the_inputs_that_a_rank_holds_are_its_own_shards(group: RankGroup) -> None:
    found = measured(group, replace(EA, seq_len=101))
    inputs = (found.total_memory_bytes or 0) - (found.peak_memory_bytes or 0)
    longer, shorter = (3 * rows * 16 * 4 for rows in shard_lengths(101, 2))
    assert shorter <= inputs <= longer


def test_one_rank_is_a_world_in_which_nothing_is_exchanged(group: RankGroup) -> None:
    assert measured(group, replace(EA, ranks=1)).received_bytes == 0


def test_ranks_know_what_they_do_with_nothing_exchanged(group: RankGroup) -> None:
    case = replace(EA, mode="train", causal=True)
    alone, spread = measured(group, replace(case, ranks=1)), measured(group, case)
    assert alone.work_ms is None
    assert (spread.work_ms or 0) > 0
    assert (spread.timed_s or 0) > (spread.work_ms or 0) * 1e-3 + sum(spread.latency_ms) * 1e-3
    assert spread.received_bytes == case.received_bytes_formula
    assert not any(sentence.startswith("work") for sentence in spread.warnings)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("exchanges_itself", []),
        ("trusts_nobody", ["work: not measured: ValueError: the others are not as they should be"]),
    ],
)
def test_a_form_that_cannot_be_silenced_is_measured_all_the_same(
    group: RankGroup, fault: str, told: list[str]
) -> None:
    found = measured(group, replace(FAULTY, attention=f"faulty_ranks:{fault}"))
    assert min(found.latency_ms) > 0
    assert found.work_ms is None
    assert [sentence for sentence in found.warnings if sentence.startswith("work")] == told


def test_ranks_that_share_a_cpu_say_so(group: RankGroup) -> None:
    crowded, alone = (measured(group, replace(EA, ranks=ranks)).warnings for ranks in (2, 1))
    assert "ranks: 2 ranks share 1 CPU, so they wait for each other as devices would not" in crowded
    assert not any(sentence.startswith("ranks") for sentence in alone)


def test_a_rank_that_dies_is_one_row_and_the_next_case_is_measured(group: RankGroup) -> None:
    assert of_fault(group, "dies") == Skipped("error", "rank 1 of 2: the worker died of SIGSEGV")
    assert measured(group, replace(FAULTY, attention="faulty_ranks:sound")).received_bytes == 4


def test_a_rank_without_memory_is_out_of_memory_for_all(group: RankGroup) -> None:
    found = of_fault(group, "lacks_memory")
    assert found.status == "oom"
    assert found.reason.startswith("rank 1 of 2: the worker reached its memory limit")


def test_a_rank_that_hangs_ends_with_the_time_limit(group: RankGroup) -> None:
    found = of_fault(group, "hangs", timeout=2)
    assert found == Skipped("timeout", "took longer than 2 s (--timeout)")
    # Which of the two hangs, and which waits for it, only their stacks tell.
    assert "rank 0:" in found.details
    assert "in hangs" in found.details.partition("rank 1:")[2]


def test_an_output_that_is_wrong_on_one_rank_is_not_timed(group: RankGroup) -> None:
    found = of_fault(group, "is_wrong")
    assert found.status == "error"
    assert "output differs from the float64 oracle: relative RMS error 0.01" in found.reason


def test_a_contract_that_one_rank_breaks_at_length_is_broken_for_all(group: RankGroup) -> None:
    found = of_fault(group, "turns_wide")
    assert found.status == "error"
    assert "at the case's own length the result is [1, 1, 256, 16] torch.float64" in found.reason


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"attention": "hadamard", "order": None}, "no form for a sequence that is spread"),
        ({"level": "layer"}, "measured at --level op"),
        ({"seq_len": 1}, "1 positions cannot be spread over 2 ranks"),
    ],
)
def test_what_cannot_be_spread_is_unsupported_with_its_reason(
    group: RankGroup, changed: dict[str, Any], reason: str
) -> None:
    outcome = group.measure(replace(EA, **changed), 60)
    assert isinstance(outcome, Skipped)
    assert outcome.status == "unsupported"
    assert reason in outcome.reason


def test_collectives_are_measured_at_every_size(group: RankGroup, tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", {}) as run_dir:
        exchanges.measure(
            [EA, replace(EA, ranks=1), replace(EA, ranks=None)], run_dir, group, lambda what: None
        )
        found = run_dir.info["collectives"]
        exchanges.measure([EA], run_dir, group, lambda what: pytest.fail("measured again"))
    assert {(entry["ranks"], entry["kind"]) for entry in found} == {
        (2, kind) for kind in ("total", "before", "gather", "scatter")
    }
    assert {entry["backend"] for entry in found} == {"gloo"}
    assert {entry["bytes"] for entry in found} == {2**8, 2**12, 2**16, 2**20, 2**24}
    assert all(0 < entry["seconds_low"] <= entry["seconds"] <= entry["seconds_high"] for entry in found)


class FakeMember:
    """Answers with what it is given; a string is raised, None is never answered."""

    host = ""

    def __init__(self, answer: Any) -> None:
        self.answer, self.ended, self.renewed = answer, threading.Event(), 0

    def environment(self) -> dict[str, Any]:
        return {}

    def call(self, target: str, *arguments: Any, timeout: Seconds) -> Any:
        if self.answer is None:
            self.ended.wait()
            raise WorkerError("ended")
        if isinstance(self.answer, str):
            raise WorkerError(self.answer)
        return self.answer

    def end(self) -> None:
        self.ended.set()

    def renew(self) -> None:
        self.renewed += 1

    def close(self) -> None:
        self.ended.set()


ROOM = Share(1, GIBIBYTE, None)


def fakes(*answers: Any, most: int | None = None) -> tuple[RankGroup, list[FakeMember]]:
    members = list(map(FakeMember, answers))
    return RankGroup(members, lambda task: f"file:///{task}", ROOM, most), members


def test_a_world_is_the_first_of_the_members() -> None:
    group, _ = fakes(1, 2, 3)
    assert group.call("", 2, timeout=1) == [1, 2]
    assert group.call("", 3, timeout=1) == [1, 2, 3]


def test_whoever_waits_for_a_rank_that_failed_is_ended_and_all_are_renewed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_module, "GRACE", 0.1)
    group, members = fakes(None, Skipped("error", "no luck"), None)
    assert group.call("", 3, timeout=60) == Skipped("error", "rank 1 of 3: no luck")
    assert [member.renewed for member in members] == [1, 1, 1]


def test_what_all_ranks_say_alike_is_no_ranks_own_and_they_go_on() -> None:
    alike = Skipped("error", "differs from the oracle")
    group, members = fakes(alike, alike)
    assert group.call("", 2, timeout=60) == alike
    assert [member.renewed for member in members] == [0, 0]


def test_a_member_that_cannot_start_ends_the_others_and_is_raised() -> None:
    group, members = fakes(None, "no torch here")
    with pytest.raises(WorkerError, match="no torch here"):
        group.call("", 2, timeout=60)
    assert all(member.ended.is_set() for member in members)


def test_an_interruption_ends_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    group, members = fakes(None, None)

    def interrupted() -> float:
        raise Interrupted("SIGINT")

    group._start(2)
    monkeypatch.setattr(time, "monotonic", interrupted)
    with pytest.raises(Interrupted):
        group.call("", 2, timeout=60)
    monkeypatch.undo()
    with pytest.raises(KeyboardInterrupt), group:
        raise KeyboardInterrupt
    assert all(member.ended.is_set() for member in members)


def test_more_ranks_than_gpus_are_unsupported() -> None:
    group, _ = fakes(1, most=1)
    found = group.measure(replace(EA, ranks=2), 60)
    assert found == Skipped("unsupported", "2 ranks need a GPU each, and 1 are here")
    assert not group.has(2)


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        # What the others met is a consequence: the first to be heard is not the first to fail.
        (
            {
                0: Skipped("error", "RuntimeError: gloo: Connection closed by peer"),
                1: Skipped("error", "it died"),
            },
            "rank 1 of 3: it died",
        ),
        ({2: Skipped("error", "RuntimeError: mine"), 0: Skipped("oom", "full")}, "rank 0 of 3: full"),
        (
            {1: Skipped("timeout", "60 s"), 0: Skipped("error", "ValueError: no")},
            "rank 0 of 3: ValueError: no",
        ),
        ({1: Skipped("error", "first"), 0: Skipped("error", "second")}, "rank 1 of 3: first"),
    ],
)
def test_the_row_names_the_rank_at_fault(results: dict[int, Skipped], reason: str) -> None:
    found = verdict.failure(results, 3)
    assert found is not None
    assert found.reason == reason


def test_ranks_that_all_have_a_result_have_no_failure() -> None:
    assert verdict.failure({0: 1, 1: 2}, 2) is None


def test_a_collectives_time_is_what_it_takes_beyond_the_work_before_it() -> None:
    clock = ScriptedClock({"both": 1.5e-3, "alone": 1e-3})
    found = collectives._samples(clock.call("both"), clock.call("alone"), clock)
    assert found == pytest.approx([5e-4] * int(collectives.ENOUGH / 2.5e-3))
    assert clock.timed[:4] == ["both", "alone", "both", "alone"]  # in turn: a machine that drifts slows both


def test_a_collective_that_noise_hides_still_takes_time() -> None:
    clock = ScriptedClock({"both": 1e-3, "alone": 1.1e-3})
    found = collectives._samples(clock.call("both"), clock.call("alone"), clock)
    assert set(found) == {collectives.LEAST}


def test_work_that_the_time_limit_could_end_is_not_begun() -> None:
    class Alone(Agreement):
        def __init__(self) -> None: ...

        def highest(self, value: float) -> float:
            return value

    found = made_up.measured(8_000)
    assert isinstance(found, Measurement)
    budget = work.part_of(BUDGETS["quick"])
    clock = ScriptedClock({})
    kept = work.with_work(found, lambda: pytest.fail("begun"), Alone(), clock, budget, left=20.0)
    assert replace(kept, warnings=found.warnings) == found
    (told,) = set(kept.warnings) - set(found.warnings)
    assert told.startswith("work: not measured: --timeout leaves it less than")


class ScriptedClock(RankClock):
    """Calls take what they are said to take."""

    def __init__(self, seconds: dict[str, Seconds]) -> None:
        self.seconds, self.timed = seconds, list[str]()

    def call(self, name: str) -> Callable[[], str]:
        return lambda: name

    def time(self, call: Callable[[], object], calls: int) -> Seconds:
        self.timed.append(str(call()))
        return calls * self.seconds[self.timed[-1]]


class TwoClocks:
    """The clocks of two ranks, one of which is slower, as each would see them after agreeing."""

    min_block = 0.0

    def __init__(self, took: Seconds) -> None:
        self.took, self.reads = took, 0

    def now(self) -> Seconds:
        self.reads += 1
        return 0.01 * self.reads

    def time(self, call: Any, calls: int) -> Seconds:
        self.reads += calls
        return self.took * calls


def test_ranks_of_different_speed_take_as_many_samples_and_the_slower_ones_time() -> None:
    slower = 2e-3

    def highest(value: float) -> float:
        return max(value, slower) if 0 < value <= slower else value

    budget: Budget = BUDGETS["quick"]
    fast, slow = (
        sample(lambda: None, RankClock(TwoClocks(took), highest), budget) for took in (1e-3, slower)
    )
    assert fast.latency_ms == slow.latency_ms
    assert set(fast.latency_ms) == {2.0}


def test_a_calls_time_begins_when_all_ranks_are_there() -> None:
    events: list[str] = []

    class Clock(TwoClocks):
        def time(self, call: Any, calls: int) -> Seconds:
            events.append("timed")
            return 1.0

    def highest(value: float) -> float:
        events.append(f"agreed on {value:g}")
        return value

    clock = RankClock(Clock(1.0), highest)
    clock.time(lambda: None, 1)
    assert events == ["agreed on 0", "agreed on 0", "timed", "agreed on 1"]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
def test_the_gates_shards_cover_the_sequence_and_are_uneven(ranks: int) -> None:
    lengths = gate.uneven_lengths(max(64, gate.PER_RANK * ranks), ranks)
    assert sum(lengths) == max(64, gate.PER_RANK * ranks)
    assert min(lengths) >= 1
    assert len(lengths) == ranks
    assert ranks == 1 or len(set(lengths)) > 1


def test_the_worst_rank_decides_at_the_gate() -> None:
    nan = float("nan")
    fine, off, lost = GateError(1.0, 1e-9), GateError(2.0, 1e-2), GateError(nan, nan)
    assert gate.worst([fine, fine]).failure("float32") is None
    assert "0.01" in (gate.worst([fine, off]).failure("float32") or "")
    assert "nan" in (gate.worst([off, lost, fine]).failure("float32") or "")
    assert gate.worst([fine, GateError(broken="it is None")]).failure("float32") == "rank 1: it is None"


def test_what_is_told_of_memory_is_the_most_of_any_rank() -> None:
    ranks: list[dict[str, Any]] = [
        {"peak": 1, "rss": None, "warnings": ("a",)},
        {"peak": 3, "rss": None, "warnings": ("a", "b")},
    ]
    assert most_of(ranks) == {"peak": 3, "rss": None, "warnings": ("a", "b")}


def test_a_rank_is_refused_by_its_own_share_of_memory() -> None:
    case = replace(EA, seq_len=2**20, dim=1024, ranks=2)  # 2 GiB of each of q, k and v on either rank
    refused = Predictor(16 * GIBIBYTE, 0, 4 * GIBIBYTE).verdict(case)
    assert refused is not None
    assert "--memory-limit allows each rank 4.00 GiB" in refused.reason
    assert Predictor(16 * GIBIBYTE, 0, 15 * GIBIBYTE).verdict(case) is None
