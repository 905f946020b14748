"""What a reader sees of ranks, hosts and kinds of device: tables, sentences, records, the page of a run."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import made_up
import pytest
import spread_runs
from reading_html import Page
from test_render import text_of

from elattn_bench.analysis import Ratio
from elattn_bench.commands import compare as commands
from elattn_bench.hosts import hosts_text
from elattn_bench.html import charts, data, page, sections, table
from elattn_bench.results import Place, make_row
from elattn_bench.roofline import Ceilings
from elattn_bench.rundir import Run
from elattn_bench.tables import comparison, ranks
from elattn_bench.tables.render import FORMATS, Report
from elattn_bench.verdicts import predicted
from elattn_bench.verdicts import ranks as verdicts
from elattn_bench.verdicts.reference import METRICS, compare_to_reference

REFERENCE = "softmax/sdpa"
WIDEST = "linear/eager:op:forward:float32:full:b1:h8:L1048576:D64:r4"


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four attentions at three lengths on 1, 2 and 4 ranks."""
    return spread_runs.write_run(tmp_path_factory.mktemp("runs") / "spread", spread_runs.cases())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two kinds of device: an H100 in each of two hosts, an A100 in a third; in one piece and on 1 and 2 ranks."""
    return spread_runs.write_cluster_run(tmp_path_factory.mktemp("runs") / "cluster")


@pytest.fixture(scope="module")
def read(cluster: Run) -> Page:
    """The page of the cluster's run."""
    return Page(page.render(cluster, sections.judge(cluster, REFERENCE, required=True), REFERENCE))


def reported(run: Run) -> Report:
    return ranks.with_ranks(
        comparison.comparison_report(compare_to_reference(run, REFERENCE)), run.rows, METRICS
    )


class TestTables:
    def test_every_length_and_number_of_ranks_has_a_row(self, spread: Run) -> None:
        first = reported(spread).tables[0]
        assert first.title == "Scaling over ranks: op, forward, float32, non-causal, batch 1, heads 8, dim 64"
        assert len(first.rows) == len(spread.rows) == 36
        last = [
            "linear/eager",
            "1M",
            "4",
            "11.53 ms",
            "3.64x",
            "91 % [89, 93]",
            "9 %",
            "64.0 MiB",
            "32.5 KiB",
        ]
        assert list(first.rows[-1]) == last

    def test_the_exchange_is_what_is_not_work_where_the_work_is_known(self, spread: Run) -> None:
        none, some = (
            reported(replace(spread, rows=rows))
            for rows in ([replace(row, work_ms=None) for row in spread.rows], spread.rows)
        )
        titles = [[column.title for column in report.tables[0].columns] for report in (none, some)]
        assert "exchange" not in titles[0]
        assert ranks.EXCHANGE_NOTE not in none.notes
        shown = {tuple(row[:3]): row[titles[1].index("exchange")] for row in some.tables[0].rows}
        assert shown["linear/eager", "256k", "1"] == "-"
        assert shown["linear/eager", "256k", "2"] == "9 %"
        assert {record["exchange_share"] for record in none.records} == {None}
        (share,) = (record["exchange_share"] for record in some.records if record["case_id"] == WIDEST)
        assert share == pytest.approx(1 - 10.486 / 11.534, abs=1e-3)

    def test_work_that_took_longer_than_the_call_leaves_no_exchange(self, spread: Run) -> None:
        row = replace(spread.rows[-1], latency_ms_p50=2.0, work_ms=3.0)
        assert verdicts.exchange_share(row) == 0

    @pytest.mark.parametrize(
        ("ratio", "text"),
        [
            (Ratio(1.40, 0.68, 5.1), "1.4x"),  # whose efficiency on two ranks is "70 % [34, 254]"
            (Ratio(3.637, 3.60, 3.68), "3.64x"),
            (Ratio(12.3, 9.0, 16.0), "12x"),
            (Ratio(0.97, 0.1, 9.0), "0.97x"),
        ],
    )
    def test_a_speed_up_has_at_least_the_two_digits_of_its_efficiency(self, ratio: Ratio, text: str) -> None:
        assert ranks.times_text(ratio) == text

    def test_a_case_without_a_measurement_says_how_it_ended(self, spread: Run) -> None:
        (row,) = (row for row in reported(spread).tables[0].rows if row[:3] == ["softmax/sdpa", "1M", "1"])
        assert row[3:] == ["oom", "-", "-", "-", "-", "-"]

    def test_weak_scaling_shows_the_work_that_grows_beside_the_time(self, spread: Run) -> None:
        rows = {tuple(row[:3]): row[5:] for row in reported(spread).tables[1].rows}
        assert rows["softmax/sdpa", "256k", "4"] == ["1", "4.02x", "4.00x", "100 % [98, 102]"]
        assert rows["linear/eager", "256k", "4"][1:3] == ["1.10x", "1.00x"]

    def test_sentences_say_what_is_gained_and_what_is_received(self, spread: Run) -> None:
        said = reported(spread).lead
        assert said[0] == "Spread over ranks: op, forward, float32, non-causal, batch 1, heads 8, dim 64:"
        assert (
            "ea-series/eager t=6: at L = 1M 4 ranks are 3.85x as fast as 1, efficiency 96 % [94, 98]; a rank of 4 "
            "receives 28.0 KiB in a call whatever the length, 256k to 1M, as the formula says."
        ) in said
        (softmax,) = (sentence for sentence in said if sentence.startswith("softmax"))
        assert "4 ranks are 1.99x as fast as 2" in softmax
        assert softmax.endswith("receives 384 MiB in a call at 1M, growing as L^1.00, as the formula says.")

    def test_what_one_rank_could_not_do_is_said(self, spread: Run) -> None:
        note = "softmax/sdpa was not measured on 1 rank at L = 1M: its scaling there is over 2 ranks."
        assert note in reported(spread).notes

    def test_many_lengths_are_thinned_in_tables_and_whole_in_records(self, tmp_path: Path) -> None:
        lengths = [2**power for power in range(10, 19)]
        run = spread_runs.write_run(tmp_path / "run", spread_runs.cases(["softmax/sdpa"], lengths))
        report = reported(run)
        assert len(report.tables[0].rows) == ranks.MOST_LENGTHS * len(spread_runs.RANKS)
        assert ranks.SOME_NOTE in report.notes
        assert len(report.records) == len(run.rows)

    @pytest.mark.parametrize("width", [80, 120])
    def test_no_line_of_a_table_is_wrapped_or_cut(self, spread: Run, width: int) -> None:
        only = Report(reported(spread).tables[:2])
        lines = text_of(only, "table", width).splitlines()
        assert max(map(len, lines)) <= width
        assert "…" not in "".join(lines)

    @pytest.mark.parametrize("format", FORMATS)
    def test_every_format_has_the_bytes_that_were_counted(self, spread: Run, format: str) -> None:
        text = text_of(reported(spread), format)
        assert ("33280" if format in ("csv", "json") else "32.5") in text

    def test_records_have_the_efficiency_in_full_and_all_the_same_columns(self, spread: Run) -> None:
        records = list(csv.DictReader(io.StringIO(text_of(reported(spread), "csv"))))
        (record,) = (
            each
            for each in records
            if each["case_id"].startswith("linear") and "L1048576:D64:r4" in each["case_id"]
        )
        assert float(record["strong_efficiency"]) == pytest.approx(3.637 / 4, rel=1e-3)
        assert (record["ranks"], record["strong_first_ranks"], record["received_bytes"]) == (
            "4",
            "1",
            "33280",
        )
        document = json.loads(text_of(reported(spread), "json"))
        assert {each["independent_of_length"] for each in document["received"]} == {True, False}

    def test_a_run_that_is_not_spread_has_none_of_it(self, run: Run) -> None:
        report = comparison.comparison_report(compare_to_reference(run, REFERENCE))
        assert ranks.with_ranks(report, run.rows, METRICS) == report

    def test_the_command_shows_it_with_and_without_a_reference(
        self, spread: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        commands.compare(spread.path, None, None, "5%", None, "markdown", ["ranks=1,2"])
        commands.absolute(spread.path, None, "markdown", ["impl=linear/eager"])
        told = capsys.readouterr().out
        assert told.count("**Scaling over ranks: ") == 2
        assert "2 ranks are 1.95x as fast as 1" in told


class TestComparison:
    def test_a_case_is_compared_with_the_reference_on_as_many_ranks(self, spread: Run) -> None:
        for each in compare_to_reference(spread, REFERENCE):
            assert each.reference is not None
            assert each.reference.ranks == each.row.ranks

    def test_formulas_predict_no_crossing_of_what_is_spread(self) -> None:
        pair = [made_up.case(impl, seq_len=1024, ranks=2) for impl in ("linear/eager", REFERENCE)]
        alone = [made_up.case(impl, seq_len=1024) for impl in ("linear/eager", REFERENCE)]
        spread, whole = ([make_row(case, made_up.measured(1)) for case in cases] for cases in (pair, alone))
        assert predicted.crossing(spread[0], spread[1], Ceilings.UNKNOWN) is None
        assert predicted.crossing(whole[0], whole[1], Ceilings.UNKNOWN) is not None


class TestHosts:
    def test_hosts_and_their_devices_are_named_once(self, cluster: Run) -> None:
        told = "on 3 hosts: node-a (NVIDIA H100), node-b (NVIDIA H100), node-c (NVIDIA A100)"
        assert hosts_text(cluster.rows) == told
        assert reported(cluster).notes.count(f"Measured {told}.") == 1

    def test_efficiencies_that_relate_rows_of_different_hosts_are_counted(
        self, spread: Run, cluster: Run
    ) -> None:
        rows = [replace(row, host=f"node-{row.ranks}") for row in cluster.rows]
        note = "16 of 16 efficiencies relate rows of different hosts, whose speeds may differ."
        assert note in reported(replace(cluster, rows=rows)).notes
        assert not any("different hosts" in each for each in reported(spread).notes)

    def test_many_hosts_are_counted_rather_than_listed(self) -> None:
        rows = [
            make_row(
                made_up.case(seq_len=number), made_up.measured(1), Place(f"node-{number}", "NVIDIA H100")
            )
            for number in range(1, 8)
        ]
        assert hosts_text(rows) == "on 7 hosts: node-1, node-2, node-3, node-4 and 3 more"

    def test_one_host_goes_without_saying(self, run: Run) -> None:
        assert hosts_text(run.rows) == ""

    def test_each_kind_of_device_has_tables_of_its_own(self, cluster: Run) -> None:
        titles = [each.title for each in reported(cluster).tables if each.title.startswith("Scaling")]
        assert [title.split(", ")[4] for title in titles] == ["on A100", "on H100"]

    def test_records_name_the_host_of_each_case(self, cluster: Run) -> None:
        assert {record["host"] for record in reported(cluster).records} == {"node-a", "node-b", "node-c"}

    def test_conditions_choose_a_host_or_a_kind_of_device(
        self, cluster: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        commands.absolute(cluster.path, None, "csv", ["host=node-c"])
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert {row["device_type"] for row in rows} == {"A100"}


class TestReport:
    def test_ranks_and_kinds_of_device_are_controls_where_they_vary(self, read: Page) -> None:
        assert {"held-ranks", "held-device_type"} <= set(read.labelled)

    def test_the_table_has_ranks_bytes_and_hosts(self, read: Page) -> None:
        titles = {heading["title"] for heading in json.loads(read.scripts["data"])["table"]}
        assert {"ranks", "received, MiB", "device type", "host"} <= titles

    def test_ranks_can_stand_on_the_axis_and_bytes_received_beside_it(self, read: Page) -> None:
        chart = json.loads(read.scripts["data"])["chart"]
        assert "ranks" in chart["x"]
        assert "received" in chart["y"]

    def test_the_head_names_the_devices_and_the_hosts(self, read: Page) -> None:
        assert "NVIDIA H100 and NVIDIA A100" in read.text
        assert "measured on 3 hosts: node-a" in read.text

    def test_what_some_cases_do_not_ask_for_has_a_name(self, read: Page) -> None:
        assert "not spread" in read.text
        assert "None" not in read.text

    def test_a_run_in_one_piece_has_no_trace_of_it(self, run: Run) -> None:
        columns = data.columns_of(run.rows, {})
        assert not {"ranks", "received", "host"} & {heading["name"] for heading in table.shown(columns)}
        assert "ranks" not in table.caption(columns)
        assert "ranks" not in {axis.name for axis in charts.axes_of(run.rows)}
        assert "received" not in {quantity.name for quantity in charts.quantities_of(columns)}
