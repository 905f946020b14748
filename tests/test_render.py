"""Tables say the same in every format, fit the terminal, and break no format's rules."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import made_up
import pytest
from rich.console import Console

import attention_impls
from elattn_bench.analysis import summary
from elattn_bench.catalogue import attentions
from elattn_bench.errors import UsageError
from elattn_bench.rundir import Run
from elattn_bench.tables.changes import change_report
from elattn_bench.tables.comparison import comparison_report
from elattn_bench.tables.conclusions import with_conclusions
from elattn_bench.tables.listings import attentions_report, format_ratio, key_value_table, summary_report
from elattn_bench.tables.render import FORMATS, Column, Report, Table, fit, show
from elattn_bench.verdicts.reference import compare_to_reference
from elattn_bench.verdicts.runs import compare_runs
from elattn_bench.verdicts.sentences import verdicts

AWKWARD = r"a_b & 50% of #1 | {x}^2 ~ \n <i> $y$ [bold]"


def text_of(report: Report, format: str, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, no_color=True)
    show(report, format, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.fixture(scope="module")
def report(run: Run) -> Report:
    return comparison_report(compare_to_reference(run))


@pytest.fixture(scope="module")
def wide_report(wide_run: Run) -> Report:
    return comparison_report(compare_to_reference(wide_run))


class TestComparison:
    def test_a_row_holds_the_speed_ups_and_where_they_begin(self, report: Report) -> None:
        (row,) = (row for row in report.tables[0].rows if row[0] == "linear/eager")
        assert row[1:6] == ["0.0640x", "0.128x", "0.256x", "0.512x", "1.02x"]
        assert row[-2:] == ["ref oom", "2k"]

    def test_the_reference_s_row_holds_its_own_values(self, report: Report) -> None:
        (row,) = (row for row in report.tables[0].rows if row[0] == "softmax/sdpa")
        assert (row[1], row[-2], row[-1]) == ("16.38 us", "oom", "reference")

    def test_columns_are_the_lengths(self, report: Report) -> None:
        titles = [column.title for column in report.tables[0].columns]
        assert titles == ["impl", "128", "256", "512", "1k", "2k", "4k", "8k", "16k", "32k", "faster from"]

    def test_titles_name_metric_reference_and_facet(self, report: Report) -> None:
        speed, memory = (table.title for table in report.tables)
        assert (
            speed == "Speed-up over softmax/sdpa: op, forward, float32, non-causal, batch 1, heads 8, dim 64"
        )
        assert memory.startswith("Peak memory over that of softmax/sdpa")

    def test_what_ran_out_of_time_is_shown_as_such(self, report: Report) -> None:
        assert "timeout" in text_of(report, "table")

    def test_parameters_are_compared_once_for_all_facets(self, wide_report: Report) -> None:
        (table,) = (table for table in wide_report.tables if table.title.startswith("Learned parameters"))
        assert [column.title for column in table.columns] == ["impl", "dim 64", "dim 128", "dim 256"]
        assert table.rows[1][0] == "softmax/sdpa"
        assert table.rows[1][1].replace(",", "").isdecimal()

    def test_several_sizes_get_a_table_of_crossovers_with_their_sentences_in_front(
        self, wide_run: Run
    ) -> None:
        report = comparison_report(compare_to_reference(wide_run))
        told = with_conclusions(report, verdicts(wide_run, "softmax/sdpa"), ["latency", "memory"])
        crossings = [table for table in told.tables if table.title.startswith("Where each overtakes")]
        assert len(crossings) == 4
        assert [column.title for column in crossings[0].columns][:3] == ["impl", "B1 D64", "B1 D128"]
        assert told.lead[0] == "op, forward, float32, non-causal, batch 1, heads 8, dim 256:"
        assert told.about["verdicts"]
        assert list(told.tables[-len(report.tables) :]) == list(report.tables)

    def test_where_the_reference_cannot_run_there_is_its_reason_and_no_table(self, tmp_path: Path) -> None:
        impls, step = ("softmax/sdpa", "linear/eager"), {"mode": "decode", "causal": True}
        outcomes = {
            **{case: made_up.measured(1.0) for case in made_up.cases(impls, [128])},
            made_up.case("softmax/sdpa", **step): made_up.UNSUPPORTED,
            made_up.case("linear/eager", **step): made_up.measured(0.1),
        }
        run = made_up.write_run(tmp_path / "run", outcomes)
        report = comparison_report(compare_to_reference(run))
        assert [table.title.partition(": ")[2].split(", ")[1] for table in report.tables] == ["forward"] * 2
        assert report.notes[0] == (
            "op, decode, float32, causal: softmax/sdpa is unsupported (flash needs a GPU); "
            "name another with --reference."
        )
        other = comparison_report(compare_to_reference(run, "linear"))
        assert [table.title.partition(": ")[2].split(", ")[1] for table in other.tables] == [
            *["forward"] * 2,
            *["decode"] * 2,
        ]

    def test_only_the_metrics_asked_for_are_shown(self, run: Run) -> None:
        report = comparison_report(compare_to_reference(run, metrics=["memory"]), ["memory"])
        assert [table.title.split()[0] for table in report.tables] == ["Peak"]
        assert "speed_up" not in report.records[0]

    def test_nothing_to_compare_is_said(self, run: Run) -> None:
        report = comparison_report(compare_to_reference(run, metrics=["params"]), ["params"])
        assert report.tables == []
        assert "Nothing to compare" in text_of(report, "table")

    def test_every_number_may_be_missing(self, tmp_path: Path) -> None:
        outcomes = dict.fromkeys(made_up.cases(["softmax/sdpa", "linear/eager"], [128]), made_up.OOM)
        run = made_up.write_run(tmp_path / "run", outcomes)
        report = comparison_report(compare_to_reference(run))
        assert report.tables[0].rows == [["softmax/sdpa", "oom", "reference"], ["linear/eager", "oom", "-"]]


class TestTwoRuns:
    @pytest.fixture
    def report(self, run: Run, tmp_path: Path) -> Report:
        cases = made_up.cases(["linear/eager", "softmax/sdpa"], [128, 256])
        outcomes = {case: made_up.measured(0.1) for case in cases}
        other = made_up.write_run(tmp_path / "other", outcomes, {**made_up.ENVIRONMENT, "threads": 4})
        return change_report(compare_runs(run, other), run, other)

    def test_a_row_holds_both_latencies_the_ratio_and_the_verdict(self, report: Report) -> None:
        row = next(row for row in report.tables[0].rows if row[:2] == ["linear/eager", "128"])
        assert row == [
            "linear/eager",
            "128",
            "0.391x",
            "[0.385, 0.396]",
            "faster",
            "256 us",
            "100 us",
            "0.0312x",
        ]

    def test_counts_mean_and_environments_are_told(self, report: Report) -> None:
        text = text_of(report, "table")
        assert "Of 45 cases: 2 slower, 2 faster, 41 only in A." in text
        assert "geometric mean" in text
        assert [list(row) for row in report.tables[-1].rows] == [["threads", "2", "4"]]

    def test_the_document_holds_the_mean_and_the_differences(self, report: Report) -> None:
        document = json.loads(text_of(report, "json"))
        assert document["environment_differences"] == {"threads": [2, 4]}
        assert document["geometric_mean_latency_ratio"] > 0
        assert len(document["records"]) == 45


class TestFormats:
    def test_json_is_one_document_and_nothing_else(self, report: Report) -> None:
        document = json.loads(text_of(report, "json"))
        assert len(document["records"]) == len(report.records)
        assert {"records", "notes", "faster_from", "block_shares", "comparison"} == set(document)

    def test_csv_has_one_record_per_case_in_full_precision(self, report: Report, run: Run) -> None:
        records = list(csv.DictReader(io.StringIO(text_of(report, "csv"))))
        assert len(records) == len(run.rows)
        for read, record in zip(records, report.records, strict=True):
            assert read["speed_up"] == ("" if record["speed_up"] is None else repr(record["speed_up"]))
            assert read["causal"] == "false"

    def test_markdown_has_a_rule_under_every_heading_and_no_stray_pipes(self) -> None:
        table = Table(AWKWARD, [Column("impl"), Column("a|b", "right")], [[AWKWARD, "1.50x"]])
        heading, rule, row = text_of(Report([table]), "markdown").splitlines()[2:5]
        assert rule.endswith(":|")
        bars = {line.replace("\\\\", "").replace("\\|", "").count("|") for line in (heading, rule, row)}
        assert bars == {3}

    def test_markdown_shows_numbers_as_they_are(self) -> None:
        table = Table("t", [Column("impl"), Column("n", "right")], [["x", "1.00x"], ["y", "0010"]])
        assert "0010" in text_of(Report([table]), "markdown")

    def test_latex_escapes_every_special_character(self) -> None:
        table = Table(AWKWARD, [Column("impl_1"), Column("n", "right")], [[AWKWARD, "1"]])
        text = text_of(Report([table], notes=["100% sure"]), "latex")
        marks = (r"\caption", r"1 \\")
        caption, row = (next(line for line in text.splitlines() if mark in line) for mark in marks)
        for line in (caption, row):
            assert r"a\_b \& 50\% of \#1" in line
            assert r"\$y\$" in line
        assert r"\toprule" in text
        assert text.rstrip().endswith("% 100% sure")

    @pytest.mark.parametrize("format", FORMATS)
    def test_an_empty_report_is_no_error(self, format: str) -> None:
        text_of(Report(), format)

    def test_an_unknown_format_is_refused(self, report: Report) -> None:
        with pytest.raises(UsageError, match="did you mean 'markdown'"):
            text_of(report, "markdwon")


class TestTerminal:
    @pytest.mark.parametrize("width", [80, 100, 120])
    def test_no_line_is_wider_than_the_terminal_and_no_row_wraps(
        self, wide_report: Report, width: int
    ) -> None:
        text = text_of(wide_report, "table", width)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text
        for label in ("ea-series/eager t=2", "softmax/eager"):
            assert label in text

    def test_a_split_table_repeats_the_names_and_loses_nothing(self, report: Report) -> None:
        whole = report.tables[0]
        parts = fit(whole, 60)
        assert len(parts) > 1
        assert all([row[0] for row in part.rows] == [row[0] for row in whole.rows] for part in parts)
        assert [c for part in parts for c in part.columns[1:]] == list(whole.columns[1:])

    def test_what_fits_is_left_whole(self, report: Report) -> None:
        assert fit(report.tables[0], 200) == [report.tables[0]]

    def test_markup_in_names_is_text(self) -> None:
        table = Table("[bold]t[/bold]", [Column("[i]")], [["[red]x[/red]"]])
        text = text_of(Report([table], notes=["[y]"]), "table")
        assert all(piece in text for piece in ("[bold]t[/bold]", "[i]", "[red]x[/red]", "[y]"))

    def test_nothing_is_said_by_style_alone(self, report: Report) -> None:
        plain, styled = io.StringIO(), io.StringIO()
        show(report, "table", Console(file=plain, width=100, no_color=True))
        show(report, "table", Console(file=styled, width=100, force_terminal=True))
        assert "\x1b[1m" in styled.getvalue()
        assert "\x1b" not in plain.getvalue()


class TestSummaryAndLists:
    def test_the_summary_fits_a_hundred_columns(self, wide_run: Run) -> None:
        report = summary_report(summary(wide_run))
        text = text_of(report, "table", 100)
        assert len(report.tables) == 1
        assert fit(report.tables[0], 100) == [report.tables[0]]
        assert max(map(len, text.splitlines())) <= 100
        assert "L^2.00" in text

    def test_the_summary_names_once_what_does_not_vary(self, run: Run) -> None:
        table = summary_report(summary(run)).tables[0]
        assert table.title == "Summary, op, forward, float32, non-causal"
        assert [column.title for column in table.columns] == [
            "impl", "ok", "oom", "timeout", "longest", "latency", "growth", "at",
        ]  # fmt: skip

    def test_a_summary_of_nothing_is_empty(self) -> None:
        assert summary_report([]) == Report([], [])

    def test_attentions_say_why_they_cannot_run(self) -> None:
        text = text_of(attentions_report(attentions()), "table", 80)
        assert max(map(len, text.splitlines())) <= 80
        for entry in attentions():
            assert f"{entry['attention']}/{entry['backend']}" in text
            assert all(reason in " ".join(text.split()) for reason in entry["reasons"])

    def test_the_list_says_which_attentions_decode_and_which_can_be_spread(self) -> None:
        report = attentions_report(attentions())
        named = report.notes[-1].removesuffix(".").partition(": ")[2].split(", ")
        assert named == list(dict.fromkeys(e["attention"] for e in attentions() if e["recurrent"]))
        (spread,) = (table for table in report.tables if table.title.startswith("Over ranks"))
        assert list(map(list, spread.rows)) == [
            [f"{e['attention']}/{e['backend']}", e["over_ranks"]] for e in attentions() if e["over_ranks"]
        ]
        decoding = {
            f"{entry['attention']}/{entry['backend']}" for entry in attentions() if entry["recurrent"]
        }
        assert {"ea-series/eager", "linear/eager"} <= decoding
        assert "ea-series/compile" not in decoding

    @pytest.mark.parametrize("longest", ["linear", "multi-resolution"])
    def test_the_list_fits_a_narrow_terminal_without_folding_a_line(self, longest: str) -> None:
        entries = attentions()
        entries[-1] |= {"attention": longest, "time": "O(L M D), M = C(D / H + order, order)"}
        report = attentions_report(entries)
        text = text_of(report, "table", 80)
        parts = [part for table in report.tables for part in fit(table, 80)]
        rows = sum(len(part.rows) for part in parts)
        # Title, headings, rule and a blank for each; the notes may take several lines.
        notes = "\n".join(text.splitlines()[rows + 4 * len(parts) :])
        assert " ".join(notes.split()) == " ".join(report.notes)
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text

    def test_the_list_groups_attentions_by_their_growth(self) -> None:
        entries = attentions()
        groups = {table.title: table for table in attentions_report(entries).tables}
        assert list(groups) == [
            "Quadratic in length", "Linear in length", "Backends", "Over ranks, for --ranks", "Optional packages"
        ]  # fmt: skip
        for name in attention_impls.names():
            title = f"{attention_impls.get(name).growth.capitalize()} in length"
            (row,) = (row for row in groups[title].rows if row[0] == name)
            assert row[1] == attention_impls.get(name).time
            assert row[5] == attention_impls.get(name).paper.arxiv
        listed = [row[0].split("/")[0] for title in list(groups)[:2] for row in groups[title].rows]
        assert set(listed) == set(attention_impls.names())

    def test_a_backend_that_grows_otherwise_is_listed_where_it_belongs(self) -> None:
        entries = attentions()
        linear = next(entry for entry in entries if entry["attention"] == "linear")
        entries.append({**linear, "backend": "direct", "growth": "quadratic", "recurrent": False})
        quadratic, lines = attentions_report(entries).tables[:2]
        assert [row[0] for row in quadratic.rows].count("linear/direct") == 1
        (direct,) = (row for row in quadratic.rows if row[0] == "linear/direct")
        assert direct[3] == "-"
        assert "linear" in [row[0] for row in lines.rows]
        assert "linear/direct" not in [row[0] for row in lines.rows]

    def test_the_list_tells_parameters_and_states_at_one_size(self) -> None:
        entries = {entry["attention"]: entry for entry in attentions()}
        assert entries["softmax"]["layer_params"] == 4 * 512**2
        assert entries["softmax"]["state_bytes"] == 2 * 1024 * 512 * 4  # a KV cache
        assert entries["aft-full"]["state_bytes"] is None
        assert entries["linear"]["state_bytes"] == 4 * (512**2 // 8 + 512)
        assert entries["linear"]["sizes"] == {"dim": 512, "heads": 8, "seq_len": 1024, "dtype": "float32"}
        report = attentions_report(list(entries.values()))
        cells = {row[0]: row[2:4] for table in report.tables[:2] for row in table.rows}
        assert cells["softmax"] == ["1,048,576", "4.00 MiB"]
        assert cells["aft-full"][1] == "-"
        assert cells["linear"] == ["1,048,576", "130 KiB"]
        assert any("D = 512, H = 8, L = 1k, float32" in note for note in report.notes)

    def test_the_list_says_how_to_install_what_is_optional(self) -> None:
        *_, packages = attentions_report(attentions()).tables
        assert [row[0] for row in packages.rows] == ["flash-attn", "xformers", "flash-linear-attention"]
        assert all(row[2] == f"pip install {row[0]}" for row in packages.rows)

    def test_an_environment_is_a_list_of_facts(self) -> None:
        table = key_value_table("Environment", {"cpu_model": "X", "git_commit": None})
        assert [list(row) for row in table.rows] == [["cpu model", "X"], ["git commit", "-"]]

    @pytest.mark.parametrize(
        ("ratio", "text"),
        [
            (None, "-"),
            (12.34, "12.3x"),
            (1.0, "1.00x"),
            (1234.5, "1234x"),
            (0.01234, "0.0123x"),
            (1e-5, "<0.001x"),
        ],
    )
    def test_ratios_have_three_digits(self, ratio: float | None, text: str) -> None:
        assert format_ratio(ratio) == text
