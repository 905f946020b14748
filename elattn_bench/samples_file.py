"""samples.jsonl: the raw samples, one line per visit to a case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from elattn_bench.errors import RunDirError
from elattn_bench.units import Milliseconds
from elattn_bench.visits import Visit


def read_samples(path: Path) -> dict[str, list[Milliseconds]]:
    """Raw samples by case_id, of all visits; a half-written last line is left out."""
    return {
        case_id: [sample for visit in visits for sample in visit.latency_ms]
        for case_id, visits in read_visits(path).items()
    }


def read_visits(path: Path) -> dict[str, list[Visit]]:
    """The visits to each case, in the order made; a half-written last line is left out.

    Raises:
        RunDirError: a line in between is broken.
    """
    visits: dict[str, list[Visit]] = {}
    if path.is_file():
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.endswith(b"\n"):
                    case_id, visit = _parse(path, number, line)
                    visits.setdefault(case_id, []).append(visit)
    return visits


def _parse(path: Path, number: int, line: bytes) -> tuple[str, Visit]:
    try:
        record = json.loads(line)
        return record["case_id"], Visit.from_json(record)
    except (ValueError, KeyError, TypeError):  # of bytes that are no text, too
        raise RunDirError(
            f"{path}: line {number} is broken; delete the line, or the file: verdicts then use the intervals of "
            "results.csv"
        ) from None


def text_of_visits(visits: Mapping[str, Sequence[Visit]]) -> str:
    """The lines of the visits."""
    return "".join(
        json.dumps(visit.to_json(case_id)) + "\n" for case_id, each in visits.items() for visit in each
    )
