"""Energy counters are read once each, followed when they wrap around, and doubted when they jump."""

from __future__ import annotations

from pathlib import Path

import pytest

from elattn_bench import energy
from elattn_bench.energy import Counter


def rapl(powercap: Path, domain: str, name: str, microjoules: int) -> None:
    directory = powercap / domain
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "name").write_text(name + "\n")
    (directory / "energy_uj").write_text(f"{microjoules}\n")
    (directory / "max_energy_range_uj").write_text("100000000\n")


def test_rapl_counts_packages_and_their_memory_once(tmp_path: Path) -> None:
    for domain, name in [
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:0:1", "dram"),
        ("intel-rapl:1", "psys"),
        ("intel-rapl-mmio:0", "package-0"),
    ]:
        rapl(tmp_path, domain, name, 1_000_000)
    before = energy.cpu_counters(tmp_path)
    assert sorted(before) == ["intel-rapl:0", "intel-rapl:0:1"]
    rapl(tmp_path, "intel-rapl:0", "package-0", 4_000_000)
    rapl(tmp_path, "intel-rapl:0:1", "dram", 1_500_000)
    assert energy.used(before, energy.cpu_counters(tmp_path)) == pytest.approx(3.5)


def test_a_counter_that_wrapped_around_is_followed(tmp_path: Path) -> None:
    rapl(tmp_path, "intel-rapl:0", "package-0", 99_000_000)
    before = energy.cpu_counters(tmp_path)
    rapl(tmp_path, "intel-rapl:0", "package-0", 2_000_000)
    assert energy.used(before, energy.cpu_counters(tmp_path)) == pytest.approx(3.0)


def test_counters_that_may_not_be_read_or_are_not_there_give_no_energy(tmp_path: Path) -> None:
    assert energy.cpu_counters(tmp_path / "nothing") == {}
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0" / "name").write_text("package-0\n")  # and its energy is kept from us
    assert energy.cpu_counters(tmp_path) == {}
    assert energy.used({}, {}) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [({"a": Counter(1.0)}, {"b": Counter(2.0)}), ({"a": Counter(2.0)}, {"a": Counter(1.0)})],
    ids=["another counter", "set back, with no known end"],
)
def test_counters_that_cannot_be_compared_give_no_energy(
    before: energy.Counters, after: energy.Counters
) -> None:
    assert energy.used(before, after) is None
