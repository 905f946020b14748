"""The documents and the code say the same."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from reading_docs import DOCS, PAGES, ROOT, commands, parsed, text

import attention_impls
from elattn_bench import catalogue
from elattn_bench.analysis import leading_facet
from elattn_bench.config import read_toml
from elattn_bench.defaults import AXIS_DEFAULTS
from elattn_bench.pages import attentions, blocks
from elattn_bench.results import COLUMNS, STATUSES
from elattn_bench.rundir import SAMPLES, read_run
from elattn_bench.samples_file import read_samples
from elattn_bench.verdicts.sentences import verdicts


def test_every_column_and_status_is_documented() -> None:
    page = text("docs/results-format.md")
    written = set(re.findall(r"`([a-z_0-9]+)`", page))
    written |= {"latency_ms" + suffix for suffix in re.findall(r"`(_[a-z_0-9]+)`", page)}
    assert set(COLUMNS) <= written
    assert set(STATUSES) <= written


def test_every_attention_and_backend_is_documented() -> None:
    page = text("docs/attentions.md")
    for name in attention_impls.names():
        assert f"## {name}\n" in page
        assert f"| `{name}` |" in text("README.md")
        assert attention_impls.get(name).paper.arxiv in page
    backends = {name for each in attention_impls.names() for name in attention_impls.get(each).backends}
    assert all(f"`{backend}`" in page + text("docs/axes.md") for backend in backends)


def test_the_generated_page_is_what_the_registry_says() -> None:
    assert text(attentions.PAGE) == attentions.page(), f"it is stale; run: make docs, or: {blocks.COMMAND}"


def test_the_generated_page_tells_all_of_every_attention_and_how_to_make_it() -> None:
    page = attentions.page()
    assert blocks.COMMAND in page
    assert blocks.COMMAND.removeprefix("python ") in text("Makefile")
    for name in attention_impls.names():
        spec = attention_impls.get(name)
        (section,) = re.findall(rf"\n### {name}\n(.*?)(?=\n##|\Z)", page, re.DOTALL)
        assert page.index(f"## {spec.growth.capitalize()} in length") < page.index(f"### {name}\n")
        told = [spec.formula, f"https://arxiv.org/abs/{spec.paper.arxiv}", spec.time, spec.memory]
        told += [f"| `{backend}` |" for backend in spec.backends]
        told += [f"| `{knob.name}` | `{knob.default!r}` |" for knob in spec.hyperparameters.values()]
        told += [f"| `{operand}` |" for operand in spec.operands(catalogue.SIZES)]
        assert all(each in section for each in told)
        assert (spec.state_bytes is None) == ("recurrent state**: -" in section)
        assert ("causal form**: our extension" in section) == (spec.causal_form == "extension")


def test_the_generated_page_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from elattn_bench.pages import attentions as page; "
    words = [sys.executable, "-c", code + "print(page.page(), end='')"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout == attentions.page(), done.stderr


def test_every_row_of_the_generated_page_has_the_columns_of_its_table() -> None:
    for block in attentions.page().split("\n\n"):
        if block.startswith("|"):
            bars = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(bars) == 1, block


def test_every_axis_and_its_default_is_documented() -> None:
    page = text("docs/axes.md")
    for name, default in AXIS_DEFAULTS.items():
        assert f"`--{name}`" in page
        if default and name not in ("impl", "causal"):
            assert f"`{default}`" in page


def test_links_between_documents_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_links_to_a_heading_of_a_document_find_it() -> None:
    for page in PAGES:
        for target, heading in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
            there = (page.parent / target if target else page).read_text(encoding="utf-8")
            assert heading in map(anchor, re.findall(r"^#+ (.*)$", there, re.MULTILINE)), (
                f"{page.name}: {target}#{heading}"
            )


def anchor(heading: str) -> str:
    """As forges make it: lower case, punctuation dropped, blanks as hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_documents_are_such_that_the_tool_takes_them(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for line in commands(page):
        parsed(shlex.split(line, comments=True))


@pytest.mark.parametrize("path", sorted(DOCS.glob("results/*.toml")), ids=lambda path: path.name)
def test_committed_grids_can_be_read(path: Path) -> None:
    assert read_toml(path)


@pytest.mark.parametrize("path", sorted(file.parent for file in DOCS.glob("results/*/results.csv")), ids=str)
def test_committed_runs_can_be_read_and_hold_every_sample(path: Path) -> None:
    run = read_run(path)
    measured = {row.case_id for row in run.rows if row.ok}
    assert measured == set(read_samples(path / SAMPLES))
    assert not run.warnings
    assert run.info["finished"]


def test_the_library_example_of_the_readme_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", text("README.md"), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_leads_with_what_the_tool_says_of_the_committed_run() -> None:
    run = read_run(ROOT / "docs/results/amd-epyc-2-cores-scaling")
    found = verdicts(run, "softmax/sdpa", ["latency"])
    leading = leading_facet({each.facet for each in found})
    quoted = " ".join(text("README.md").replace("\n>", "\n").split())
    sentences = [each.sentence for each in found if each.facet == leading]
    assert len(sentences) == 6
    assert " ".join([f"{leading.text}:", *sentences]) in quoted
