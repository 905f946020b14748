"""Which case goes where: types of device, visits, lost nodes; and the loop over a crew without Ray."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import made_up
import pytest
from fake_cluster import GONE, FakeCrew, Office, introduction, slot

from elattn_bench import control
from elattn_bench.cases import Case
from elattn_bench.cluster import records
from elattn_bench.cluster.crew import Lost, Refused
from elattn_bench.cluster.queue import MOST_LOSSES, Home, Queue, Station
from elattn_bench.cluster.slots import Slot, names_of, slots_of
from elattn_bench.errors import RunDirError
from elattn_bench.tables.nodes import nodes_report

CASES = [made_up.case(seq_len=2**power) for power in range(6, 14)]
CONTROL = control.CASES["cpu"]


def node(node_id: str, host: str, labels: dict[str, str] | None = None, **resources: float) -> dict[str, Any]:
    named = {name.replace("__", ":"): amount for name, amount in resources.items()}
    return {"NodeID": node_id, "NodeManagerHostname": host, "Resources": named, "Labels": labels or {}}


class TestSlots:
    def test_a_cpu_measures_only_where_the_host_was_offered(self) -> None:
        nodes = [node("a", "one", elattn_host=1, CPU=8), node("b", "two", CPU=8)]
        assert [each.host for each in slots_of(nodes, names_of(nodes, {}), ["cpu"])] == ["one"]

    def test_every_gpu_is_a_device_and_the_cpu_beside_it_rests(self) -> None:
        nodes = [node("a", "one", elattn_host=1, GPU=2, accelerator_type__H100=1)]
        found = slots_of(nodes, names_of(nodes, {}), ["cpu", "cuda"])
        assert [each.name for each in found] == ["one:0", "one:1"]
        assert all(each.is_a("h100") and not each.is_a("A100") and not each.is_a("cpu") for each in found)

    def test_a_label_or_the_models_name_says_the_type_as_well(self) -> None:
        labelled = [node("a", "one", {"ray.io/accelerator-type": "A100"}, GPU=1)]
        (found,) = slots_of(labelled, names_of(labelled, {}), ["cuda"])
        assert found.is_a("a100")
        assert found.is_a("L40", device_name="NVIDIA L40S")

    def test_two_nodes_of_one_hostname_are_told_apart_and_keep_their_names(self) -> None:
        nodes = [node("aaaaaaaaa", "one"), node("bbbbbbbbb", "one")]
        names = names_of(nodes, {})
        assert names == {"aaaaaaaaa": "one", "bbbbbbbbb": "one#bbbbbb"}
        assert names_of(nodes[1:], names) == {"bbbbbbbbb": "one#bbbbbb"}
        assert names_of([node("c", "one"), nodes[0]], {"aaaaaaaaa": "one"})["c"] == "one#c"


class TestQueue:
    one, two = Station(slot("one"), "CPU"), Station(slot("two"), "CPU")
    other = Station(slot("three"), "another CPU")

    def test_cases_come_in_order(self) -> None:
        queue = Queue(list(CASES))
        taken = [queue.take(station, [self.one, self.two]) for station in (self.one, self.two)]
        assert taken == CASES[:2]

    def test_a_case_of_a_type_waits_for_a_device_of_that_type(self) -> None:
        h100 = Station(slot("gpu", "cuda", ("H100",)), "NVIDIA H100")
        a100 = Station(slot("gpu2", "cuda", ("A100",)), "NVIDIA A100")
        case = made_up.case(device="cuda", device_type="H100")
        queue = Queue([case])
        assert queue.take(self.one, [self.one]) is None
        assert queue.take(a100, [a100]) is None
        assert not queue.fitting([self.one, a100])
        assert queue.take(h100, [h100]) == case

    def test_a_lost_case_comes_next_and_goes_to_anybody(self) -> None:
        queue = Queue(list(CASES))
        queue.take(self.one, [self.one, self.two])
        assert queue.lose(self.one.slot) == (CASES[0], True)
        assert queue.take(self.two, [self.two]) == CASES[0]

    def test_a_case_that_loses_its_node_again_and_again_is_given_up(self) -> None:
        queue = Queue(CASES[:1])
        for _ in range(MOST_LOSSES - 1):
            queue.take(self.one, [self.one])
            assert queue.lose(self.one.slot)[1]
        queue.take(self.one, [self.one])
        assert not queue.lose(self.one.slot)[1]

    def test_further_visits_are_made_where_the_first_was(self) -> None:
        queue, both = Queue([CASES[0], CASES[0]]), [self.one, self.two]
        queue.take(self.one, both)
        queue.finish(self.one.slot)
        assert queue.take(self.two, both) is None
        assert queue.take(self.one, both) == CASES[0]

    def test_where_the_first_host_is_gone_another_of_the_same_model_goes_on(self) -> None:
        queue = Queue([CASES[0], CASES[0]])
        queue.take(self.one, [self.one])
        queue.finish(self.one.slot)
        assert queue.take(self.other, [self.other]) is None
        assert queue.take(self.two, [self.two, self.other]) == CASES[0]

    def test_a_resumed_case_goes_back_to_its_host_by_name(self) -> None:
        queue = Queue(CASES[:1], homes={CASES[0].case_id: Home("two", "CPU")})
        both = [self.one, self.two]
        assert queue.take(self.one, both) is None
        assert queue.take(self.two, both) == CASES[0]

    def test_a_case_that_needs_no_visit_any_more_is_dropped(self) -> None:
        queue = Queue([CASES[0], CASES[0]], is_wanted=lambda case: False)
        queue.take(self.one, [self.one])
        queue.finish(self.one.slot)
        assert not queue.pending


def dies(host: str, times: int, what: Lost = GONE) -> Any:
    """A node that dies with its first cases, so many times."""
    deaths: Counter[str] = Counter()

    def answer(at: Slot, case: Case) -> Any:
        if at.host == host and case != CONTROL and deaths[host] < times:
            deaths[host] += 1
            return what
        return made_up.measured(1.0)

    return answer


def with_threads(threads: int, device_name: str = "Made-up CPU 9000") -> dict[str, Any]:
    """What a node says of itself that would measure with so many threads."""
    said = introduction(device_name)
    return {**said, "environment": {**said["environment"], "threads": threads}}


class TestForeman:
    def test_all_nodes_work_and_every_case_is_there_once(self, tmp_path: Path) -> None:
        office = Office.over(FakeCrew([slot("one"), slot("two")]), tmp_path / "run")
        office.measure(CASES)
        assert sorted(office.hosts) == sorted(case.case_id for case in CASES)
        assert set(office.hosts.values()) == {"one", "two"}
        assert Counter(case for _, case in office.crew.sent if case != CONTROL) == Counter(CASES)

    def test_the_control_case_comes_first_and_last_on_every_node(self, tmp_path: Path) -> None:
        office = Office.over(FakeCrew([slot("one"), slot("two")]), tmp_path / "run")
        office.measure(CASES)
        for host in ("one", "two"):
            at_host = [case for at, case in office.crew.sent if at.host == host]
            assert at_host[0] == at_host[-1] == CONTROL
        for each in office.run_dir.info[records.NODES]:
            assert [visit["at"] for visit in each["control"]["visits"]] == ["start", "middle", "end"]
        assert sum(each["cases"] for each in office.run_dir.info[records.NODES]) == len(CASES)

    @pytest.mark.parametrize("times", [1, 2])
    def test_a_node_that_dies_loses_no_case_and_doubles_none(self, tmp_path: Path, times: int) -> None:
        crew = FakeCrew([slot("one"), slot("two")], dies("two", times))
        office = Office.over(crew, tmp_path / "run")
        office.measure(CASES)
        assert sorted(office.hosts) == sorted(case.case_id for case in CASES)
        assert set(office.hosts.values()) == {"one"}
        assert any("two was lost" in warning for warning in office.warnings)

    def test_a_node_whose_process_alone_died_gets_a_new_one(self, tmp_path: Path) -> None:
        crew = FakeCrew([slot("one")], dies("one", 1, Lost("killed")))
        office = Office.over(crew, tmp_path / "run")
        office.measure(CASES)
        assert len(office.hosts) == len(CASES)
        assert crew.hired == [slot("one")] * 2

    def test_a_case_that_ends_its_nodes_becomes_a_row_that_says_so(self, tmp_path: Path) -> None:
        def answer(at: Slot, case: Case) -> Any:
            return Lost("killed") if case == CASES[3] else made_up.measured(1.0)

        office = Office.over(FakeCrew([slot("one"), slot("two")], answer), tmp_path / "run")
        office.measure(CASES)
        rows = office.run_dir.done
        assert len(rows) == len(CASES)
        assert rows[CASES[3].case_id].reason == "lost its node 3 times, the last time: killed"
        assert all(row.ok for case_id, row in rows.items() if case_id != CASES[3].case_id)

    def test_visits_to_a_case_are_made_on_one_node(self, tmp_path: Path) -> None:
        office = Office.over(FakeCrew([slot("one"), slot("two")]), tmp_path / "run")
        office.measure(CASES, visits=3)
        where = {(case.case_id, at.host) for at, case in office.crew.sent if case != CONTROL}
        assert len(where) == len(CASES)
        assert {row.visits for row in office.run_dir.done.values()} == {3}
        assert sum(each["cases"] for each in office.run_dir.info[records.NODES]) == len(CASES)

    def test_what_ran_out_of_memory_is_not_tried_on_another_node_of_the_kind(self, tmp_path: Path) -> None:
        def answer(at: Slot, case: Case) -> Any:
            return made_up.OOM if case == CASES[0] else made_up.measured(1.0)

        office = Office.over(FakeCrew([slot("one")], answer), tmp_path / "run")
        office.measure(CASES)
        assert [row.status for row in office.run_dir.done.values()] == ["oom"] + ["predicted_oom"] * 7
        assert {case for _, case in office.crew.sent} == {CONTROL, CASES[0]}

    def test_a_node_of_another_version_is_refused_with_a_sentence(self, tmp_path: Path) -> None:
        crew = FakeCrew([slot("old"), slot("one")], said={"old": {"elattn_bench": "0.0.1"}})
        office = Office.over(crew, tmp_path / "run")
        office.measure(CASES)
        assert set(office.hosts.values()) == {"one"}
        assert any(
            warning.startswith("old is not used: elattn-bench 0.0.1 is") for warning in office.warnings
        )

    def test_nodes_set_up_unlike_the_first_with_such_a_device_are_not_used(self, tmp_path: Path) -> None:
        crew = FakeCrew([slot("one"), slot("two"), slot("three")], said={"two": with_threads(1)})
        office = Office.over(crew, tmp_path / "run")
        office.measure(CASES)
        assert set(office.hosts.values()) == {"one", "three"}
        (warning,) = office.warnings
        assert warning.startswith("two is not used: ")
        assert "threads: 2 on one, 1 on two" in warning
        assert "--threads N" in warning
        assert "OMP_NUM_THREADS" in warning

    def test_nodes_of_another_device_may_be_set_up_otherwise(self, tmp_path: Path) -> None:
        said = {"two": with_threads(1, "Another CPU")}
        office = Office.over(FakeCrew([slot("one"), slot("two")], said=said), tmp_path / "run")
        office.measure(CASES)
        assert set(office.hosts.values()) == {"one", "two"}
        assert not office.warnings

    def test_a_device_that_another_job_holds_is_waited_for_aloud_and_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("elattn_bench.cluster.foreman.LOOK", 0.0)
        monkeypatch.setattr("elattn_bench.cluster.foreman.STARTED", 0.0)
        crew = FakeCrew([slot("one"), slot("two")], busy={slot("two")})
        office = Office.over(crew, tmp_path / "run")
        office.measure(CASES)
        assert set(office.hosts.values()) == {"one"}
        (warning,) = office.warnings
        assert warning.startswith("waiting for two: most likely another job holds")

    def test_a_process_that_died_goes_on_with_its_devices_entry(self, tmp_path: Path) -> None:
        office = Office.over(FakeCrew([slot("one")], dies("one", 1, Lost("killed"))), tmp_path / "run")
        office.measure(CASES)
        (entry,) = office.run_dir.info[records.NODES]
        assert entry["cases"] == len(CASES)
        assert len(office.run_dir.info["control"]["sessions"]) == 1

    def test_a_resumed_run_uses_machines_like_its_own_alone(self, tmp_path: Path) -> None:
        crew = FakeCrew([slot("one"), slot("two")], said={"two": introduction("Another CPU")})
        office = Office.over(crew, tmp_path / "run")
        office.measure(CASES, allowed=lambda here: records.differing(office.run_dir.info, here))
        assert set(office.hosts.values()) == {"one"}
        assert any("two is not used: device_name" in warning for warning in office.warnings)

    def test_without_a_usable_node_it_ends_with_what_to_type(self, tmp_path: Path) -> None:
        office = Office.over(FakeCrew([slot("one")], said={"one": Refused("no torch")}), tmp_path / "run")
        with pytest.raises(RunDirError, match="none of the cluster's 1 devices can be used.*--resume"):
            office.measure(CASES)
        assert office.warnings == ["one is not used: no torch"]

    def test_when_the_last_node_has_gone_it_waits_then_says_how_to_go_on(self, tmp_path: Path) -> None:
        crew = FakeCrew([slot("one")], dies("one", 1))
        office = Office.over(crew, tmp_path / "run")
        with pytest.raises(RunDirError, match="no node could take a case.*elattn-bench sweep --resume"):
            office.measure(CASES)
        assert any("waiting up to" in warning for warning in office.warnings)

    def test_a_node_that_joins_is_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("elattn_bench.cluster.foreman.LOOK", 0.0)
        crew = FakeCrew([slot("one")])

        def answer(at: Slot, case: Case) -> Any:
            if case == CASES[0]:
                crew.present.append(slot("two"))
            return made_up.measured(1.0)

        crew.answer = answer
        office = Office.over(crew, tmp_path / "run")
        office.measure(CASES)
        assert set(office.hosts.values()) == {"one", "two"}


class TestNodes:
    def record(
        self, host: str, control_ms: float, device_name: str = "CPU", session: int = 1
    ) -> dict[str, Any]:
        visit = {"at": "start", "status": "ok", "latency_ms_p50": control_ms}
        return {
            "host": host, "node_id": host, "device_number": 0, "device_name": device_name, "cases": 1,
            "session": session,
            "control": {"visits": [visit], "drift": None},
        }  # fmt: skip

    def test_nodes_of_one_model_that_differ_are_warned_of(self) -> None:
        alike = [self.record("one", 10.0), self.record("two", 10.4)]
        assert records.warning(alike) is None
        warning = records.warning([*alike, self.record("three", 12.0)])
        assert warning is not None
        assert "on three the control case took 20% longer" in warning

    def test_nodes_of_different_models_are_not_compared(self) -> None:
        nodes = [self.record("one", 10.0), self.record("two", 20.0, "another CPU")]
        assert records.relative(nodes) == [1.0, 1.0]
        assert records.warning(nodes) is None

    def test_a_host_is_not_compared_with_itself_in_another_session(self) -> None:
        nodes = [self.record("one", 10.0), self.record("one", 14.0, session=2)]
        assert records.relative(nodes) == [1.0, 1.0]
        (table,) = nodes_report(nodes).tables
        assert [column.title for column in table.columns][:2] == ["session", "host"]
        assert [row[:2] for row in table.rows] == [["1", "one"], ["2", "one"]]

    def test_a_new_session_gives_the_nodes_the_cases_that_a_killed_one_did_not_note(self) -> None:
        info = {records.NODES: [self.record("one", 10.0), self.record("two", 10.0)]}
        assert records.begin_session(info, ["one", "one", "two", ""]) == 2
        assert [node["cases"] for node in info[records.NODES]] == [2, 1]

    def test_the_table_has_a_line_per_device(self) -> None:
        nodes = [self.record("one", 10.0), self.record("two", 12.0)]
        (table,) = nodes_report(nodes).tables
        assert [row[:5] for row in table.rows] == [
            ["one", "CPU", "1", "10.0 ms", "1.00x"],
            ["two", "CPU", "1", "12.0 ms", "1.20x"],
        ]
