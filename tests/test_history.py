"""Histories: changes found where they are and nowhere else, whatever order, machine and files the runs come with."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import made_up
import pytest
from typer.testing import CliRunner

from elattn_bench.cases import Case
from elattn_bench.cli import app
from elattn_bench.errors import ElattnError
from elattn_bench.results import Outcome
from elattn_bench.rundir import RUN_INFO, Run, read_run
from elattn_bench.verdicts.history import History, fails, history, turns

DOCS = Path(__file__).parent.parent / "docs" / "results"
SOFTMAX, LINEAR = made_up.case("softmax/sdpa"), made_up.case("linear/eager")


def write(path: Path, latencies: dict[Case, float | Outcome], **info: Any) -> Run:
    """A run on disk with these median latencies in ms, and more in its run.json."""
    outcomes = {
        case: made_up.measured(value, noise=0.2) if isinstance(value, float) else value
        for case, value in latencies.items()
    }
    environment = {**made_up.ENVIRONMENT, **info.pop("environment", {})}
    made_up.write_run(path, outcomes, environment)
    known = json.loads((path / RUN_INFO).read_text())
    (path / RUN_INFO).write_text(json.dumps({**known, **info}))
    return read_run(path)


def started(number: int) -> str:
    return f"2026-01-{number + 1:02d}T12:00:00+00:00"


def wobble(number: int) -> float:
    """A run's own share of noise, of about a hundredth."""
    return 1 + 0.01 * math.sin(7 * number)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve runs: softmax stays, linear takes a third from the ninth on, sata comes late, element-wise fails."""
    place = tmp_path_factory.mktemp("history")
    for number in range(12):
        latencies: dict[Case, float | Outcome] = {
            SOFTMAX: 10.0 * wobble(number),
            LINEAR: (3.0 if number < 8 else 1.0) * wobble(number + 1),
            made_up.case("element-wise/eager"): made_up.ERROR if number > 3 else 5.0 * wobble(number),
        }
        if number >= 10:
            latencies[made_up.case("hadamard/eager")] = 1.0
        # Names in another order than times.
        write(place / f"{'zyxwvutsrqpo'[number]}-run", latencies, started=started(number))
    return place


@pytest.fixture(scope="module")
def found(directory: Path) -> History:
    runs = [read_run(path) for path in sorted(directory.iterdir(), reverse=True) if path.is_dir()]
    return history(runs)


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, ["history", *map(str, words)], env={"COLUMNS": "80"})


class TestHistory:
    def test_each_case_gets_the_verdict_of_its_last_change(self, found: History) -> None:
        verdicts = {case.latest.attention: case.verdict for case in found.cases}
        assert verdicts == {
            "softmax": "same", "linear": "faster", "element-wise": "failed", "hadamard": "few runs",
        }  # fmt: skip

    def test_a_change_is_named_by_the_run_that_brought_it(self, found: History) -> None:
        (turn,) = turns(found)
        assert (turn.before, turn.after, turn.verdict) == (7, 8, "faster")
        assert turn.ratio == pytest.approx(1 / 3, rel=0.03)

    def test_nothing_fails_where_nothing_got_slower_but_an_error_does(self, found: History) -> None:
        assert fails(found, "slower") == []
        (sentence,) = fails(found, "error")
        assert sentence.startswith("element-wise/eager")

    def test_a_case_that_failed_once_measured_fails_since_that_run(self, found: History) -> None:
        (sentence,) = fails(found, "failed")
        assert sentence.startswith("element-wise/eager")
        assert ": error since v-run: " in sentence

    def test_a_case_that_failed_first_and_is_measured_now_does_not_fail(self, found: History) -> None:
        backwards = history(found.runs[::-1])
        assert fails(backwards, "failed") == []
        assert "failed" not in {case.verdict for case in backwards.cases}

    def test_a_case_that_failed_and_was_taken_out_of_the_sweep_fails_no_later_run(
        self, found: History, tmp_path: Path
    ) -> None:
        longer = history([*found.runs, write(tmp_path / "later", {SOFTMAX: 10.0})])
        assert "failed" in {case.verdict for case in longer.cases}
        assert fails(longer, "failed") == []

    def test_read_backwards_it_got_slower(self, found: History) -> None:
        (sentence,) = fails(history(found.runs[::-1]), "slower")
        assert "takes 2.98x the time since s-run" in sentence
        assert sentence.startswith("linear/eager")

    def test_memory_that_one_run_doubled_is_found_at_once(self, tmp_path: Path) -> None:
        runs = [
            write(tmp_path / str(n), {SOFTMAX: made_up.measured(wobble(n), 1024 if n < 5 else 2048)})
            for n in range(6)
        ]
        found = history(runs, "memory")
        assert [case.verdict for case in found.cases] == ["more"]
        assert turns(found)[0].ratio == pytest.approx(2)
        assert fails(found, "memory")

    def test_memory_of_no_bytes_is_a_value_and_counts_as_one_byte_in_ratios(self, tmp_path: Path) -> None:
        runs = [
            write(tmp_path / str(n), {SOFTMAX: made_up.measured(wobble(n), 0 if n < 5 else 1000 * 2**20)})
            for n in range(8)
        ]
        (case,) = history(runs, "memory").cases
        assert case.verdict == "more"
        assert case.points[0].value == 0
        assert case.last_step is not None
        assert case.last_step.ratio.value == pytest.approx(1000 * 2**20)

    def test_memory_that_is_always_no_bytes_is_the_same(self, tmp_path: Path) -> None:
        runs = [write(tmp_path / str(n), {SOFTMAX: made_up.measured(wobble(n), 0)}) for n in range(5)]
        assert [case.verdict for case in history(runs, "memory").cases] == ["same"]

    def test_a_change_in_one_disturbed_run_alone_is_unclear(self, tmp_path: Path) -> None:
        runs = [
            write(tmp_path / str(n), {SOFTMAX: made_up.measured(wobble(n) * (1 if n < 9 else 2), noise=0.2)})
            for n in range(10)
        ]
        assert [case.verdict for case in history(runs).cases] == ["slower"]
        last = tmp_path / "9" / "results.csv"
        last.write_text(last.read_text().replace(",stable,", ",noisy,"))
        disturbed = history([*runs[:-1], read_run(tmp_path / "9")])
        assert [case.verdict for case in disturbed.cases] == ["unclear"]
        assert turns(disturbed) == []


class TestControl:
    """The machine is slower by up to a third, now and then; the control case, where there is one, sees it."""

    @staticmethod
    def runs(place: Path, **torch: str) -> list[Run]:
        speeds = [1.0, 1.3, 1.1, 1.0, 1.2, 1.3, 1.0, 1.1, 1.3, 1.2]
        return [
            write(
                place / str(number),
                {SOFTMAX: 10.0 * speed * wobble(number), LINEAR: 3.0 * speed * wobble(number + 1)},
                control={"sessions": [{"visits": [{"status": "ok", "latency_ms_p50": 6.0 * speed}]}]},
                environment={"torch": torch.get(f"run_{number}", "2.9")},
            )
            for number, speed in enumerate(speeds)
        ]

    def test_latencies_are_judged_over_it_where_that_takes_away_noise(self, tmp_path: Path) -> None:
        found = history(self.runs(tmp_path))
        assert found.relative
        assert [case.verdict for case in found.cases] == ["same", "same"]
        assert found.speeds[1] == pytest.approx(1.3)

    def test_not_where_torch_changed_whose_kernel_it_is(self, tmp_path: Path) -> None:
        found = history(self.runs(tmp_path, run_9="2.10"))
        assert not found.relative
        assert {case.verdict for case in found.cases} == {"unclear"}


class TestMachine:
    """From the seventh run on all takes longer, torch's own kernel too: the machine; linear got slower before."""

    @staticmethod
    def runs(place: Path, reference: Case) -> list[Run]:
        return [
            write(
                place / str(number),
                {
                    reference: 10.0 * wobble(number) * (1 if number < 6 else 1.5),
                    LINEAR: 3.0 * wobble(number + 1) * (1 if number < 3 else 2),
                    made_up.case("efficient/eager"): 4.0 * wobble(number + 2) * (1 if number < 6 else 1.4),
                },
                started=started(number),
            )
            for number in range(12)
        ]

    def test_a_run_that_changed_the_kernel_of_torch_is_marked_and_no_other(self, tmp_path: Path) -> None:
        assert history(self.runs(tmp_path, SOFTMAX)).machine_changed == {6}

    @pytest.mark.parametrize(
        "reference", [made_up.case("softmax/eager"), made_up.case("softmax/sdpa", level="layer")]
    )
    def test_code_of_ours_says_nothing_of_the_machine(self, tmp_path: Path, reference: Case) -> None:
        assert history(self.runs(tmp_path, reference)).machine_changed == set()

    def test_bytes_say_nothing_of_the_machine(self, tmp_path: Path) -> None:
        runs = [
            write(tmp_path / str(n), {SOFTMAX: made_up.measured(wobble(n), 1024 if n < 5 else 2048)})
            for n in range(8)
        ]
        assert history(runs, "memory").machine_changed == set()

    def test_what_fails_since_then_says_so_and_what_failed_before_does_not(self, tmp_path: Path) -> None:
        sentences = fails(history(self.runs(tmp_path, SOFTMAX)), "slower")
        told = {sentence.split("/")[0]: "the machine changed there too" in sentence for sentence in sentences}
        assert told == {"softmax": True, "linear": False, "efficient": True}

    def test_the_tables_mark_the_run_and_a_note_says_what_that_means(self, tmp_path: Path) -> None:
        self.runs(tmp_path, SOFTMAX)
        done = invoke(tmp_path, "-o", tmp_path / "plots")
        assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= 80
        marked = [line.split()[0] for line in done.stdout.splitlines() if "6* " in line and "x  [" in line]
        assert marked == ["softmax/sdpa", "efficient/eager"]
        assert "* 6: the machine changed too, for cases of softmax/sdpa did" in " ".join(done.stdout.split())

    def test_the_document_has_the_mark(self, tmp_path: Path) -> None:
        self.runs(tmp_path, SOFTMAX)
        document = json.loads(invoke(tmp_path, "--format", "json", "-o", tmp_path / "plots").stdout)
        assert document["machine_changed"] == ["6"]
        assert {turn["to"]: turn["machine_changed"] for turn in document["turns"]} == {"3": False, "6": True}

    def test_without_such_cases_a_note_asks_for_them(self, tmp_path: Path) -> None:
        self.runs(tmp_path, made_up.case("softmax/eager"))
        said = " ".join(invoke(tmp_path, "-o", tmp_path / "plots").stdout.split())
        assert "sweep softmax/sdpa too, at level op, to be told of that" in said

    def test_the_committed_runs_of_which_the_machine_slowed_two_are_marked(self) -> None:
        place = DOCS / "amd-epyc-2-cores-history"
        found = history([read_run(path) for path in sorted(place.iterdir()) if (path / RUN_INFO).is_file()])
        assert {found.runs[index].name for index in found.machine_changed} == {"05-ed0748d", "07-8c0436f"}


class TestCommand:
    def test_runs_are_in_the_order_of_their_start_whatever_their_names(
        self, directory: Path, tmp_path: Path
    ) -> None:
        done = invoke(directory, "--format", "json", "-o", tmp_path)
        assert done.exit_code == 0
        document = json.loads(done.stdout)
        assert [run["run"][0] for run in document["history"]] == list("zyxwvutsrqpo")
        (turn,) = document["turns"]
        assert (turn["from"], turn["to"]) == ("s-run", "r-run")

    def test_a_failed_case_shows_its_status_and_not_what_it_once_took(
        self, directory: Path, tmp_path: Path
    ) -> None:
        done = invoke(directory, "--fail-on", "failed", "-o", tmp_path)
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("element-wise/eager")]
        assert line.split()[2:] == ["error", "-", "-", "v-run", "failed"]
        assert done.exit_code == 3

    def test_memory_that_was_no_bytes_once_is_drawn_and_explained(self, tmp_path: Path) -> None:
        for n in range(8):
            latency = made_up.measured(wobble(n), 0 if n < 5 else 1000 * 2**20)
            write(tmp_path / str(n), {SOFTMAX: latency}, started=started(n))
        done = invoke(tmp_path, "--metric", "memory")
        assert done.exit_code == 0
        assert "0 bytes are taken as 1 byte in ratios." in done.stdout
        assert "not measured in the first run" not in done.stdout
        assert (tmp_path / "plots" / "history-memory.png").is_file()

    def test_without_a_start_the_order_is_that_of_names_and_a_warning_says_so(
        self, directory: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(directory, copy)
        info = copy / "z-run" / RUN_INFO
        info.write_text(info.read_text().replace('"started"', '"begun"'))
        done = invoke(copy, "--format", "json", "-o", tmp_path)
        assert "z-run: run.json does not say when" in done.stderr
        assert [run["run"][0] for run in json.loads(done.stdout)["history"]] == list("opqrstuvwxyz")

    def test_the_tables_fit_a_terminal_of_80_columns_in_one_part(
        self, directory: Path, tmp_path: Path
    ) -> None:
        done = invoke(directory, "-o", tmp_path)
        assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= 80
        assert "(1 of 2)" not in done.stdout
        assert "s-run  r-run" in done.stdout
        assert "1 cases are measured in fewer than 4 runs and left out: of hadamard/eager." in done.stdout

    @pytest.mark.parametrize("format", ["markdown", "latex", "csv"])
    def test_every_format_names_every_case_of_enough_runs(
        self, directory: Path, tmp_path: Path, format: str
    ) -> None:
        done = invoke(directory, "--format", format, "-o", tmp_path)
        assert all(name in done.stdout for name in ("softmax", "linear", "element-wise"))

    def test_the_figure_is_drawn_in_every_format_asked_for(self, directory: Path, tmp_path: Path) -> None:
        done = invoke(directory, "--figure", "png,svg", "-o", tmp_path)
        assert done.exit_code == 0
        assert {path.name for path in tmp_path.iterdir()} == {"history.png", "history.svg"}

    def test_long_names_are_numbers_in_tables_and_are_told_below(
        self, directory: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "copy"
        for path in directory.iterdir():
            shutil.copytree(path, copy / f"2026-01-01-{path.name}-of-the-nightly-sweep")
        done = invoke(copy, "-o", tmp_path)
        assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= 80
        assert "run 8  " in done.stdout
        assert "run 9 = 2026-01-01-r-run-of-the-nightly-sweep" in " ".join(done.stdout.split())

    def test_a_broken_run_is_named_and_left_out(self, directory: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(directory, copy / "machine")
        (copy / "machine" / "q-run" / "results.csv").write_text("")
        done = invoke(copy, "--format", "json", "-o", tmp_path)
        assert done.exit_code == 0
        assert "left out" in done.stderr
        assert "q-run" in done.stderr
        assert len(json.loads(done.stdout)["history"]) == 11

    def test_runs_of_two_machines_are_refused_with_what_differs(
        self, directory: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(directory, copy)
        write(copy / "other", {SOFTMAX: 1.0}, started=started(20), environment={"threads": 64})
        error = invoke(copy, "-o", tmp_path).exception
        assert isinstance(error, ElattnError)
        assert "threads 64: other" in str(error)
        assert invoke(copy, "--force", "-o", tmp_path).exit_code == 0

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["nowhere"], "no such directory"),
            ([DOCS / "amd-epyc-2-cores"], "is a run, and a history is of many"),
            ([DOCS / "amd-epyc-2-cores" / "plots"], "holds no run"),
            ([DOCS, "--force", "--metric", "params"], "not one of latency, memory"),
            ([DOCS, "--force", "--metric", "memory", "--fail-on", "slower"], "judges latency"),
            ([DOCS, "--figure", "gif"], "not one of png, svg, pdf"),
        ],
    )
    def test_what_makes_no_sense_is_refused_with_the_reason(self, words: list[object], said: str) -> None:
        error = invoke(*words).exception
        assert isinstance(error, ElattnError)
        assert said in str(error)

    def test_slower_ends_with_exit_code_3_and_says_since_when(self, tmp_path: Path) -> None:
        for number in range(8):
            latency = 3.0 * wobble(number) * (1 if number < 4 else 2)
            write(tmp_path / f"r{number}", {LINEAR: latency}, started=started(number))
        done = invoke(tmp_path, "--fail-on", "slower")
        assert done.exit_code == 3
        assert "since r4" in done.stderr
        assert (tmp_path / "plots" / "history.png").is_file()

    def test_committed_runs_of_all_schemas_are_read(self, tmp_path: Path) -> None:
        done = invoke(DOCS, "--force", "--format", "json", "-o", tmp_path)  # of 2 threads, and of 1
        assert done.exit_code == 0, done.stderr
        assert len(json.loads(done.stdout)["history"]) >= 5


def test_a_figure_of_many_lines_shows_those_that_changed_and_says_what_is_left_out(tmp_path: Path) -> None:
    from elattn_bench.figures.history import MOST_PANELS, draw_history
    from elattn_bench.figures.history_panel import panels_of

    cases = [made_up.case("softmax/sdpa", dim=64 * size) for size in range(1, 20)]
    runs = [
        write(
            tmp_path / str(n),
            {case: wobble(n + case.dim) * (2 if n > 3 and case.dim == 640 else 1) for case in cases},
        )
        for n in range(8)
    ]
    found = history(runs)
    figure = draw_history(found)
    assert panels_of(found)[0].facet.dim == 640
    assert len(figure.axes) == MOST_PANELS
    header = " ".join(text.get_text() for text in figure.texts)
    assert "Not shown: 7 of 19 lines, 0 of them changed." in header
