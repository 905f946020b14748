"""The options of ``compare --live``: those of ``sweep``, in panels of their own and with their own defaults."""

from __future__ import annotations

from copy import copy
from typing import Annotated, Any, get_args

from typer import Option
from typer.models import OptionInfo

from elattn_bench import options
from elattn_bench.defaults import LIVE_DEFAULTS

_WHAT = "What to compare, with --live"
_HOW = "How to measure, with --live"


def _as_in_sweep(option: Any, panel: str, default: str | None = None) -> OptionInfo:
    """The option of ``sweep`` for the help of ``compare``."""
    shown: OptionInfo = copy(next(each for each in get_args(option) if isinstance(each, OptionInfo)))
    shown.rich_help_panel = panel
    if default:
        shown.show_default = default
    return shown


Live = Annotated[bool, Option("--live", help="Measure now: RUN and OTHER_RUN are two impls, timed in turns.")]
SeqLen = Annotated[str | None, _as_in_sweep(options.SeqLen, _WHAT, LIVE_DEFAULTS["seq-len"])]
Dim = Annotated[str | None, _as_in_sweep(options.Dim, _WHAT)]
Order = Annotated[str | None, _as_in_sweep(options.Order, _WHAT)]
Hp = Annotated[list[str] | None, _as_in_sweep(options.Hp, _WHAT)]
Batch = Annotated[str | None, _as_in_sweep(options.Batch, _WHAT)]
Heads = Annotated[str | None, _as_in_sweep(options.Heads, _WHAT)]
Dtype = Annotated[str | None, _as_in_sweep(options.Dtype, _WHAT)]
Causal = Annotated[list[bool] | None, _as_in_sweep(options.Causal, _WHAT)]
Mode = Annotated[str | None, _as_in_sweep(options.Mode, _WHAT, LIVE_DEFAULTS["mode"])]
Level = Annotated[str | None, _as_in_sweep(options.Level, _WHAT)]
Cache = Annotated[str | None, _as_in_sweep(options.Cache, _WHAT)]
Device = Annotated[str | None, _as_in_sweep(options.Device, _HOW)]
Threads = Annotated[int | None, _as_in_sweep(options.Threads, _HOW)]
Quick = Annotated[bool, _as_in_sweep(options.Quick, _HOW)]
Rigorous = Annotated[bool, _as_in_sweep(options.Rigorous, _HOW)]
Timeout = Annotated[float | None, _as_in_sweep(options.Timeout, _HOW)]
MemoryLimit = Annotated[str | None, _as_in_sweep(options.MemoryLimit, _HOW)]
Seed = Annotated[int | None, _as_in_sweep(options.Seed, _HOW)]
InputStd = Annotated[float | None, _as_in_sweep(options.InputStd, _HOW)]
