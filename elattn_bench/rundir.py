"""The run directory: rows, samples, run.json and what is made of them. Each row is on disk before the next case."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock

from elattn_bench import locking
from elattn_bench.cases import Case
from elattn_bench.disk import append_whole, cut_half_line, disk_errors, replace_whole
from elattn_bench.errors import RunDirError
from elattn_bench.rescue import Presence, places
from elattn_bench.results import COLUMNS, WARNING_SEPARATOR, Measurement, Outcome, Place, Row, make_row
from elattn_bench.results_file import check_same_columns, line_of, read_rows, text_of
from elattn_bench.roofline import Ceilings
from elattn_bench.samples_file import read_visits, text_of_visits
from elattn_bench.units import Seconds
from elattn_bench.visits import Visit, combined

RESULTS = "results.csv"
SAMPLES = "samples.jsonl"
RUN_INFO = "run.json"
QUALITY = "quality.csv"  # of a quality run
PLOTS = "plots"
REPORT = "report.html"
ERRORS = "errors.log"
SCRATCH = "run.json.new"
OURS = (RESULTS, SAMPLES, RUN_INFO, PLOTS, REPORT, ERRORS, locking.LOCK, SCRATCH)


@dataclass(frozen=True, slots=True)
class Run:
    """A run as read from disk, for analysis.

    Args:
        path: its directory.
        info: run.json: argv, config, environment, ceilings.
        rows: results.csv, in the order measured.
        warnings: what a reader should know, for example a half-written last line that was left out.
    """

    path: Path
    info: Mapping[str, Any]
    rows: Sequence[Row]
    warnings: Sequence[str] = ()

    @property
    def name(self) -> str:
        """The directory's own name."""
        return self.path.resolve().name

    def samples(self) -> dict[str, list[Visit]]:
        """The raw samples by case id, read from disk at every call; empty where there are none."""
        return read_visits(self.path / SAMPLES)

    @property
    def device_name(self) -> str:
        """The measured device, for people: the GPU's or the CPU's model."""
        environment = self.info.get("environment", {})
        return str(environment.get("device_name") or environment.get("cpu_model") or "unknown device")


def read_run(path: Path) -> Run:
    """The run in the directory.

    Raises:
        RunDirError: it is missing, empty, not ours, broken, or written by a newer version.
    """
    if path.is_file():
        raise RunDirError(f"{path}: is a file; name the run directory that holds it: {path.parent}")
    if not path.is_dir():
        raise RunDirError(f"{path}: no such run directory; make one with: elattn-bench sweep -o {path}")
    if not (path / RESULTS).is_file():
        hint = (
            f"; it is a quality run: elattn-bench quality report {path}" if (path / QUALITY).is_file() else ""
        )
        raise RunDirError(f"{path}: holds no {RESULTS}, so it is not a run directory of a sweep{hint}")
    rows, warnings = read_rows(path / RESULTS)
    if not rows:
        raise RunDirError(f"{path / RESULTS}: no case is measured yet; go on with: {resume_command(path)}")
    return Run(path, read_info(path), rows, warnings)


def check_vacant(path: Path, *, force: bool, locked: bool = False) -> None:
    """Refuse a place for a new run that holds a run (unless ``force``) or anything that is not ours.

    Args:
        locked: whether the caller holds the directory's lock.

    Raises:
        RunDirError: with what to do instead.
    """
    if path.exists() and not path.is_dir():
        raise RunDirError(f"{path}: is a file; choose another directory with -o")
    if not path.is_dir():
        return
    if foreign := sorted(entry.name for entry in path.iterdir() if entry.name not in OURS):
        raise RunDirError(
            f"{path}: already exists and holds other files ({', '.join(foreign[:3])}), which a sweep will not "
            "touch; choose another directory with -o"
        )
    if _has_rows(path) and not force:
        if not locked and locking.is_locked(path):
            raise locking.in_use(path)
        raise RunDirError(
            f"{path}: already exists and holds a run; complete it with --resume ({resume_command(path)}), "
            "replace it with --force, or choose another directory with -o"
        )


def _has_rows(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return (path / RESULTS).read_bytes().count(b"\n") > 1
    return False


def resume_command(path: Path) -> str:
    """What to type to complete the run."""
    return f"elattn-bench sweep --resume -o {path}"


def read_info(path: Path) -> dict[str, Any]:
    """run.json of the run directory; empty where there is none.

    Raises:
        RunDirError: it is not a JSON object.
    """
    try:
        info = json.loads((path / RUN_INFO).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunDirError(f"{path / RUN_INFO}: is not JSON ({error})") from None
    if not isinstance(info, dict):
        raise RunDirError(f"{path / RUN_INFO}: holds no JSON object, so it is not ours")
    return info


@dataclass
class RunDir:
    """An open run directory: one writer at a time, rows appended and synced one by one.

    Make one with ``create`` or ``resume``; use it as a context manager.

    here: where cases are measured unless told otherwise; None: on the machine that run.json describes.
    """

    path: Path
    info: dict[str, Any]
    done: dict[str, Row] = field(default_factory=dict)
    visits: dict[str, list[Visit]] = field(default_factory=dict)
    here: Place | None = None
    _lock: FileLock | None = None
    _presence: Presence | None = None

    @classmethod
    def create(cls, path: Path, info: Mapping[str, Any], *, force: bool = False) -> RunDir:
        """A new run directory, empty.

        Raises:
            RunDirError: it exists and ``force`` is off, another sweep writes to it, or the disk refuses.
        """
        check_vacant(path, force=force)
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        run_dir = cls(path, dict(info), _lock=locking.acquire(path))
        try:
            check_vacant(path, force=force, locked=True)  # again, now that nobody else can fill it
            with disk_errors(path):
                run_dir._clear()
                run_dir._write_header()
            run_dir.write_info()
            run_dir._watch()
        except BaseException:
            run_dir.close()
            raise
        return run_dir

    @classmethod
    def resume(cls, path: Path) -> RunDir:
        """The run directory as an earlier sweep left it; half-written last lines are cut off.

        Raises:
            RunDirError: there is none, another sweep writes to it, or it is broken.
        """
        if not (path / RUN_INFO).is_file() or not (path / RESULTS).is_file():
            raise RunDirError(f"{path}: there is no run to resume; start it without --resume")
        lock = locking.acquire(path)
        try:
            with disk_errors(path):
                for name in (RESULTS, SAMPLES):
                    cut_half_line(path / name)
            run_dir = cls(path, read_info(path), _lock=lock)
            check_same_columns(path / RESULTS)
            if (path / RESULTS).stat().st_size == 0:
                run_dir._write_header()
            run_dir.done = {row.case_id: row for row in read_rows(path / RESULTS)[0]}
            run_dir._recover_visits()
            run_dir._watch()
        except BaseException:
            lock.release()
            raise
        return run_dir

    @property
    def ceilings(self) -> Ceilings:
        """What the device was measured to reach."""
        return Ceilings.from_json(self.info.get("ceilings", {}))

    @property
    def place(self) -> Place:
        """Where cases are measured: this machine if that is known, else the one that run.json describes."""
        if self.here is not None:
            return self.here
        name = self.info.get("environment", {}).get("device_name", "")
        return Place(device_name=str(name), ceilings=self.ceilings)

    def append(
        self, case: Case, outcome: Outcome, case_s: Seconds | None = None, place: Place | None = None
    ) -> Row:
        """Put the case's outcome on disk, whole or not at all, and return its row.

        Args:
            case_s: how long the case took as a whole.
            place: where it was measured, if not on the machine that run.json describes.

        Raises:
            RunDirError: the disk refuses, for example because it is full; or the directory has gone, and
                the message says where its rows are now.
        """
        earlier, place = self.done.get(case.case_id), place or self.place
        if earlier is not None and earlier.ok:
            return self._revisit(case, earlier, outcome, case_s or 0.0, place)
        row = make_row(case, outcome, place, case_s)
        with self._present(row):
            self._keep_raw(row.case_id, outcome)
            self._append_line(RESULTS, line_of(row))
        self.done[row.case_id] = row
        return row

    def remaining(self, case_id: str, wanted: int) -> int:
        """How many of the wanted visits the case still needs: none where it failed, or its samples are lost."""
        row = self.done.get(case_id)
        if row is None:
            return wanted
        made = len(self.visits.get(case_id, ()))
        return max(0, wanted - made) if row.ok and made == row.visits else 0

    def _revisit(self, case: Case, earlier: Row, outcome: Outcome, case_s: Seconds, place: Place) -> Row:
        """The case's row with one more visit; one that failed leaves a warning."""
        with self._present():
            self._keep_raw(earlier.case_id, outcome)
            if isinstance(outcome, Measurement):
                whole = combined(earlier, self.visits[earlier.case_id], outcome)
                row = make_row(case, whole, place, (earlier.case_s or 0.0) + case_s)
            else:
                failed = f"visit: one failed with {outcome.status}: {outcome.reason}"
                warnings = WARNING_SEPARATOR.join(filter(None, (earlier.warnings, failed)))
                row = replace(earlier, warnings=warnings)
            self.done[row.case_id] = row
            self._replace_results()
        return row

    def _keep_raw(self, case_id: str, outcome: Outcome) -> None:
        """Samples or traceback, before the row that follows from them."""
        if isinstance(outcome, Measurement):
            visit = Visit.of(outcome)
            self._append_line(SAMPLES, text_of_visits({case_id: [visit]}))
            self.visits.setdefault(case_id, []).append(visit)
        elif outcome.details:
            self._append_line(ERRORS, f"{case_id}\n{outcome.details.rstrip()}\n\n")

    def _recover_visits(self) -> None:
        """The visits on disk; what a crash left behind without its row is forgotten, on disk too."""
        found = read_visits(self.path / SAMPLES)
        for case_id, row in self.done.items():
            if case_id in found:
                self.visits[case_id] = found[case_id][: row.visits]
        if self.visits != found:
            text = text_of_visits(self.visits)
            replace_whole(self.path / SAMPLES, self.path / SCRATCH, text)

    def _replace_results(self) -> None:
        with disk_errors(self.path, self._advice):
            text = text_of(self.done.values())
            size = replace_whole(self.path / RESULTS, self.path / SCRATCH, text)
        if self._presence is not None:
            self._presence.size = size

    def write_info(self) -> None:
        """Replace run.json in one step, so that a crash leaves the old or the new one.

        Raises:
            RunDirError: as ``append``.
        """
        with self._present(), disk_errors(self.path, self._advice):
            text = json.dumps(self.info, indent=2) + "\n"
            replace_whole(self.path / RUN_INFO, self.path / SCRATCH, text)

    def close(self) -> None:
        """Let other sweeps in."""
        if self._presence is not None:
            self._presence.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> RunDir:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _advice(self) -> str:
        return f"free some space, then: {resume_command(self.path)}"

    def _append_line(self, name: str, text: str) -> None:
        with disk_errors(self.path, self._advice):
            size = append_whole(self.path / name, text)
        if self._presence is not None and name == RESULTS:
            self._presence.size = size

    def _watch(self) -> None:
        with disk_errors(self.path):
            self._presence = Presence.of(self.path / locking.LOCK, self.path / RESULTS)

    @contextlib.contextmanager
    def _present(self, *unwritten: Row) -> Iterator[None]:
        """Within, the directory is written to; where it has gone, its rows and the unwritten are rescued."""
        trouble = self._presence.trouble() if self._presence else None
        if trouble is None:
            try:
                yield
                return
            except RunDirError:
                trouble = self._presence.trouble() if self._presence else None
                if trouble is None:
                    raise
        raise self._rescue(trouble, [*self.done.values(), *unwritten])

    def _rescue(self, trouble: str, rows: Sequence[Row]) -> RunDirError:
        """Put the rows into a new directory; return the error that says so."""
        what = f"{self.path}: {trouble} while the sweep was writing to it"
        if not rows:
            return RunDirError(f"{what}; no case was measured yet: start again")
        for place in places(self.path):
            with contextlib.suppress(RunDirError), RunDir.create(place, self.info) as rescued:
                rescued._append_line(SAMPLES, text_of_visits(self.visits))
                rescued._append_line(RESULTS, "".join(map(line_of, rows)))
                return RunDirError(
                    f"{what}; all {len(rows)} rows measured so far are in {place}, with their samples; "
                    f"go on with: {resume_command(place)}"
                )
        return RunDirError(f"{what}; its {len(rows)} rows cannot be written anywhere else and are lost")

    def _write_header(self) -> None:
        with (self.path / RESULTS).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerow(COLUMNS)
            stream.flush()
            os.fsync(stream.fileno())

    def _clear(self) -> None:
        for name in (RESULTS, SAMPLES, RUN_INFO, REPORT, ERRORS, SCRATCH):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / PLOTS, ignore_errors=True)
