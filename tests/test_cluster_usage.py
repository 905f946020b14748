"""What a sweep over a cluster refuses before it begins, and where its plan is made. No Ray."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from elattn_bench import config
from elattn_bench.cluster import door, planning, records, runner
from elattn_bench.cluster.slots import Slot
from elattn_bench.commands import sweep
from elattn_bench.config import Plan
from elattn_bench.errors import UsageError


def settings(**flags: str) -> dict[str, Any]:
    return config.merge({}, {"impl": "softmax", "seq-len": "64", "dim": "64", "mode": "forward", **flags})


class TestRefusals:
    def test_without_ray_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(UsageError, match=r"pip install 'elattn-bench\[ray\]'"), door.joined("auto"):
            pass

    def test_a_spread_sequence_is_started_by_torchrun(self) -> None:
        grid = {**settings(), "grid": [{"ranks": "1,2"}]}
        for given in (settings(ranks="1,2"), grid):
            with pytest.raises(UsageError, match="--ranks 1,2.*torchrun"), runner.planned(given, "auto"):
                pass

    @pytest.mark.parametrize(
        ("address", "message"),
        [
            ("ray://head:10001", "ray job submit"),
            ("head", "write host:port, or auto"),
            ("localhost:1", "no Ray cluster answers there"),
        ],
    )
    def test_an_address_where_nothing_can_answer(self, address: str, message: str) -> None:
        pytest.importorskip("ray", reason="Ray has no build for this machine")
        with pytest.raises(UsageError, match=message), door.joined(address):
            pass

    def test_a_type_of_device_is_of_a_cluster(self) -> None:
        words: dict[str, Any] = {"launcher": "local", "address": None, "resume": False, "force": False}
        with pytest.raises(UsageError, match="--device-type H100.*add --launcher ray"):
            sweep.sweep(None, {"device-type": "H100"}, None, **words, dry_run=True, strict=False)


def node(host: str, **resources: float) -> dict[str, Any]:
    named = {name.replace("__", ":"): amount for name, amount in resources.items()}
    return {"NodeID": host, "NodeManagerHostname": host, "Resources": named, "Labels": {}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Hosts that were asked for a plan; theirs have the backend 'flash'."""
    monkeypatch.setattr(planning, "ARRIVAL", 0.0)
    hosts: list[str] = []

    def plan_on(slot: Slot, given: Mapping[str, Any]) -> Plan:
        hosts.append(slot.host)
        return config.make_plan({**given, "device": "cpu", "impl": "softmax/flash"})

    monkeypatch.setattr(door, "plan_on", plan_on)
    return hosts


def planned(monkeypatch: pytest.MonkeyPatch, nodes: Sequence[Mapping[str, Any]], **flags: str) -> Plan:
    monkeypatch.setattr(door, "living_nodes", lambda: list(nodes))
    return planning.plan_where_the_devices_are(settings(**flags), "head:6379")


H100 = node("h", GPU=1, accelerator_type__H100=1)
A100 = node("a", GPU=1, accelerator_type__A100=1)
CPU = node("c", elattn_host=1)


class TestPlanning:
    def test_auto_is_the_gpu_where_the_cluster_has_one(
        self, monkeypatch: pytest.MonkeyPatch, asked: list[str]
    ) -> None:
        assert {case.backend for case in planned(monkeypatch, [CPU, H100]).cases} == {"flash"}
        assert asked == ["h"]
        assert {case.device for case in planned(monkeypatch, [CPU]).cases} == {"cpu"}
        assert asked == ["h"]

    def test_each_type_is_planned_on_a_node_of_its_own(
        self, monkeypatch: pytest.MonkeyPatch, asked: list[str]
    ) -> None:
        plan = planned(monkeypatch, [CPU, A100, H100], **{"device-type": "h100,A100,cpu"})
        assert asked == ["h", "a"]
        assert [(case.device_type, case.backend) for case in plan.cases] == [
            ("h100", "flash"),
            ("A100", "flash"),
            ("cpu", "sdpa"),
        ]
        assert plan.settings["device"] == "auto"

    def test_a_type_that_the_cluster_lacks_is_named_beside_those_it_has(
        self, monkeypatch: pytest.MonkeyPatch, asked: list[str]
    ) -> None:
        with pytest.raises(UsageError, match="--device-type V100: .*it has A100, cpu"):
            planned(monkeypatch, [A100, CPU], **{"device-type": "V100"})

    def test_without_a_device_it_says_what_to_type(
        self, monkeypatch: pytest.MonkeyPatch, asked: list[str]
    ) -> None:
        with pytest.raises(
            UsageError, match="ray start --address=head:6379 --resources='{\"elattn_host\": 1}'"
        ):
            planned(monkeypatch, [node("bare")])

    def test_gpus_alone_do_not_measure_on_a_cpu(
        self, monkeypatch: pytest.MonkeyPatch, asked: list[str]
    ) -> None:
        with pytest.raises(UsageError, match="elattn_host"):
            planned(monkeypatch, [H100], device="cpu")


class TestAgreement:
    one, two = {"device_name": "one", "torch": "2.9"}, {"device_name": "two", "torch": "2.9"}

    def info(self) -> dict[str, Any]:
        node = {"environment": self.two, "device_name": "two", "ceilings": {"dram_bytes_per_s": 1e9}}
        return {"environment": self.one, "nodes": [node]}

    def test_any_machine_like_one_of_the_runs_nodes_may_complete_it(self) -> None:
        assert records.differing(self.info(), self.one) == []
        assert records.differing(self.info(), self.two) == []
        other = {"device_name": "three", "torch": "2.9"}
        assert records.differing(self.info(), other) == ["device_name: one there, three here"]

    def test_a_resumed_run_keeps_its_flags_so_threads_are_set_where_nodes_start(self) -> None:
        differing = ["threads: 2 there, 1 here"]
        assert "--threads N" in records.mending(differing)
        assert records.mending(differing, resumes=True) == "start all nodes with the same OMP_NUM_THREADS"

    def test_its_rows_name_its_device_and_follow_its_ceilings(self) -> None:
        assert records.place_of(self.info(), self.one) is None
        place = records.place_of(self.info(), self.two)
        assert place is not None
        assert (place.device_name, place.ceilings.dram_bytes_per_s) == ("two", 1e9)
