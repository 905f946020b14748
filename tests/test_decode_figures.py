"""What figures of mode decode show: the latency of a step and the state, against the length of the context."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import made_up
from test_figures import drawn, lines_of, overflows, overlaps, texts_of

from elattn_bench import figures
from elattn_bench.rundir import Run


def decode_run(path: Path, lengths: Iterable[int] = (256, 4096, 65536)) -> Run:
    """Three impls that decode in constant time, and softmax, which does not."""
    cases = made_up.cases(
        ("softmax/sdpa", "linear/eager", "ea-series/eager"), lengths, (2, 6), mode="decode", causal=True
    )
    law = {True: made_up.UNSUPPORTED, False: made_up.measured(0.1)}
    return made_up.write_run(path, {case: law[case.attention == "softmax"] for case in cases})


def test_latency_is_that_of_a_step_against_the_context(tmp_path: Path) -> None:
    ((name, figure),) = drawn(decode_run(tmp_path / "run"), "latency").items()
    seen = [text.get_text() for text in texts_of(figure)]
    assert name == "latency-op-decode-float32-causal"
    assert "Latency per token against context length" in seen
    assert {"latency of one step", "context length L (tokens)"} <= set(seen)


def test_memory_is_the_state(tmp_path: Path) -> None:
    run = decode_run(tmp_path / "run")
    ((name, figure),) = drawn(run, "memory").items()
    assert name == "memory-op-decode-float32-causal"
    heights = lines_of(figure.axes[0])["linear/eager"]
    state = {row.state_bytes for row in run.rows if row.label == "linear/eager"}
    assert set(heights) == state


def test_what_cannot_decode_is_said_and_not_in_the_legend(tmp_path: Path) -> None:
    (figure,) = drawn(decode_run(tmp_path / "run"), "latency").values()
    seen = [text.get_text() for text in texts_of(figure)]
    assert "softmax/sdpa" not in seen
    assert any("Unsupported: softmax/sdpa." in text for text in seen)


def test_the_lead_figure_of_a_run_that_only_decodes_shows_both(tmp_path: Path) -> None:
    figure = drawn(decode_run(tmp_path / "run"), "scaling")["scaling"]
    seen = [text.get_text() for text in texts_of(figure)]
    assert "Latency per token and recurrent state against context length" in seen
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "latency of one step",
        "recurrent state",
    ]
    assert not overlaps(figure)
    assert not overflows(figure)


def test_one_context_is_enough(tmp_path: Path) -> None:
    run = decode_run(tmp_path / "run", [1024])
    assert {"scaling", "latency", "memory"} <= {kind for kind in figures.KINDS if drawn(run, kind)}
