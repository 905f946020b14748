"""results.csv as text: its lines written, read and checked."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from elattn_bench.errors import RunDirError
from elattn_bench.results import COLUMNS, LATER_COLUMNS, SCHEMA_VERSION, Row, rows_of


def line_of(row: Row) -> str:
    """The row as the file's line, with its end."""
    line = io.StringIO(newline="")
    csv.DictWriter(line, COLUMNS, lineterminator="\n").writerow(row.to_csv())
    return line.getvalue()


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """The rows of the file, and what a reader should know of it.

    Raises:
        RunDirError: it is empty, not ours, broken, or written by a newer version.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise RunDirError(f"{path}: is not UTF-8 text, so it is not a results file of elattn-bench") from None
    except OSError as error:
        raise RunDirError(f"{path}: cannot be read ({error.strerror})") from None
    if not text.strip():
        raise RunDirError(f"{path}: is empty; delete the directory or sweep again with --force")
    warnings = []
    if not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        warnings.append(f"{path}: the last line is cut short and was left out; --resume measures it again")
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    _check_schema(path, text)
    _check_header(path, header)
    try:
        return list(rows_of(header, filter(None, reader))), warnings
    except ValueError:
        return _rows_one_by_one(path, text), warnings


def _rows_one_by_one(path: Path, text: str) -> list[Row]:
    """The rows of a text in which something is wrong, up to the line to name."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    return [_parse_record(path, reader.line_num, record) for record in reader]


def _check_schema(path: Path, text: str) -> None:
    # Before the header is judged: a newer version may have other columns.
    first = next(csv.DictReader(io.StringIO(text, newline="")), {})
    schema = first.get("schema") or ""
    if schema.isdecimal() and int(schema) > SCHEMA_VERSION:
        raise RunDirError(
            f"{path}: was written by a newer elattn-bench (schema {schema}, this one reads up to "
            f"{SCHEMA_VERSION}); upgrade elattn-bench to read it"
        )


def _check_header(path: Path, header: Sequence[str] | None) -> None:
    missing = [column for column in COLUMNS if column not in (header or ()) and column not in LATER_COLUMNS]
    if missing:
        shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise RunDirError(f"{path}: is not a results file of elattn-bench: columns {shown} are missing")


def text_of(rows: Iterable[Row]) -> str:
    """The whole file: header and rows."""
    return ",".join(COLUMNS) + "\n" + "".join(map(line_of, rows))


def check_same_columns(path: Path) -> None:
    """Refuse to append to a file of another version.

    Raises:
        RunDirError: its columns are not this version's.
    """
    header = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    if header and header != ",".join(COLUMNS):
        raise RunDirError(
            f"{path}: has the columns of another version of elattn-bench, so its rows cannot be completed; "
            "sweep into another directory"
        )


def _parse_record(path: Path, line: int, record: dict[str, str]) -> Row:
    if None in record or None in record.values():
        raise RunDirError(
            f"{path}: line {line} does not have one value per column; the file was cut or edited"
        )
    try:
        return Row.from_csv(record)
    except ValueError as error:
        raise RunDirError(f"{path}: line {line}: {error}") from None
