"""A run in which every string that a stranger could have chosen tries to break out of a page."""

from __future__ import annotations

import dataclasses

from elattn_bench.rundir import Run

_BREAK = "document.title='broken'"
HOSTILE = f'</script><script>{_BREAK}</script><img src=x onerror="{_BREAK}">&\u2028' + "{{ 7 * 7 }}"


def make_hostile(run: Run) -> Run:
    """The run with such a name of an attention, device, knob, reason and argument."""
    first, second, *others = run.rows
    named = dataclasses.replace(first, attention=f"x{HOSTILE}", hyperparameters=(("knob", HOSTILE),))
    failed = dataclasses.replace(second, status="error", reason=HOSTILE, latency_ms_p50=None)
    info = {"argv": ["sweep", HOSTILE], "environment": {"device_name": HOSTILE, HOSTILE: HOSTILE}}
    return dataclasses.replace(run, info=info, rows=[named, failed, *others])
