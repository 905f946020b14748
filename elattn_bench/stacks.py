"""Stacks as they may be shown to others: where Python and its packages lie on this machine is nobody's business."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

_SOURCE = str(Path(__file__).resolve().parent.parent)


def portable(text: str) -> str:
    """The text with the files of Python, of its packages and of this tool named from their roots on."""
    roots = {*sys.path, *sysconfig.get_paths().values(), _SOURCE} - {""}
    for root in sorted(
        roots, key=len, reverse=True
    ):  # site-packages lies within the standard library's directory
        text = text.replace(f'File "{root}/', 'File "')
    return text
