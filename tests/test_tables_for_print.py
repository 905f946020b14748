"""Tables for a paper: booktabs that compile, the best in bold, absolute values with their uncertainty."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_up
import pytest
from rich.console import Console

from elattn_bench.rundir import Run, read_run
from elattn_bench.tables.comparison import absolute_report, comparison_report
from elattn_bench.tables.latex import GAP, PAGE_ROWS, PAGE_WIDTH, latex, width
from elattn_bench.tables.overview import MOST_FACETS, MOST_NUMBERS
from elattn_bench.tables.render import Column, Report, Table, show
from elattn_bench.units import format_latency, with_uncertainty
from elattn_bench.verdicts.best import fastest, smallest
from elattn_bench.verdicts.reference import compare_to_reference, without_reference

ROOT = Path(__file__).parent.parent
COMMITTED = sorted((ROOT / "docs/results").glob("*/results.csv"))
IMPLS = ("softmax/sdpa", "linear/eager", "ea-series/eager")


def usual_reference(run: Run) -> str:
    """softmax/sdpa, or the first line of a run that has none."""
    return next((row.label for row in run.rows if row.impl == "softmax/sdpa"), run.rows[0].label)


def written(report: Report, format: str, width: int = 100, *, styled: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=styled, color_system="auto")
    show(report, format, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def close_run(tmp_path: Path) -> Run:
    """At one length: ea-series and linear too close to tell apart, softmax far behind; little memory is exact."""
    outcomes = {
        made_up.case("softmax/sdpa"): made_up.measured(4.0, 2048),
        made_up.case("linear/eager"): made_up.measured(1.0, 1024),
        made_up.case("ea-series/eager", order=6): made_up.measured(1.005, 1025),
    }
    return made_up.write_run(tmp_path / "close", outcomes)


class TestBest:
    def test_those_whose_intervals_overlap_share_the_first_place(self, close_run: Run) -> None:
        assert {case.split(":")[0] for case in fastest(close_run.rows)} == {"linear/eager", "ea-series/eager"}

    def test_far_enough_apart_there_is_one_winner(self, close_run: Run) -> None:
        rows = [
            replace(row, latency_ms_ci_low=row.latency_ms_p50, latency_ms_ci_high=row.latency_ms_p50)
            for row in close_run.rows
        ]
        assert [case.split(":")[0] for case in fastest(rows)] == ["linear/eager"]

    def test_memory_is_exact_so_a_byte_decides(self, close_run: Run) -> None:
        assert [case.split(":")[0] for case in smallest(close_run.rows)] == ["linear/eager"]

    def test_one_alone_wins_nothing(self, close_run: Run) -> None:
        assert fastest(close_run.rows[:1]) == smallest(close_run.rows[:1]) == frozenset()

    def test_what_failed_is_no_candidate(self, tmp_path: Path) -> None:
        outcomes = {
            made_up.case("softmax/sdpa"): made_up.OOM,
            made_up.case("linear/eager"): made_up.measured(1.0),
            made_up.case("softmax/eager"): made_up.measured(2.0),
        }
        run = made_up.write_run(tmp_path / "run", outcomes)
        assert [case.split(":")[0] for case in fastest(run.rows)] == ["linear/eager"]
        (speed, memory) = comparison_report(compare_to_reference(run)).tables
        assert not speed.best  # no speed-up is shown, so none is the best
        assert not memory.best

    def test_bold_is_the_same_cells_in_every_format(self, close_run: Run) -> None:
        report = comparison_report(compare_to_reference(close_run), ["latency"])
        bold = {
            "markdown": re.findall(r"\*\*([\d.]+x)\*\*", written(report, "markdown")),
            "latex": [f"{text}x" for text in re.findall(r"\\textbf\{([\d.]+)\$", written(report, "latex"))],
            "plain": re.findall(r"\*([\d.]+x)", written(report, "table")),
            "styled": re.findall(r"\x1b\[1m *([\d.]+x)", written(report, "table", styled=True)),
        }
        assert len(set(map(tuple, bold.values()))) == 1
        assert len(bold["markdown"]) == 2

    def test_a_star_stands_where_there_is_no_bold_and_only_there(self, close_run: Run) -> None:
        report = comparison_report(compare_to_reference(close_run), ["latency"])
        tables = replace(report, notes=())
        assert "*" in written(tables, "table")
        assert "*" not in written(tables, "table", styled=True)
        assert any(note.startswith("Bold, or *") for note in report.notes)


class TestAbsolute:
    def test_a_latency_has_its_uncertainty_and_memory_its_bytes(self, close_run: Run) -> None:
        latency, memory = absolute_report(without_reference(close_run)).tables
        assert latency.title == "Median latency: op, forward, float32, non-causal, batch 1, heads 8, dim 64"
        assert [column.title for column in latency.columns] == ["impl", "128 [us]"]
        assert all(re.fullmatch(r"\d+ ± \d+", row[1]) for row in latency.rows)
        assert {row[0]: row[1] for row in memory.rows}["linear/eager"] == "1.00 KiB"

    def test_no_reference_is_needed(self, tmp_path: Path) -> None:
        run = made_up.write_run(tmp_path / "run", made_up.cases(["linear/eager"], [128, 256]))
        assert len(absolute_report(without_reference(run)).tables) == 2

    def test_records_have_the_interval_in_full(self, close_run: Run) -> None:
        report = absolute_report(without_reference(close_run), ["latency"])
        records = list(csv.DictReader(io.StringIO(written(report, "csv"))))
        rows = {row.case_id: row for row in close_run.rows}
        for record in records:
            assert float(record["latency_ms_ci_low"]) == rows[record["case_id"]].latency_ms_ci_low
            assert "peak_memory_bytes" not in record

    def test_what_failed_says_how(self, run: Run) -> None:
        (table,) = absolute_report(without_reference(run), ["latency"]).tables
        (row,) = (row for row in table.rows if row[0] == "softmax/eager")
        assert row[-1] == "timeout"

    def test_rows_without_an_interval_have_three_digits(self, close_run: Run) -> None:
        rows = [replace(row, latency_ms_ci_low=None, latency_ms_ci_high=None) for row in close_run.rows]
        (table,) = absolute_report(without_reference(replace(close_run, rows=rows)), ["latency"]).tables
        assert {row[0]: row[1] for row in table.rows}["softmax/sdpa"] == "4000"


def environments(text: str) -> list[str]:
    """The names of what begins and ends, checked to be balanced."""
    open_now, seen = [], []
    for what, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if what == "begin":
            open_now.append(name)
            seen.append(name)
        else:
            assert open_now.pop() == name
    assert open_now == []
    return seen


def cells(line: str) -> int:
    r"""How many columns a line of a table fills, ``\multicolumn`` as many as it says."""
    spans = [int(count) - 1 for count in re.findall(r"\\multicolumn\{(\d+)\}", line)]
    return 1 + len(re.findall(r"(?<!\\)&", line)) + sum(spans)


def check_tables(text: str) -> None:
    """The text would compile: every environment ends, every line has the columns that were declared."""
    assert set(environments(text)) == {"table", "tabular"}
    for columns, body in re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL):
        lines = [line.strip() for line in body.splitlines() if line.rstrip().endswith(r"\\")]
        assert len(lines) > 1
        assert {cells(line) for line in lines} == {len(columns)}
        assert body.split()[0] == r"\toprule"
        assert body.split()[-1] == r"\bottomrule"
        assert body.count(r"\midrule") == 1
    for line in text.splitlines():
        if not line.startswith("%"):
            assert line.replace(r"\$", "").count("$") % 2 == 0
            assert line.replace(r"\{", "").replace(r"\}", "").count("{") == line.replace(r"\{", "").replace(
                r"\}", ""
            ).count("}")


class TestLatex:
    def test_the_tables_of_a_run_are_well_formed(self, run: Run, wide_run: Run) -> None:
        check_tables(latex(comparison_report(compare_to_reference(run))))
        check_tables(latex(comparison_report(compare_to_reference(wide_run))))
        check_tables(latex(absolute_report(without_reference(run))))

    @pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
    def test_those_of_committed_runs_are_too(self, path: Path) -> None:
        run = read_run(path.parent)
        check_tables(latex(absolute_report(without_reference(run))))
        check_tables(latex(comparison_report(compare_to_reference(run, usual_reference(run)))))

    def test_every_table_has_a_label_of_its_own(self, run: Run) -> None:
        twice = comparison_report(compare_to_reference(run))
        text = latex(Report([*twice.tables, *twice.tables]))
        labels = re.findall(r"\\label\{(.*?)\}", text)
        assert len(labels) == text.count(r"\begin{table}") == len(set(labels))
        assert all(re.fullmatch(r"tab:[a-z0-9-]+", label) for label in labels)

    def test_quantities_are_formulas(self) -> None:
        row = ["ea-series/eager t=6", "1.5x", "<0.001x", "3.2 us", "12.3 ± 0.4 ms", "L^1.50", "-", "1x1"]
        table = Table("t", [Column(name, "right") for name in "LBDHabcd"], [row])
        text = latex(Report([table]))
        assert (
            r"ea-series/eager $t=6$ & 1.5$\times$ & $<$0.001$\times$ & 3.2\,$\mu$s & 12.3 $\pm$ 0.4\,ms & $L^{1.50}$ "
            r"& -- & 1x1 \\"
        ) in text
        assert r"$L$ & $B$ & $D$ & $H$ & a & b & c & d \\" in text

    def test_lengths_stand_under_an_l(self, run: Run) -> None:
        text = latex(comparison_report(compare_to_reference(run)))
        columns = re.findall(r"\\cmidrule\(lr\)\{2-(\d+)\}", text)
        assert [int(last) - 1 for last in columns] == [
            int(count) for count in re.findall(r"\\multicolumn\{(\d+)\}\{c\}\{\$L\$\}", text)
        ]

    def test_no_table_is_wider_than_a_page(self, run: Run) -> None:
        text = latex(absolute_report(without_reference(run)))
        for body in re.findall(r"\\toprule\n.*?\\cmidrule.*?\n(.*?)\\bottomrule", text, re.DOTALL):
            plain = re.sub(r"\\textbf|[\\${}]", "", body.replace(r"$\pm$", "±").replace(r"$\mu$", "u"))
            rows = [line.split("&") for line in plain.splitlines() if "&" in line]
            widths = [max(width(cell.strip()) for cell in column) for column in zip(*rows, strict=True)]
            assert sum(widths) + GAP * (len(widths) - 1) <= PAGE_WIDTH

    def test_a_long_table_takes_several_pages_and_loses_nothing(self) -> None:
        rows = [[f"n{index}", str(index)] for index in range(2 * PAGE_ROWS + 1)]
        last = frozenset({(2 * PAGE_ROWS, 1)})
        text = latex(Report([Table("t", [Column("impl"), Column("x", "right")], rows, best=last)]))
        assert text.count(r"\begin{table}") == 3
        assert re.findall(r"n(\d+) &", text) == [row[1] for row in rows]
        assert re.findall(r"\\textbf\{(\d+)\}", text) == [str(2 * PAGE_ROWS)]

    def test_the_package_is_named(self, run: Run) -> None:
        assert latex(comparison_report(compare_to_reference(run))).startswith(
            "% Needs \\usepackage{booktabs}"
        )
        assert latex(Report()) == ""


class TestManyFacets:
    @pytest.fixture
    def many(self, tmp_path: Path) -> Run:
        cases = [
            case
            for dim in range(8, 8 * (MOST_FACETS + 2), 8)
            for case in made_up.cases(IMPLS, [512, 1024, 2048, 4096], dim=dim)
        ]
        return made_up.write_run(tmp_path / "run", cases)

    def test_too_many_sizes_are_counted_not_listed(self, many: Run) -> None:
        report = comparison_report(compare_to_reference(many), ["latency"])
        (table,) = report.tables
        assert table.title.startswith("At how many sizes faster than softmax/sdpa")
        (row,) = (row for row in table.rows if row[0] == "linear/eager")
        assert row[1:] == [str(MOST_FACETS + 1), "0", str(MOST_FACETS + 1), "2k", "0"]

    def test_the_note_says_how_to_see_one(self, many: Run) -> None:
        report = comparison_report(compare_to_reference(many))
        assert any("--where dim=8," in note for note in report.notes)
        assert "Nothing to compare" not in " ".join(report.notes)

    def test_records_have_every_case(self, many: Run) -> None:
        assert len(comparison_report(compare_to_reference(many)).records) == len(many.rows)
        assert len(absolute_report(without_reference(many)).records) == len(many.rows)

    def test_many_settings_of_one_size_get_an_overview_too(self, tmp_path: Path) -> None:
        settings: list[dict[str, Any]] = [
            {"level": level, "mode": mode, "dtype": dtype, "causal": causal}
            for level in ("op", "layer")
            for mode in ("forward", "train")
            for dtype in ("float32", "bfloat16")
            for causal in (False, True)
        ]
        cases = [case for setting in settings for case in made_up.cases(IMPLS, [512, 4096], **setting)]
        report = comparison_report(
            compare_to_reference(made_up.write_run(tmp_path / "run", cases)), ["latency"]
        )
        assert len(report.tables) == len(settings) > MOST_FACETS
        assert all(list(table.rows[-1]) == ["linear/eager", "4k"] for table in report.tables)


class TestTerminal:
    @pytest.mark.parametrize("width", [80, 100, 120])
    @pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
    def test_no_table_of_a_committed_run_wraps_or_is_cut(self, path: Path, width: int) -> None:
        run = read_run(path.parent)
        for report in (
            comparison_report(compare_to_reference(run, usual_reference(run))),
            absolute_report(without_reference(run)),
        ):
            text = written(report, "table", width)
            assert "…" not in text
            assert max(map(len, text.splitlines())) <= width

    def test_a_title_of_two_lines_is_parted_where_it_says_what_it_is_about(self, run: Run) -> None:
        text = written(comparison_report(compare_to_reference(run)), "table", 80)
        assert (
            "Speed-up over softmax/sdpa:\nop, forward, float32, non-causal, batch 1, heads 8, dim 64 (1"
            in text
        )


class TestPage:
    """docs/tables.md says what the code does."""

    page = (ROOT / "docs/tables.md").read_text(encoding="utf-8")

    def test_its_digits_are_those_of_the_code(self) -> None:
        found = re.findall(r"\| ([\d.]+) ms \| \[([\d.]+), ([\d.]+)\] \| (\S+ ms) \| (.*?) \|", self.page)
        assert len(found) == 3
        for median, low, high, latency, uncertain in found:
            assert format_latency(float(median), float(low), float(high)) == latency
            assert with_uncertainty(float(median), float(low), float(high)) == uncertain

    def test_without_torch_one_installs_every_other_dependency(self) -> None:
        (named,) = re.findall(r"pip install -c constraints.txt (.*)", self.page)
        (listed,) = re.findall(
            r"\ndependencies = \[(.*?)\n\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL
        )
        needed = set(re.findall(r'^\s*"([a-z0-9-]+)', listed, re.MULTILINE))
        assert set(named.split()) == needed - {"torch", "llvmlite", "tomli"}

    def test_it_names_the_limits(self) -> None:
        words = " ".join(self.page.split())
        assert (
            f"more than {MOST_FACETS} combinations of setting and sizes, or more than {MOST_NUMBERS:,} cases"
            in words
        )
        assert f"more than {PAGE_ROWS} lines" in words
