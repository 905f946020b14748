"""Figures of more attentions than colours: a row of panels per family, every line named, nothing overlapping."""

from __future__ import annotations

from pathlib import Path

import made_up
import numpy as np
import pytest
from matplotlib.axes import Axes
from test_figures import drawn, lines_of, overflows, overlaps

import attention_impls
from attention_impls import registry
from elattn_bench.cases import Case
from elattn_bench.figures import families as figures_families
from elattn_bench.figures.families import OTHERS, REFERENCE
from elattn_bench.figures.style import Line, assign_styles
from elattn_bench.results import Outcome
from elattn_bench.rundir import Run


def plain_impls() -> list[str]:
    return [f"{name}/{attention_impls.get(name).plain}" for name in attention_impls.names()]


def crowded_run(path: Path, **axes: tuple[int, ...]) -> Run:
    """Every attention in the table, at three lengths."""
    outcomes: dict[Case, Outcome] = {}
    impls = dict.fromkeys([REFERENCE, *plain_impls()])
    for number, impl in enumerate(impls):
        for batch in axes.get("batch", (1,)):
            for dim in axes.get("dim", (64,)):
                for case in made_up.cases([impl], [256, 1024, 4096], batch=batch, dim=dim):
                    latency = (1 + number) * case.seq_len * dim * batch / 1e5
                    outcomes[case] = made_up.measured(latency, 4096 * (number + 1) * case.seq_len)
    outcomes[made_up.case("softmax/eager", seq_len=4096)] = made_up.TIMEOUT
    return made_up.write_run(path, outcomes)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """At two batches and three dims."""
    return crowded_run(tmp_path_factory.mktemp("runs") / "crowded", batch=(1, 4), dim=(64, 128, 256))


@pytest.fixture(autouse=True)
def few_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few attentions the table has, they are more than a panel takes."""
    monkeypatch.setattr(figures_families, "MOST_ATTENTIONS", 3)


def named(axes: Axes) -> set[str]:
    return {name for name in lines_of(axes) if not name.startswith("_")}


def members(family: str) -> set[str]:
    return {impl for impl in plain_impls() if registry.family(impl.partition("/")[0]) == family}


@pytest.mark.parametrize("kind", ["scaling", "latency", "memory"])
def test_every_family_has_a_row_with_its_lines_and_the_reference(tmp_path: Path, kind: str) -> None:
    figure = drawn(crowded_run(tmp_path / "run"), kind).popitem()[1]
    columns = 2 if kind == "scaling" else 1
    assert len(figure.axes) == columns * len(registry.FAMILIES)
    for axes in figure.axes:
        assert REFERENCE in named(axes)
        without_order = {label.partition(" t=")[0] for label in named(axes)}
        assert any(members(family) | {REFERENCE} == without_order for family in registry.FAMILIES)


def test_lines_of_other_families_are_grey_and_without_a_name(tmp_path: Path) -> None:
    figure = drawn(crowded_run(tmp_path / "run"), "latency").popitem()[1]
    every = set().union(*(named(axes) for axes in figure.axes))
    for axes in figure.axes:
        grey = [line for line in axes.get_lines() if line.get_color() == OTHERS]
        assert len(grey) == len(every) - len(named(axes))
        assert named(axes) <= {text.get_text() for text in axes.texts}


def test_panels_of_a_quantity_share_their_axes(tmp_path: Path) -> None:
    figure = drawn(crowded_run(tmp_path / "run"), "latency").popitem()[1]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    highest = max(np.nanmax(values) for axes in figure.axes for values in lines_of(axes).values())
    assert figure.axes[0].get_ylim()[1] > highest


def test_several_dims_are_columns_and_every_batch_is_a_file(crowded: Run) -> None:
    found = drawn(crowded, "latency")
    assert list(found) == [f"latency-op-forward-float32-full-batch{batch}" for batch in (1, 4)]
    for figure in found.values():
        assert len(figure.axes) == 3 * len(registry.FAMILIES)


@pytest.mark.parametrize("kind", ["scaling", "latency", "dim"])
def test_no_texts_overlap_or_leave_the_figure(crowded: Run, kind: str) -> None:
    for figure in drawn(crowded, kind).values():
        assert overlaps(figure) == []
        assert overflows(figure) == []


def test_within_a_family_no_two_attentions_have_a_colour(tmp_path: Path) -> None:
    rows = crowded_run(tmp_path / "run").rows
    styles = assign_styles(map(Line.of, rows))
    for family in registry.FAMILIES:
        colors = {
            row.attention: styles[row.label].color for row in rows if registry.family(row.attention) == family
        }
        assert len({*colors.values()}) == len(colors)


def test_an_attention_of_ones_own_is_in_a_family_of_its_own() -> None:
    assert registry.family("my_package:attention") == "others"
    assert registry.family("linear") == "kernelised"
