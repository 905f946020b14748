"""How long collectives take, measured once for each number of ranks of a run, and kept in run.json. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from elattn_bench.cases import Case
from elattn_bench.ranks.group import RankGroup
from elattn_bench.results import Skipped
from elattn_bench.rundir import RunDir

FOUND = "collectives"
MISSING = "collectives_missing"


def measure(pending: Sequence[Case], run_dir: RunDir, group: RankGroup, note: Callable[[str], None]) -> None:
    """Measure those that the run does not have yet; what fails is recorded, for cases can do without."""
    info = run_dir.info
    known = {entry["ranks"] for entry in info.get(FOUND, ())}
    wanted = {case.ranks for case in pending if case.ranks and case.ranks > 1 and group.has(case.ranks)}
    for ranks in sorted(wanted - known):
        note(f"collectives, {ranks} ranks")
        found = group.collectives(ranks)
        if isinstance(found, Skipped):
            info.setdefault(MISSING, {})[str(ranks)] = found.reason
        else:
            info.setdefault(FOUND, []).extend(found)
            info.get(MISSING, {}).pop(str(ranks), None)
        run_dir.write_info()
