"""The report as a file: what it says, that nothing in a run can break it, and where it may be written."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path

import made_up
import pytest
from hostile_run import HOSTILE, make_hostile
from reading_html import Page

from elattn_bench.analysis import Facet, in_order
from elattn_bench.cases import Case
from elattn_bench.commands.report import report
from elattn_bench.errors import UsageError
from elattn_bench.figures.palette import contrast
from elattn_bench.html import charts, colours, data, page, sections, table
from elattn_bench.results import COLUMNS, Outcome, Row, rows_of
from elattn_bench.rundir import REPORT, Run, check_vacant, read_run

RESULTS = Path(__file__).parent.parent / "docs" / "results"
REFERENCE = "softmax/sdpa"


@pytest.fixture(scope="module")
def text(run: Run) -> str:
    return page.render(run, sections.judge(run, REFERENCE, required=True), REFERENCE)


@pytest.fixture(scope="module")
def read(text: str) -> Page:
    return Page(text)


@pytest.fixture(scope="module")
def hostile(run: Run) -> Run:
    """A run in which everything that a stranger could have chosen is an attack."""
    return make_hostile(run)


class TestWhatThePageSays:
    def test_the_verdicts_come_first_and_are_those_of_the_leading_facet(self, run: Run, read: Page) -> None:
        verdicts = sections.judge(run, REFERENCE, required=True)
        assert verdicts.leading == Facet.of(run.rows[0])
        sentences = [verdict.sentence for found in verdicts.lead().values() for verdict in found]
        assert len(sentences) == 2 * len({row.label for row in run.rows if row.ok})
        places = [read.text.index(sentence) for sentence in sentences]
        assert places == sorted(places)
        assert max(places) < read.text.index("Implementations")

    def test_the_verdicts_of_other_facets_are_in_the_page_too(self, wide_run: Run) -> None:
        verdicts = _few_verdicts(wide_run)
        document = json.loads(Page(page.render(wide_run, verdicts, REFERENCE)).scripts["data"])
        assert [each[3] for each in document["verdicts"]] == [each.sentence for each in verdicts.rest()]
        assert (
            len(document["verdicts"]) == 23
        )  # two levels, two modes, two batches, three dims, but for the leading

    def test_it_counts_how_cases_ended_and_says_why(self, read: Page) -> None:
        assert "41 of 45 cases were measured, 1 ran out of memory, 3 ran out of time" in read.text
        assert "softmax/eager timeout 3 8k to 32k no end after 60 s" in read.text

    def test_it_holds_every_row_as_the_run_has_it(self, run: Run, read: Page) -> None:
        document = json.loads(read.scripts["data"])
        columns = document["columns"]
        lines = [columns["line"]["words"][code] for code in columns["line"]["codes"]]
        lengths = [columns["seq_len"]["words"][code] for code in columns["seq_len"]["codes"]]
        latencies = dict(zip(zip(lines, lengths, strict=True), columns["latency"]["numbers"], strict=True))
        assert document["count"] == len(run.rows) == len(latencies)
        for row in run.rows:
            assert latencies[row.label, row.seq_len] == (
                pytest.approx(row.latency_ms_p50, rel=1e-3) if row.ok else None
            )

    def test_the_command_is_quoted_for_a_shell(self, run: Run) -> None:
        typed = dataclasses.replace(run, info={"argv": ["sweep", "-i", "my mod:f;rm", "-o", "a'b"]})
        assert sections.command(typed) == """elattn-bench sweep -i 'my mod:f;rm' -o 'a'"'"'b'"""
        assert sections.command(dataclasses.replace(run, info={})) == ""

    def test_the_chart_starts_at_the_facet_of_the_lead_figure(self, wide_run: Run) -> None:
        rows = in_order(wide_run.rows)
        start = rows[data.start_of(rows)]
        assert (start.level, start.mode, start.batch, start.dim, start.ok) == ("op", "forward", 1, 256, True)

    def test_what_can_stand_on_an_axis_is_what_varies(self, run: Run, wide_run: Run) -> None:
        assert [axis.name for axis in charts.axes_of(run.rows)] == ["seq_len", "order"]
        assert [axis.name for axis in charts.axes_of(wide_run.rows)] == ["seq_len", "dim", "order", "batch"]

    def test_every_axis_and_quantity_has_a_logarithmic_and_a_linear_encoding(self) -> None:
        parts = charts.parts(charts.AXES, charts.QUANTITIES)
        for channel, choices in (("x", charts.AXES), ("y", charts.QUANTITIES)):
            for choice, scale in itertools.product(choices, charts.SCALES):
                encoding = parts[channel][choice.name][scale]
                assert encoding["scale"]["type"] == scale
                assert encoding["title"] == choice.title

    def test_the_table_leaves_out_what_is_alike_in_all_rows_and_says_it(self, run: Run) -> None:
        columns = data.columns_of(run.rows, {})
        shown = [heading["name"] for heading in table.shown(columns)]
        assert {"line", "seq_len", "latency", "status"} <= set(shown)
        assert not {"level", "dim", "speed_up"} & set(shown)
        assert "level op" in table.caption(columns)

    @pytest.mark.parametrize(
        "name", ["amd-epyc-2-cores", "amd-epyc-2-cores-kernels", "amd-epyc-2-cores-decode"]
    )
    def test_runs_of_every_schema_make_a_page(self, name: str) -> None:
        run = read_run(RESULTS / name)
        read = Page(page.render(run, _few_verdicts(run), REFERENCE))
        assert json.loads(read.scripts["data"])["count"] == len(run.rows)
        assert run.device_name in read.text

    def test_a_run_in_which_nothing_was_measured_makes_a_page(self, tmp_path: Path) -> None:
        run = made_up.write_run(tmp_path / "run", {made_up.case(seq_len=128): made_up.OOM})
        read = Page(page.render(run, sections.Verdicts([]), REFERENCE))
        assert "Nothing was measured" in read.text


class TestNothingInARunBreaksThePage:
    def test_strings_of_a_run_stay_text(self, hostile: Run) -> None:
        verdict = sections.Verdict(Facet.of(hostile.rows[0]), "latency", HOSTILE, HOSTILE)
        read = Page(page.render(hostile, sections.Verdicts([verdict]), HOSTILE))
        assert not read.of("img")
        assert len(read.of("script")) == 4
        assert read.text.count(" ".join(HOSTILE.split())) >= 4  # device, verdict, reason, line

    def test_the_data_come_out_of_the_script_as_they_went_in(self, hostile: Run) -> None:
        text = page.render(hostile, sections.Verdicts([]), REFERENCE)
        document = json.loads(Page(text).scripts["data"])
        reasons = document["columns"]["reason"]["words"]
        assert any(HOSTILE in (reason or "") for reason in reasons)
        raw = text[text.index('id="data">') :].partition("</script>")[0]
        assert raw.isascii()
        assert "<" not in raw.partition(">")[2]

    def test_code_of_libraries_cannot_end_its_script(self) -> None:
        assert page.code_in_script('a="</script>";b="<!--"') == 'a="<\\/script>";b="<\\!--"'

    def test_the_same_run_gives_the_same_bytes(self, run: Run, text: str) -> None:
        again = read_run(run.path)
        assert page.render(again, sections.judge(again, REFERENCE, required=True), REFERENCE) == text

    def test_nothing_is_loaded_from_anywhere(self, read: Page) -> None:
        assert all(href.startswith("#") for href in (tag["href"] for tag in read.of("a")))
        assert not [attributes for _, attributes in read.tags if "src" in attributes]
        assert not read.of("link")
        (policy,) = [tag["content"] for tag in read.of("meta") if "http-equiv" in tag]
        assert policy.startswith("default-src 'none'")
        assert "unsafe-eval" not in policy
        assert "http" not in policy


class TestEveryoneCanReadIt:
    def test_language_landmarks_and_the_skip_link_are_there(self, read: Page) -> None:
        assert read.of("html") == [{"lang": "en"}]
        assert all(len(read.of(landmark)) == 1 for landmark in ("header", "main", "footer", "h1"))
        assert read.of("a")[0]["href"] == f"#{read.of('main')[0]['id']}"

    def test_headings_never_skip_a_level(self, read: Page) -> None:
        assert read.headings[0] == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(read.headings))

    def test_every_control_has_a_label_and_every_section_a_name(self, read: Page) -> None:
        assert read.labelled == [tag["id"] for tag in read.of("select")]
        ids = {tag["id"] for _, tag in read.tags if "id" in tag}
        assert all(section["aria-labelledby"] in ids for section in read.of("section"))

    def test_letters_have_a_contrast_of_4_5_and_lines_of_3_in_both_schemes(self, text: str) -> None:
        light, dark = (
            dict(re.findall(r"(--[\w-]+): (#\w{6});", block))
            for block in re.findall(r":root \{(.*?)\n *\}", text, re.DOTALL)[-2:]
        )
        assert light["--ground"] != dark["--ground"]
        for scheme in (light, dark):
            for letters, ground in itertools.product(("--ink", "--muted", "--link"), ("--ground", "--panel")):
                assert contrast(scheme[letters], scheme[ground]) >= 4.5
            lines = [colour for name, colour in scheme.items() if name.startswith("--line-")]
            assert len(lines) == 5
            assert all(contrast(colour, scheme["--ground"]) >= 3 for colour in lines)

    def test_contrast_is_that_of_wcag(self) -> None:
        assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
        assert contrast("#767676", "#FFFFFF") == pytest.approx(4.54, abs=0.01)
        assert colours.on_dark("#000000") == "#FFFFFF"


class TestWhereItGoes:
    def test_it_lies_in_the_run_directory_and_is_replaced_there(
        self, own_run: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for _ in range(2):
            report(own_run, None, None, force=False)
            assert capsys.readouterr().out.replace("\n", "") == str(own_run / REPORT)
        assert (own_run / REPORT).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
        check_vacant(own_run, force=True)  # a sweep that replaces the run knows the file as ours

    def test_a_file_elsewhere_is_replaced_only_by_force(self, own_run: Path, tmp_path: Path) -> None:
        target = tmp_path / "mine.html"
        target.write_text("mine")
        with pytest.raises(UsageError, match="--force"):
            report(own_run, target, None, force=False)
        assert target.read_text() == "mine"
        report(own_run, target, None, force=True)
        assert target.read_text(encoding="utf-8") != "mine"

    def test_the_run_itself_is_never_written_over(self, own_run: Path) -> None:
        before = (own_run / "results.csv").read_bytes()
        with pytest.raises(UsageError, match="part of the run"):
            report(own_run, own_run / "results.csv", None, force=True)
        assert (own_run / "results.csv").read_bytes() == before

    def test_without_the_usual_reference_there_are_no_speed_ups_and_the_page_says_so(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = made_up.write_run(tmp_path / "run", dict(_laws("linear/eager"))).path
        report(path, None, None, force=False)
        assert "no crossovers" in capsys.readouterr().err
        assert (
            "No crossovers and speed-ups: --reference softmax/sdpa" in Page((path / REPORT).read_text()).text
        )
        with pytest.raises(UsageError, match="softmax/sdpa"):
            report(path, None, REFERENCE, force=False)


class TestReadingManyRows:
    def test_many_at_a_time_is_as_one_by_one(self, wide_run: Run) -> None:
        records = [row.to_csv() for row in wide_run.rows]
        read = list(rows_of(COLUMNS, [list(record.values()) for record in records]))
        assert read == [Row.from_csv(record) for record in records]
        assert len(read) > 100

    def test_columns_may_lack_or_stand_elsewhere(self) -> None:
        record = made_up_row().to_csv()
        names = [name for name in reversed(COLUMNS) if name not in ("cache", "visits")]
        (row,) = rows_of(names, [[record[name] for name in names]])
        assert row == dataclasses.replace(made_up_row(), visits=None)

    def test_a_record_of_another_length_is_refused(self) -> None:
        with pytest.raises(ValueError, match="one value per column"):
            list(rows_of(COLUMNS, [["3"]]))


@pytest.fixture
def own_run(tmp_path: Path) -> Path:
    return made_up.write_run(tmp_path / "run", dict(_laws("softmax/sdpa", "linear/eager"))).path


def made_up_row() -> Row:
    return Row.from_csv(
        {
            "schema": "3", "case_id": "a", "status": "ok", "reason": "", "attention": "softmax", "backend": "sdpa",
            "level": "op", "mode": "forward", "dtype": "float32", "device": "cpu", "causal": "false", "batch": "1",
            "heads": "8", "seq_len": "128", "dim": "64", "order": "", "latency_ms_p50": "1.5", "visits": "2",
        }
    )  # fmt: skip


def _laws(*impls: str) -> list[tuple[Case, Outcome]]:
    return [
        (case, made_up.LAWS[case.impl](case)) for case in made_up.cases(impls, (128, 256, 512, 1024, 2048))
    ]


def _few_verdicts(run: Run) -> sections.Verdicts:
    facets = dict.fromkeys(map(Facet.of, run.rows))
    return sections.Verdicts(
        [sections.Verdict(facet, "latency", "a", f"a in {facet.text}") for facet in facets]
    )
