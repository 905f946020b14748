"""What figures of mode decode show: the latency of a step and the state, against the length of the context."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import made_up
from test_figures import drawn, lines_of, overflows, overlaps, texts_of

from elattn_bench import figures
from elattn_bench.rundir import Run


def decode_run(path: Path, lengths: Iterable[int] = (256, 4096, 65536)) -> Run:
    """Two attentions that decode in constant time, and a backend that does not decode."""
    cases = made_up.cases(
        ("softmax/cudnn", "linear/eager", "ea-series/eager"), lengths, (2, 6), mode="decode", causal=True
    )
    law = {True: made_up.UNSUPPORTED, False: made_up.measured(0.1)}
    return made_up.write_run(path, {case: law[case.attention == "softmax"] for case in cases})


def cached_run(path: Path, batches: Iterable[int] = (1, 8)) -> Run:
    """Caches whose steps take longer after longer contexts, and states of fixed size beside them."""
    cases = [
        case
        for batch in batches
        for case in made_up.cases(
            ("softmax/sdpa", "softmax/eager", "element-wise/eager", "linear/eager", "ea-series/eager"),
            (256, 4096, 65536), (2, 6), mode="decode", causal=True, batch=batch,
        )
    ]  # fmt: skip
    grows = ("softmax", "element-wise")
    return made_up.write_run(
        path,
        {
            case: made_up.measured(1e-4 * case.seq_len * case.batch if case.attention in grows else 0.1)
            for case in cases
        },
    )


def test_a_figure_per_batch_shows_latency_and_state(tmp_path: Path) -> None:
    run = cached_run(tmp_path / "run")
    found = drawn(run, "decode")
    assert list(found) == [f"decode-float32-batch{batch}-heads8-dim64" for batch in (1, 8)]
    for batch, figure in zip((1, 8), found.values(), strict=True):
        latency, state = figure.axes
        for axes, quantity in ((latency, "latency_ms_p50"), (state, "state_bytes")):
            lines = lines_of(axes)
            assert set(lines) == {row.label for row in run.rows}
            for label, heights in lines.items():
                rows = [row for row in run.rows if (row.label, row.batch) == (label, batch)]
                assert list(heights) == [getattr(row, quantity) for row in rows]
                growth = heights[-1] / heights[0]
                assert growth == 1 if label.startswith(("linear", "ea-series")) else abs(growth - 256) < 1e-6
        assert not overlaps(figure)
        assert not overflows(figure)


def test_lines_that_cover_each_other_are_named(tmp_path: Path) -> None:
    run = cached_run(tmp_path / "run")
    for kind, count in (("decode", 2), ("memory", 1), ("latency", 0)):
        figures_of = drawn(run, kind).values()
        texts = [" ".join(text.get_text() for text in texts_of(figure)) for figure in figures_of]
        said = "States of one size: element-wise/eager, softmax/eager, softmax/sdpa."
        assert sum(said in text for text in texts) == count


def test_a_run_that_decodes_nothing_has_no_such_figure(run: Run) -> None:
    assert not drawn(run, "decode")


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
    assert "softmax/cudnn" not in seen
    assert any("Unsupported: softmax/cudnn." in text for text in seen)


def test_the_lead_figure_of_a_run_that_only_decodes_shows_both(tmp_path: Path) -> None:
    figure = drawn(decode_run(tmp_path / "run"), "scaling")["scaling"]
    seen = [text.get_text() for text in texts_of(figure)]
    assert "Latency per token and state against context length" in seen
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "latency of one step",
        "state: sums, or a KV cache",
    ]
    assert not overlaps(figure)
    assert not overflows(figure)


def test_one_context_is_enough(tmp_path: Path) -> None:
    run = decode_run(tmp_path / "run", [1024])
    assert {"scaling", "latency", "memory", "decode"} <= {kind for kind in figures.KINDS if drawn(run, kind)}
