"""samples.jsonl: the raw samples, one line per visit to a case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from elattn_bench.units import Milliseconds
from elattn_bench.visits import Visit


def read_samples(path: Path) -> dict[str, list[Milliseconds]]:
    """Raw samples by case_id, of all visits; a half-written last line is left out."""
    return {
        case_id: [sample for visit in visits for sample in visit.latency_ms]
        for case_id, visits in read_visits(path).items()
    }


def read_visits(path: Path) -> dict[str, list[Visit]]:
    """The visits to each case, in the order made; a half-written last line is left out."""
    visits: dict[str, list[Visit]] = {}
    if path.is_file():
        with path.open(encoding="utf-8") as stream:
            for record in (json.loads(line) for line in stream if line.endswith("\n")):
                visits.setdefault(record["case_id"], []).append(Visit.from_json(record))
    return visits


def text_of_visits(visits: Mapping[str, Sequence[Visit]]) -> str:
    """The lines of the visits."""
    return "".join(
        json.dumps(visit.to_json(case_id)) + "\n" for case_id, each in visits.items() for visit in each
    )
