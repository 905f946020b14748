"""Tables of plain facts: the summary of a sweep, what ``list`` and ``env`` show; and cells all tables use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from elattn_bench.analysis import LineSummary, Ratio, Setting
from elattn_bench.roofline import Ceilings
from elattn_bench.tables.render import Column, Report, Table
from elattn_bench.units import format_bytes, format_length, format_ms, rounded_to, significant
from elattn_bench.verdicts.nouns import Estimate

NO_NUMBER = "-"
SMALLEST_RATIO = 0.001  # smaller ones would make wide columns; csv and json hold them in full


def format_ratio(ratio: float | None) -> str:
    """A ratio for people: ``12.3x``; ``-`` for none."""
    if ratio is None:
        return NO_NUMBER
    return f"{significant(ratio, 3)}x" if ratio >= SMALLEST_RATIO else f"<{SMALLEST_RATIO}x"


def format_estimate(ratio: Ratio) -> str:
    """A ratio with the digits that its interval supports: ``12x``, ``1.02x``."""
    if ratio.value < SMALLEST_RATIO:
        return format_ratio(ratio.value)
    return f"{rounded_to(ratio.value, ratio.low, ratio.high)}x"


def interval_record(name: str, found: Ratio | Estimate | None) -> dict[str, float | None]:
    """A value and the ends of its interval for programs: ``name``, ``name_low``, ``name_high``."""
    values = (found.value, found.low, found.high) if found else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def plain(value: object) -> str:
    """Any value as text; ``-`` for none."""
    return NO_NUMBER if value is None else str(value)


def summary_report(lines: Sequence[LineSummary]) -> Report:
    """One table: what became of each line, and its latency at the longest length measured."""
    varying = [
        column for column in Setting._fields if len({getattr(line.setting, column) for line in lines}) > 1
    ]
    lost = [kind for kind in ("oom", "timeout", "other") if any(getattr(line, kind) for line in lines)]
    columns = [
        Column("impl"), *(Column(name) for name in varying), Column("ok", "right"),
        *(Column(kind, "right") for kind in lost),
        Column("longest", "right"), Column("latency", "right"), Column("growth", "right"), Column("at"),
    ]  # fmt: skip
    rows = [
        [
            line.label, *(_setting_cell(line.setting, name) for name in varying),
            *(str(getattr(line, kind)) for kind in ("ok", *lost)), *_longest_cells(line),
        ]
        for line in lines
    ]  # fmt: skip
    table = Table(_summary_title(lines, varying), columns, rows, pinned=1 + len(varying))
    return Report([table] if lines else [], [_summary_record(line) for line in lines], _ungated_notes(lines))


def _ungated_notes(lines: Sequence[LineSummary]) -> Sequence[str]:
    labels = dict.fromkeys(line.label for line in lines if line.ungated)
    if not labels:
        return ()
    return [f"Ungated, without an oracle to say that the numbers are right: {', '.join(labels)}."]


def _summary_title(lines: Sequence[LineSummary], varying: Sequence[str]) -> str:
    fixed = (
        [
            _setting_cell(lines[0].setting, name)
            for name in Setting._fields
            if name not in varying and name in lines[0].setting.shown
        ]
        if lines
        else []
    )
    return ", ".join(["Summary", *fixed])


def _setting_cell(setting: Setting, name: str) -> str:
    return setting.words[name]


def _longest_cells(line: LineSummary) -> list[str]:
    row = line.longest
    if row is None:
        return [NO_NUMBER] * 4
    exponent = NO_NUMBER if line.growth is None else f"L^{line.growth:.2f}"
    sizes = f"B={row.batch} D={row.dim}"
    return [format_length(row.seq_len), format_ms(row.latency_ms_p50), exponent, sizes]


def _summary_record(line: LineSummary) -> dict[str, Any]:
    row = line.longest
    return {
        "impl": line.label, **line.setting._asdict(),
        "ok": line.ok, "oom": line.oom, "timeout": line.timeout, "other": line.other,
        "batch": row.batch if row else None, "heads": row.heads if row else None,
        "dim": row.dim if row else None, "seq_len": row.seq_len if row else None,
        "latency_ms_p50": row.latency_ms_p50 if row else None, "growth": line.growth,
    }  # fmt: skip


def attentions_report(entries: Sequence[Mapping[str, Any]]) -> Report:
    """What ``list`` shows: attentions by their growth with length; their backends and whether they run here.

    Optional packages, and attentions that installed packages bring, have tables of their own.

    Args:
        entries: one per attention and backend, as ``catalogue.attentions`` makes them.
    """
    installed = [entry for entry in entries if entry["origin"]]
    entries = [entry for entry in entries if not entry["origin"]]
    backends = [[f"{entry['attention']}/{entry['backend']}", *_runs_here(entry)] for entry in entries]
    headings = ("runs here", "what it is, or why it does not run")
    decoding = ", ".join(dict.fromkeys(entry["attention"] for entry in entries if entry["recurrent"]))
    return Report(
        [
            *_growth_tables(entries),
            Table("Backends", [Column("impl"), *(Column(key, wraps=True) for key in headings)], backends),
            _spread(entries),
            *_peers(entries),
            *_installed_tables(installed),
        ],
        notes=[
            "L: seq_len, D: dim, H: heads, t: order. A bare attention name means its default backend.",
            *(_sizes_note(entry["sizes"]) for entry in entries[:1]),
            f"With a recurrent form, for --mode decode: {decoding}.",
        ],
    )


def _spread(entries: Sequence[Mapping[str, Any]]) -> Table:
    """The backends that a sequence can be spread with, and what goes between ranks."""
    rows = [
        [f"{entry['attention']}/{entry['backend']}", entry["over_ranks"]]
        for entry in entries
        if entry["over_ranks"]
    ]
    return Table("Over ranks, for --ranks", [Column("impl"), Column("what ranks exchange", wraps=True)], rows)


def _growth_tables(entries: Sequence[Mapping[str, Any]]) -> list[Table]:
    """A table per complexity class; an attention whose backend grows otherwise stands in both."""
    growths: dict[str, dict[str, Mapping[str, Any]]] = {"quadratic": {}, "linear": {}}
    for entry in entries:
        usual = entry["growth"] == entry["growth_of_attention"]
        name = entry["attention"] if usual else f"{entry['attention']}/{entry['backend']}"
        growths.setdefault(entry["growth"], {}).setdefault(name, entry)
    columns = [
        Column("attention"), Column("time"), Column("layer params", "right"), Column("state", "right"),
        Column("memory"), Column("arXiv"),
    ]  # fmt: skip
    return [
        Table(
            f"{growth.capitalize()} in length",
            columns,
            [_about(name, entry) for name, entry in found.items()],
        )
        for growth, found in growths.items()
        if found
    ]


def _about(name: str, entry: Mapping[str, Any]) -> list[str]:
    # A row of one backend alone has a state where that backend does.
    state = entry["state_bytes"] if entry["recurrent"] or name == entry["attention"] else None
    sizes = [f"{entry['layer_params']:,}", NO_NUMBER if state is None else format_bytes(state)]
    return [name, entry["time"], *sizes, entry["memory"], entry["arxiv"]]


def _sizes_note(sizes: Mapping[str, Any]) -> str:
    return (
        f"Parameters of a layer, state of one sequence: at D = {sizes['dim']}, H = {sizes['heads']}, "
        f"L = {format_length(sizes['seq_len'])}, {sizes['dtype']}."
    )


def _installed_tables(entries: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Attentions of other packages, and which package each is from; no table where there are none."""
    rows = [
        ["/".join(filter(None, (entry["attention"], entry["backend"]))), entry["origin"], *_runs_here(entry)]
        for entry in entries
    ]
    headings = ("from", "runs here", "what it is, or why it does not run")
    columns = [Column("impl"), *(Column(key, wraps=True) for key in headings)]
    return [Table("Attentions of installed packages", columns, rows)] if rows else []


def _runs_here(entry: Mapping[str, Any]) -> tuple[str, str]:
    if not entry["runs_here"]:
        # How to install a package is said once, below the backends that need it; of a traceback the first
        # line says what it is.
        others = [reason for reason in entry["reasons"] if not _says_how_to_install(entry, reason)]
        firsts = [reason.partition("\n")[0] for reason in others]
        return "no", "; ".join(firsts) or f"{entry['package']} is not installed"
    return "default" if entry["default"] else "yes", entry["backend_summary"]


def _says_how_to_install(entry: Mapping[str, Any], reason: str) -> bool:
    return entry["package"] is not None and reason.endswith(f"pip install {entry['package']}")


def _peers(entries: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The optional packages, a line each: the version that is installed, or how to install it."""
    found = {entry["package"]: entry["package_version"] for entry in entries if entry["package"]}
    rows = [[name, version or "no", f"pip install {name}"] for name, version in found.items()]
    columns = [Column("package"), Column("installed"), Column("how to install it")]
    return [Table("Optional packages", columns, rows)] if rows else []


def environment_report(described: Mapping[str, Any]) -> Report:
    """What ``env`` shows: the machine, and what it was measured to reach.

    Args:
        described: as ``catalogue.machine`` makes it.
    """
    facts = {key: value for key, value in described.items() if key != "ceilings"}
    ceilings = Ceilings.from_json(described["ceilings"])
    tables = [key_value_table("Environment", facts), key_value_table("Ceilings", ceilings.facts())]
    return Report([table for table in tables if table.rows], [described], notes=[_CEILINGS_NOTE])


_CEILINGS_NOTE = (
    "Ceilings: the best rates measured just now. "
    "Bandwidth counts bytes read and bytes written, a multiply-add two operations."
)


def key_value_table(title: str, mapping: Mapping[str, Any]) -> Table:
    """One line per entry, with the units of people."""
    rows = [_fact(key, value) for key, value in mapping.items()]
    return Table(title, [Column("what"), Column("value", wraps=True)], rows)


def _fact(key: str, value: Any) -> list[str]:
    for unit, show in _SHOWN.items():
        if key.endswith(unit) and isinstance(value, int | float):
            return [key.removesuffix(unit).replace("_", " "), show(value)]
    if isinstance(value, Mapping):
        return [key.replace("_", " "), ", ".join(" ".join(_fact(*entry)) for entry in value.items())]
    return [key.replace("_", " "), plain(value)]


_SHOWN: Mapping[str, Callable[[float], str]] = {
    "_bytes": format_bytes,
    "_s": lambda seconds: format_ms(1e3 * seconds),
}
