"""The documents, and the commands that stand in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from elattn_bench.cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def commands(page: Path) -> Iterator[str]:
    """The lines of the page's code blocks that call the tool."""
    written = page.read_text(encoding="utf-8")
    fenced = "\n".join(re.findall(r"```\w*\n(.*?)```", written, re.DOTALL))
    yield from re.findall(r"^\s*elattn-bench (.*)$", fenced, re.MULTILINE)
    yield from re.findall(r"^    elattn-bench (.*)$", written, re.MULTILINE)


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The command that the words call, and its parameters; nothing is run."""
    command: Any = typer.main.get_command(app)
    name = words.pop(0)
    command = command.commands[name]
    if hasattr(command, "commands"):
        name = words.pop(0) if words and words[0] in command.commands else "run"
        command = command.commands[name]
    return name, command.make_context(name, words).params
