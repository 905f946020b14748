"""Tasks for a worker that are heard on their way. No torch."""

from __future__ import annotations

import os
import time

from elattn_bench.worker_process import Context


def count(context: Context, until: int, pause: float = 0.0) -> str:
    """Report 1, 2, 3, ... with a pause after each; then say so."""
    for number in range(1, until + 1):
        context.report(number)
        time.sleep(pause)
    return "counted"


def die(context: Context) -> None:
    """Report once, then leave without a word."""
    context.report("last words")
    os._exit(3)
