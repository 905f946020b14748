"""What the pages say of quality is what the code, and the committed runs, say."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import made_up_quality
import pytest
import typer
from reading_docs import DOCS, PAGES, ROOT, commands, parsed, text
from typer.testing import CliRunner

from attention_impls import QK_NORMS
from elattn_bench.cli import app
from elattn_bench.figures.quality import KINDS
from elattn_bench.pages import __main__ as pages
from elattn_bench.pages import blocks
from elattn_bench.pages.quality import BLOCKS, OF_CODE
from elattn_bench.quality import models, plan
from elattn_bench.quality.claims import CLAIMS
from elattn_bench.quality.rows import CurveRow, QualityRow, names_of
from elattn_bench.quality.rundir import read_quality
from elattn_bench.quality.suites import SUITES
from elattn_bench.quality.tasks import TASKS

RUN = "some-run"
SEVERAL = {
    "vgg": 0.925,
    "hadamard-net-3": 0.87,
    "conv-3": 0.91,
    "softmax": 0.885,
    "efficient": 0.884,
    "mean": 0.86,
}


@pytest.mark.parametrize("page", pages.PAGES)
def test_blocks_are_what_the_code_and_the_committed_runs_say(page: str) -> None:
    filled = blocks.filled(text(page), ROOT, pages.BLOCKS)
    assert text(page) == filled, f"stale; run: make docs, or: {blocks.COMMAND}"


def test_every_block_of_the_pages_names_what_can_be_written() -> None:
    known = set(pages.BLOCKS)
    for page in PAGES:
        opened = re.findall(r"<!-- ([a-z ]+?)(?:: \S+)? -->", page.read_text(encoding="utf-8"))
        closed = re.findall(r"<!-- /([a-z ]+) -->", page.read_text(encoding="utf-8"))
        assert opened == closed
        assert set(opened) <= known
        assert not opened or str(page.relative_to(ROOT)) in pages.PAGES


def test_the_page_of_quality_has_every_block_of_the_code_and_every_committed_run() -> None:
    page = text("docs/quality.md")
    assert all(f"<!-- {name} -->" in page for name in OF_CODE)
    for path in DOCS.glob("results/*/quality.csv"):
        name = path.parent.name
        assert f"<!-- verdicts: {name} -->" in page or f"<!-- scores: {name} -->" in page
        assert f"## {path.parent.name}\n" in text("docs/results/README.md")


def test_committed_runs_are_whole() -> None:
    for path in DOCS.glob("results/*/quality.csv"):
        run = read_quality(path.parent)
        assert not run.warnings
        assert run.info["finished"]
        assert not run.info["missing"]
        assert {row.key for row in run.rows if row.network not in ("repeat-last", "bigram")} <= {
            curve.key for curve in run.curves
        }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made_up_quality.write_quality(tmp_path / blocks.RUNS / RUN, {"fashion-mnist": SEVERAL})
    return tmp_path


def test_a_block_of_verdicts_holds_the_sentences_that_the_report_prints(root: Path) -> None:
    page = blocks.filled(f"a\n<!-- verdicts: {RUN} -->\nold\n<!-- /verdicts -->\nb", root, BLOCKS)
    assert page.startswith("a\n")
    assert page.endswith("\nb")
    assert "old" not in page
    printed = CliRunner().invoke(
        app, ["quality", "report", str(root / blocks.RUNS / RUN), "-f", "markdown", "--kind", "quality"]
    )
    (quoted,) = re.findall(r"-->\n\n(.*?)\n\n<!--", page, re.DOTALL)
    sentences = [
        " ".join(each.replace("\n> ", " ").removeprefix("> ").split()) for each in quoted.split("\n>\n")
    ]
    assert len(sentences) == 2
    assert printed.stdout.startswith("\n\n".join(sentences) + "\n")
    assert all(len(line) <= 120 for line in quoted.splitlines())


def test_a_block_of_scores_holds_the_tables_that_the_report_prints(root: Path) -> None:
    page = blocks.filled(f"<!-- scores: {RUN} -->\n<!-- /scores -->", root, BLOCKS)
    printed = CliRunner().invoke(
        app, ["quality", "report", str(root / blocks.RUNS / RUN), "-f", "markdown", "--kind", "quality"]
    )
    (table,) = re.findall(r"-->\n\n(.*?)\n\n<!--", page, re.DOTALL)
    assert table in printed.stdout
    assert "| conv-3 (floor)" in table


def test_a_block_by_attention_says_what_each_has_of_softmax_and_how_sure_that_is(root: Path) -> None:
    page = blocks.filled(f"<!-- by attention: {RUN} -->\n<!-- /by attention -->", root, BLOCKS)
    *_, row, _, _ = page.splitlines()
    assert row.split(" | ")[1:] == ["88.50 (accuracy %)", "~ 99.9 %", "97.2 %", "102.8 % (`conv-3`) |"]


def test_filling_twice_changes_nothing_and_other_comments_stay(root: Path) -> None:
    page = (
        f"<!-- a note -->\n\n<!-- tasks -->\n<!-- /tasks -->\n\n<!-- lengths: {RUN} -->\n<!-- /lengths -->\n"
    )
    once = blocks.filled(page, root, BLOCKS)
    assert blocks.filled(once, root, BLOCKS) == once
    assert once.startswith("<!-- a note -->\n")


def test_a_run_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    page = blocks.filled("<!-- verdicts: none -->\n<!-- /verdicts -->", tmp_path, BLOCKS)
    assert "Not committed yet: `docs/results/none`" in page


def test_the_blocks_need_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from elattn_bench.pages import quality as q; "
    code += "print(len([write() for write in q.OF_CODE.values()]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.strip() == str(len(OF_CODE)), done.stderr


def test_outside_of_the_repository_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pages.main() == 1
    assert "README.md is not here: run this in the repository's root" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_recipes_are_told_in_full() -> None:
    page = text("docs/quality.md")
    (told,) = re.findall(r"<!-- recipes -->(.*?)<!-- /recipes -->", page, re.DOTALL)
    for suite in SUITES.values():
        (part,) = re.findall(
            rf"\*\*{suite.name}\*\*, {suite.seeds} seeds?: .*?(?=\n\*\*|\Z)", told, re.DOTALL
        )
        assert part.count("| `") >= len(suite.entries)
        for task, entry in suite.entries.items():
            (row,) = re.findall(rf"\| `{task}` \|(.*)", part)
            cells = [cell.strip() for cell in row.split("|")]
            recipe = entry.recipe
            assert cells[:3] == [str(recipe.epochs), str(recipe.batch), f"{recipe.learning_rate:g}"]
            assert cells[3] == (f"{recipe.train_examples:,}" if recipe.train_examples else "all")


def test_the_number_of_models_of_every_suite_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elattn_bench.quality.data.locate", lambda task, folders: [])
    for suite in SUITES:
        count = len(plan.make_plan({"suite": suite}).jobs)
        assert f"\n| `{suite}` | {count} |" in text("docs/quality.md")


def test_every_task_claim_norm_and_figure_is_documented() -> None:
    page = text("docs/quality.md")
    assert all(f"| `{name}` |" in page for name in (*TASKS, *QK_NORMS))
    assert all(f"| {claim.name} |" in page for claim in CLAIMS)
    assert all(f"| `{kind}` |" in text("docs/figures.md") for kind in KINDS)


def test_every_column_of_a_quality_run_is_documented() -> None:
    page = text("docs/results-format.md").partition("## A quality run")[2]
    scores, _, curves = page.partition("### Columns of curves.csv")
    assert set(names_of(QualityRow)) <= set(re.findall(r"`([a-z_0-9]+)`", scores))
    assert set(names_of(CurveRow)) <= set(re.findall(r"`([a-z_0-9]+)`", curves))


def test_options_that_the_page_of_quality_names_are_there() -> None:
    group: Any = typer.main.get_command(app)
    both = group.commands["quality"].commands.values()
    options = {
        word for each in both for option in each.params for word in (*option.opts, *option.secondary_opts)
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text("docs/quality.md"))) - {"--no-deps"} <= options


def test_commands_of_quality_in_documents_name_tasks_suites_and_models_that_there_are() -> None:
    found = 0
    for page in PAGES:
        for line in commands(page):
            words = shlex.split(line, comments=True)
            if words[0] != "quality" or words[1] == "report":
                continue
            _, given = parsed(words)
            found += 1
            assert set(given["task"] or ()) <= set(TASKS)
            assert (given["suite"] or "standard") in SUITES
            names = [name for name in (given["impl"] or "").split(",") if name and ":" not in name]
            assert set((given["qk_norm"] or "none").split(",")) <= set(QK_NORMS)
            assert not names or models.parse(names, [2], "", [])
    assert found >= 5
