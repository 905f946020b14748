"""The figure of fitted growth: curves through the medians, exponents, and crossings with their intervals."""

from __future__ import annotations

from pathlib import Path

import made_up
import numpy as np
import pytest
from matplotlib.figure import Figure
from test_figures import drawn, overflows, overlaps, texts_of

from elattn_bench import figures
from elattn_bench.cases import Case
from elattn_bench.errors import UsageError
from elattn_bench.figures import fits as figures_fits
from elattn_bench.figures.fitted import exponent_text
from elattn_bench.figures.look import Look, find_look
from elattn_bench.results import Measurement, Outcome
from elattn_bench.rundir import Run
from elattn_bench.verdicts.crossover import crossovers, format_estimate
from elattn_bench.verdicts.scaling import scalings

LOOKS = [find_look(size="single"), find_look("slides")]  # committed runs: tests/test_verdict_figures.py
LENGTHS = tuple(2**power for power in range(7, 15))


@pytest.fixture(scope="module")
def crossing(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Quadratic softmax and linear attention, which cross at L = 2000."""
    path = tmp_path_factory.mktemp("runs") / "crossing"
    return made_up.write_run(path, made_up.cases(["softmax/sdpa", "linear/eager"], LENGTHS))


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in texts_of(figure))


def fitted(figure: Figure, label: str) -> tuple[np.ndarray, np.ndarray]:
    """The curve of a line."""
    (line,) = (line for line in figure.axes[0].get_lines() if line.get_label() == f"_fit of {label}")
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def test_the_curve_runs_through_what_the_law_made(crossing: Run) -> None:
    (figure,) = drawn(crossing, "fits").values()
    lengths, latencies = fitted(figure, "linear/eager")
    assert (lengths[0], lengths[-1]) == (LENGTHS[0], pytest.approx(LENGTHS[-1]))
    assert latencies == pytest.approx(2e-3 * lengths, rel=0.05)


def test_every_line_is_named_with_its_exponent_and_verdict(crossing: Run) -> None:
    shown = words(drawn(crossing, "fits").popitem()[1])
    for line in scalings(crossing):
        assert exponent_text(line) in shown
        assert line.label in shown
    assert "quadratic" in shown
    assert "linear" in shown


def test_the_crossing_with_the_reference_is_marked_and_written_as_the_verdict_has_it(crossing: Run) -> None:
    (found,) = (item for item in crossovers(crossing, "softmax/sdpa") if item.where == "at")
    (figure,) = drawn(crossing, "fits").values()
    assert found.length
    assert format_estimate(found.length) in words(figure)
    lines = {str(line.get_label()): line for line in figure.axes[0].get_lines()}
    assert list(lines["_interval"].get_xdata()) == [found.length.low, found.length.high]  # type: ignore[arg-type]
    assert float(lines["_crossing"].get_xdata()[0]) == pytest.approx(found.length.value)  # type: ignore[index, arg-type]


def test_without_the_reference_there_are_curves_and_no_crossings(tmp_path: Path) -> None:
    run = made_up.write_run(tmp_path / "run", made_up.cases(["linear/eager"], LENGTHS))
    (figure,) = drawn(run, "fits").values()
    assert "_interval" not in {line.get_label() for line in figure.axes[0].get_lines()}
    assert "faster than" not in words(figure)


def test_lines_that_never_or_always_win_are_named(tmp_path: Path) -> None:
    def law(case: Case) -> Outcome:
        base = made_up.quadratic(case)
        assert isinstance(base, Measurement)
        factor = {"softmax/sdpa": 1.0, "linear/eager": 0.1, "efficient/eager": 10.0}[case.impl]
        return made_up.measured(base.latency_ms[5] * factor)

    impls = ["softmax/sdpa", "linear/eager", "efficient/eager"]
    run = made_up.write_run(tmp_path / "run", {case: law(case) for case in made_up.cases(impls, LENGTHS)})
    shown = words(drawn(run, "fits").popitem()[1])
    assert "Faster than softmax/sdpa at every length: linear/eager." in shown.replace("\n", " ")
    assert "At none: efficient/eager." in shown.replace("\n", " ")


def test_many_attentions_get_a_figure_for_each_family(crossing: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_fits, "is_crowded", lambda rows: True)
    found = drawn(crossing, "fits")
    assert list(found) == ["fits-op-forward-float32-full-kernelised"]
    assert "softmax/sdpa" in words(found.popitem()[1])


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.size)
def test_texts_neither_overlap_nor_leave_the_figure(run: Run, crossing: Run, look: Look) -> None:
    for each in (run, crossing):
        for _, figure in figures.draw(each, "fits", look):
            assert (overlaps(figure), overflows(figure)) == ([], [])


def test_lengths_too_few_for_a_curve_are_no_figure(tmp_path: Path) -> None:
    run = made_up.write_run(tmp_path / "run", made_up.cases(["linear/eager"], [512, 1024]))
    with pytest.raises(UsageError, match="measured at five lengths"):
        figures.plot(run, ["fits"], out_dir=tmp_path)
