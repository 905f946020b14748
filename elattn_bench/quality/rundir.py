"""The run directory of a quality run: rows, curves, run.json, plots. A job is on disk before the next begins."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock

from elattn_bench import locking
from elattn_bench.disk import append_whole, cut_half_line, disk_errors, replace_whole
from elattn_bench.errors import RunDirError
from elattn_bench.quality.rows import (
    QUALITY_SCHEMA,
    CurveRow,
    QualityRow,
    RowType,
    names_of,
    of_record,
    to_record,
)
from elattn_bench.rescue import places
from elattn_bench.rundir import ERRORS, PLOTS, QUALITY, RUN_INFO, SCRATCH, read_info

CURVES = "curves.csv"
OURS = (QUALITY, CURVES, RUN_INFO, ERRORS, PLOTS, locking.LOCK, SCRATCH)


@dataclass(frozen=True, slots=True)
class QualityRun:
    """A quality run as read from disk.

    Args:
        path: its directory.
        info: run.json: argv, config, environment, data.
        rows: quality.csv, in the order trained.
        curves: curves.csv.
        warnings: what a reader should know, for example a half-written last line that was left out.
    """

    path: Path
    info: Mapping[str, Any]
    rows: Sequence[QualityRow]
    curves: Sequence[CurveRow] = ()
    warnings: Sequence[str] = ()

    @property
    def device_name(self) -> str:
        """The device trained on, for people: the GPU's or the CPU's model."""
        environment = self.info.get("environment", {})
        return str(environment.get("device_name") or environment.get("cpu_model") or "unknown device")


def read_quality(path: Path) -> QualityRun:
    """The quality run in the directory.

    Raises:
        RunDirError: it is missing, empty, not ours, broken, or written by a newer version.
    """
    if not path.is_dir():
        raise RunDirError(f"{path}: no such run directory; make one with: elattn-bench quality -o {path}")
    if not (path / QUALITY).is_file():
        raise RunDirError(
            f"{path}: holds no {QUALITY}, so it is not a run of elattn-bench quality"
            + ("; a sweep is read by compare, plot and report" if (path / "results.csv").is_file() else "")
        )
    rows, warnings = _read(path / QUALITY, QualityRow)
    if not rows:
        raise RunDirError(f"{path / QUALITY}: no model is trained yet; go on with: {resume_command(path)}")
    curves, more = _read(path / CURVES, CurveRow) if (path / CURVES).is_file() else ([], [])
    return QualityRun(path, read_info(path), rows, curves, [*warnings, *more])


def resume_command(path: Path) -> str:
    """What to type to complete the run."""
    return f"elattn-bench quality --resume -o {path}"


@dataclass
class QualityDir:
    """An open run directory: one writer at a time. Make one with ``create`` or ``resume``; use it in ``with``."""

    path: Path
    info: dict[str, Any]
    rows: list[QualityRow] = field(default_factory=list)
    _lock: FileLock | None = None

    @classmethod
    def create(cls, path: Path, info: Mapping[str, Any], *, force: bool = False) -> QualityDir:
        """A new run directory, empty.

        Raises:
            RunDirError: it exists and ``force`` is off, another run writes to it, or the disk refuses.
        """
        check_vacant(path, force=force)
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        lock = locking.acquire(path)
        try:
            with disk_errors(path):
                for name in (QUALITY, CURVES, RUN_INFO, ERRORS, SCRATCH):
                    (path / name).unlink(missing_ok=True)
                shutil.rmtree(path / PLOTS, ignore_errors=True)
            made = cls(path, dict(info), _lock=lock)
            made._append(QUALITY, _header(QualityRow))
            made._append(CURVES, _header(CurveRow))
            made.write_info()
        except BaseException:
            lock.release()
            raise
        return made

    @classmethod
    def resume(cls, path: Path) -> QualityDir:
        """The run directory as an earlier run left it; what belongs to no finished job is cut off.

        Raises:
            RunDirError: there is none, another run writes to it, or it is broken.
        """
        if not (path / RUN_INFO).is_file() or not (path / QUALITY).is_file():
            raise RunDirError(f"{path}: there is no quality run to resume; start it without --resume")
        lock = locking.acquire(path)
        try:
            with disk_errors(path):
                was_cut = cut_half_line(path / QUALITY)
                cut_half_line(path / CURVES)
            rows = _read(path / QUALITY, QualityRow)[0]
            if was_cut and rows:  # the cut line's job is the last one's, or had no line yet
                rows = [row for row in rows if row.key != rows[-1].key]
            opened = cls(path, read_info(path), rows, _lock=lock)
            opened._forget_unfinished()
        except BaseException:
            lock.release()
            raise
        return opened

    @property
    def done(self) -> set[tuple[str, str, bool, int]]:
        """The jobs that have their rows."""
        return {row.key for row in self.rows}

    def append(self, rows: Sequence[QualityRow], details: str = "") -> None:
        """Put a job's rows on disk, all or none; the traceback of one that failed goes to errors.log first.

        Raises:
            RunDirError: the disk refuses.
        """
        if details:
            self._append(ERRORS, f"{' '.join(map(str, rows[0].key))}\n{details.rstrip()}\n\n")
        self._append(QUALITY, _text(rows))
        self.rows.extend(rows)

    def append_curve(self, rows: Sequence[CurveRow]) -> None:
        """Put an epoch on disk.

        Raises:
            RunDirError: the disk refuses.
        """
        self._append(CURVES, _text(rows))

    def write_info(self) -> None:
        """Replace run.json in one step, so that a crash leaves the old or the new one."""
        with disk_errors(self.path, self._advice):
            text = json.dumps(self.info, indent=2) + "\n"
            replace_whole(self.path / RUN_INFO, self.path / SCRATCH, text)

    def _forget_unfinished(self) -> None:
        """A job that was interrupted begins anew: its epochs go. A failed one is tried again."""
        self.rows = [row for row in self.rows if row.ok]
        curves = [row for row in _read(self.path / CURVES, CurveRow)[0] if row.key in self.done]
        with disk_errors(self.path, self._advice):
            for name, header, rows in (
                (QUALITY, _header(QualityRow), self.rows),
                (CURVES, _header(CurveRow), curves),
            ):
                replace_whole(self.path / name, self.path / SCRATCH, header + _text(rows))

    def _append(self, name: str, text: str) -> None:
        if not self.path.is_dir():
            raise self._rescued(text if name == QUALITY else "")
        with disk_errors(self.path, self._advice):
            append_whole(self.path / name, text)

    def _rescued(self, unwritten: str) -> RunDirError:
        """Put the rows into a new directory, for this one has gone; the error that says where."""
        what = f"{self.path}: was deleted while the run was writing to it"
        for place in places(self.path):
            with contextlib.suppress(RunDirError), QualityDir.create(place, self.info) as saved:
                saved._append(QUALITY, _text(self.rows) + unwritten)
                return RunDirError(
                    f"{what}; what was trained so far is in {place}; go on with: {resume_command(place)}"
                )
        return RunDirError(f"{what}; its {len(self.rows)} rows cannot be written anywhere else and are lost")

    @property
    def _advice(self) -> str:
        return f"free some space, then: {resume_command(self.path)}"

    def close(self) -> None:
        """Let other runs in."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> QualityDir:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_vacant(path: Path, *, force: bool) -> None:
    """Refuse a place for a new run that holds a run (unless ``force``) or anything that is not ours.

    Raises:
        RunDirError: with what to do instead.
    """
    if path.exists() and not path.is_dir():
        raise RunDirError(f"{path}: is a file; choose another directory with -o")
    if not path.is_dir():
        return
    if foreign := sorted(entry.name for entry in path.iterdir() if entry.name not in OURS):
        raise RunDirError(
            f"{path}: already exists and holds other files ({', '.join(foreign[:3])}), which a run will not "
            "touch; choose another directory with -o"
        )
    if (path / QUALITY).is_file() and not force:
        if locking.is_locked(path):
            raise locking.in_use(path)
        raise RunDirError(
            f"{path}: already exists and holds a run; complete it with --resume ({resume_command(path)}), "
            "replace it with --force, or choose another directory with -o"
        )


def _header(kind: type[QualityRow] | type[CurveRow]) -> str:
    return ",".join(names_of(kind)) + "\n"


def _text(rows: Iterable[QualityRow] | Iterable[CurveRow]) -> str:
    text = io.StringIO(newline="")
    for row in rows:
        csv.writer(text, lineterminator="\n").writerow(to_record(row).values())
    return text.getvalue()


def _read(path: Path, kind: type[RowType]) -> tuple[list[RowType], list[str]]:
    """The rows of a file, and what a reader should know of it."""
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunDirError(f"{path}: cannot be read ({error})") from None
    warnings = []
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        warnings.append(
            f"{path}: the last line is cut short and was left out; --resume trains that model again"
        )
    rows: list[RowType] = []
    reader = csv.DictReader(io.StringIO(text, newline=""))
    for record in reader:
        _check_schema(path, record)
        try:
            rows.append(of_record(kind, record))
        except ValueError as error:
            raise RunDirError(f"{path}: line {reader.line_num}: {error}") from None
    return rows, warnings


def _check_schema(path: Path, record: Mapping[str, str]) -> None:
    schema = record.get("schema") or ""
    if schema.isdecimal() and int(schema) > QUALITY_SCHEMA:
        raise RunDirError(
            f"{path}: was written by a newer elattn-bench (schema {schema}, this one reads up to {QUALITY_SCHEMA}); "
            "upgrade elattn-bench to read it"
        )
