"""What a sweep is asked to do: defaults, a TOML file, flags; merged, checked, and turned into cases."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import attention_impls
from attention_impls.nouns import ELEMENT_SIZE
from elattn_bench import device as devices
from elattn_bench import knob_axes
from elattn_bench.axis import Axis
from elattn_bench.cases import CACHES, LEVELS, MODES, Case, Grid, Impl
from elattn_bench.defaults import AXIS_DEFAULTS, DEFAULT_ORDERS, QUICK_TIMEOUT, RUN_DEFAULTS
from elattn_bench.environment import total_memory
from elattn_bench.errors import UsageError
from elattn_bench.knobs import word_of
from elattn_bench.names import check_names, nearest
from elattn_bench.stats import BUDGETS, Budget
from elattn_bench.units import Bytes, Seconds, parse_memory_limit

Settings: TypeAlias = Mapping[str, str]
"""Option name, as on the command line without dashes in front, to its text."""

GRID_TABLE = "grid"
ALL = "all"  # impls: every attention that there is
BUDGET_FLAGS = ("quick", "rigorous")
OUTPUT = "output"
LARGEST_SEED = 2**63 - 1  # of torch's generators
MOST_THREADS = 1024  # more cores than any machine has; beyond, starting them fails in the operating system
LARGEST_SWEEP = 100_000  # cases; more would take days and is a slip of the finger


@dataclass(frozen=True, slots=True)
class Plan:
    """A sweep, ready to run.

    settings: the merged text of every option, and of every ``[[grid]]``; written to run.json.
    """

    settings: Mapping[str, Any]
    cases: Sequence[Case]
    budget: Budget
    device: str
    timeout: Seconds
    memory_limit: Bytes
    threads: int | None
    seed: int
    input_std: float = 1.0


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a config file; option names with ``-`` or ``_``, lists instead of commas allowed.

    Raises:
        UsageError: it cannot be read, is not TOML, or has unknown keys.
    """
    try:
        parsed = _load_toml(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UsageError(f"{path}: is not TOML: {error}") from None
    grids = parsed.pop(GRID_TABLE, [])
    if not isinstance(grids, list) or not all(isinstance(grid, dict) for grid in grids):
        raise UsageError(f"{path}: '{GRID_TABLE}' is a list of tables; write [[{GRID_TABLE}]]")
    run_options = [name for name in RUN_DEFAULTS if name != "budget"]
    known_here = [*AXIS_DEFAULTS, *run_options, *BUDGET_FLAGS, OUTPUT]
    settings: dict[str, Any] = _texts(path, parsed, known_here)
    if grids:
        settings[GRID_TABLE] = [_texts(path, grid, list(AXIS_DEFAULTS)) for grid in grids]
    return settings


def _load_toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    with path.open("rb") as stream:
        return tomllib.load(stream)


def is_complete(settings: object) -> bool:
    """Whether these are settings as ``merge`` makes them: every option's text, and grids of texts."""
    if not isinstance(settings, dict):
        return False
    grids = settings.get(GRID_TABLE, [])
    options = [settings.get(name) for name in (*AXIS_DEFAULTS, *RUN_DEFAULTS)]
    return (
        isinstance(grids, list)
        and all(isinstance(grid, dict) for grid in grids)
        and all(
            isinstance(text, str) for text in (*options, *(text for grid in grids for text in grid.values()))
        )
    )


def _texts(path: Path, table: Mapping[str, Any], known: Sequence[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for key, value in table.items():
        name = key.replace("_", "-")
        if name not in known:
            near = nearest(name, known)
            hint = f" (did you mean '{near}'?)" if near else ""
            if name in RUN_DEFAULTS or name in BUDGET_FLAGS:
                hint = " here: it holds for the whole sweep, so it stands above the grids"
            raise UsageError(f"{path}: unknown key '{key}'{hint}; known: {', '.join(known)}")
        if name in texts:
            raise UsageError(f"{path}: '{name}' is there twice, once as '{key}'; keep one")
        texts[name] = _checked_text(path, key, name, value)
    return texts


def _checked_text(path: Path, key: str, name: str, value: object) -> str:
    if name == knob_axes.OPTION and isinstance(value, dict):
        return ",".join(_knob_texts(path, key, value))
    if name in BUDGET_FLAGS and not isinstance(value, bool):
        raise UsageError(f"{path}: {key} = {value!r}: is a switch; write true or false")
    if name == OUTPUT and not (isinstance(value, str) and value):
        raise UsageError(f"{path}: {key} = {value!r}: is no directory; write a path in quotes")
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(item, (dict, list)) for item in values):
        raise UsageError(f"{path}: {key} = {value!r}: write one value, or a list of values")
    return as_text(values)


def _knob_texts(path: Path, key: str, table: Mapping[str, Any]) -> Iterator[str]:
    """``latents=64,256`` for every entry; of a table in it ``perceiver.latents=64``, as TOML reads dots."""
    for knob, value in table.items():
        if isinstance(value, dict):
            yield from _knob_texts(path, f"{key}.{knob}", value)
        else:
            name = f"{key}.{knob}"
            yield f"{name.partition('.')[2]}={_checked_text(path, name, name, value)}"


def as_text(value: object) -> str:
    """An option's value as on the command line: commas between many, ``true``, ``60``."""
    if isinstance(value, list):
        return ",".join(map(as_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return word_of(value) if isinstance(value, float) else str(value)


def merge(config: Mapping[str, Any], flags: Settings) -> dict[str, Any]:
    """Defaults, overridden by the config file, overridden by the flags that were given.

    A flag that names an axis also overrides it in every ``[[grid]]``.
    """
    config, flags = _name_budget(config), _name_budget(flags)
    merged: dict[str, Any] = {**AXIS_DEFAULTS, **RUN_DEFAULTS, **config, **flags}
    if merged["budget"] == "quick" and "timeout" not in {**config, **flags}:
        merged["timeout"] = QUICK_TIMEOUT
    if GRID_TABLE in config:
        merged[GRID_TABLE] = [{**grid, **_only_axes(flags)} for grid in config[GRID_TABLE]]
    return merged


def _name_budget(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with ``quick`` or ``rigorous``, which exclude each other, as the name of a budget."""
    asked = [name for name in BUDGET_FLAGS if settings.get(name) == "true"]
    if len(asked) > 1:
        raise UsageError("--quick and --rigorous exclude each other; give one")
    rest = {name: text for name, text in settings.items() if name not in BUDGET_FLAGS}
    return {**rest, "budget": asked[0]} if asked else rest


def _only_axes(settings: Mapping[str, Any]) -> dict[str, str]:
    return {name: text for name, text in settings.items() if name in AXIS_DEFAULTS}


def continued(stored: Mapping[str, Any], flags: Settings) -> dict[str, Any]:
    """The settings of a run that is resumed: its own. Flags may repeat them, not change them.

    Raises:
        UsageError: a flag differs from what the run was started with.
    """
    for name, text in _name_budget(flags).items():
        if text != stored.get(name):
            flag = f"--{text}" if name == "budget" else f"--{name}"
            raise UsageError(
                f"{flag}: the run was started with {name} '{stored.get(name)}', and --resume completes it as "
                f"it was; drop {flag}, or sweep into another directory"
            )
    return dict(stored)


def make_plan(settings: Mapping[str, Any]) -> Plan:
    """The plan that the settings describe.

    Raises:
        UsageError: an option breaks its rule.
    """
    device = devices.detect(settings["device"])
    return Plan(
        settings=settings,
        cases=_cases(settings, device),
        budget=BUDGETS[settings["budget"]],
        device=device,
        timeout=_positive("timeout", settings["timeout"], "60"),
        memory_limit=memory_limit(settings["memory-limit"], device),
        threads=_whole("threads", settings["threads"], 1, MOST_THREADS) if settings["threads"] else None,
        seed=_whole("seed", settings["seed"], 0, LARGEST_SEED),
        input_std=_positive("input-std", settings["input-std"], "0.5"),
    )


def _cases(settings: Mapping[str, Any], device: str) -> list[Case]:
    base = _only_axes(settings)
    axes = [{**base, **grid} for grid in settings.get(GRID_TABLE) or [{}]]
    grids = [_grid(each, device) for each in axes]
    _check_orders(axes, grids)
    _check_knobs(axes, grids)
    _check_size(grids)
    return list(dict.fromkeys(case for grid in grids for case in grid.cases()))


def _check_orders(axes: Sequence[Settings], grids: Sequence[Grid]) -> None:
    asked = [each["order"] for each in axes if each["order"]]
    impls = [impl for grid in grids for impl in grid.impls]
    if asked and not any(impl.has_order for impl in impls):
        names = ", ".join(dict.fromkeys(map(str, impls)))
        raise UsageError(
            f"--order {asked[0]}: none of {names} has a polynomial order; add ea-series or drop --order"
        )


def _check_knobs(axes: Sequence[Settings], grids: Sequence[Grid]) -> None:
    """What stands above several grids must reach an attention of one of them."""
    reached: dict[str, list[str]] = {}
    for each, grid in zip(axes, grids, strict=True):
        reached.setdefault(each[knob_axes.OPTION], []).extend(impl.attention for impl in grid.impls)
    for text, attentions in reached.items():
        knob_axes.check_reach(knob_axes.parse(text), list(dict.fromkeys(attentions)))


def _check_size(grids: Sequence[Grid]) -> None:
    count = sum(grid.upper_bound() for grid in grids)
    if count > LARGEST_SWEEP:
        raise UsageError(f"the grid spans {count:,} cases, more than {LARGEST_SWEEP:,}; take larger steps")


def _grid(axes: Settings, device: str) -> Grid:
    impls = tuple(dict.fromkeys(map(Impl.parse, _impl_names(axes))))
    requests = knob_axes.parse(axes[knob_axes.OPTION])
    attentions = dict.fromkeys(impl.attention for impl in impls)
    return Grid(
        impls=impls,
        seq_len=Axis.parse("seq-len", axes["seq-len"]).values,
        dim=Axis.parse("dim", axes["dim"]).values,
        order=Axis.parse("order", axes["order"] or DEFAULT_ORDERS, minimum=0).values,
        batch=Axis.parse("batch", axes["batch"]).values,
        heads=Axis.parse("heads", axes["heads"]).values,
        dtype=_choices("dtype", axes, list(ELEMENT_SIZE)),
        causal=tuple(text == "true" for text in _choices("causal", axes, ["true", "false"])),
        mode=_choices("mode", axes, list(MODES)),
        level=_choices("level", axes, list(LEVELS)),
        device=device,
        cache=_choices("cache", axes, list(CACHES)),
        knobs=tuple(axis for name in attentions for axis in knob_axes.axes_of(requests, name)),
        ranks=Axis.parse("ranks", axes["ranks"]).values if axes["ranks"] else (None,),
        device_type=tuple(dict.fromkeys(_words(axes, "device-type"))) if axes["device-type"] else ("",),
    )


def _impl_names(axes: Settings) -> Iterator[str]:
    """The words of ``--impl``, ``all`` spelt out."""
    for word in _words(axes, "impl"):
        yield from attention_impls.names() if word == ALL else [word]


def _words(axes: Settings, name: str) -> list[str]:
    words = [word.strip() for word in axes[name].split(",") if word.strip()]
    if not words:
        raise UsageError(f"--{name} '{axes[name]}': names nothing; give at least one")
    return words


def _choices(name: str, axes: Settings, known: list[str]) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(_words(axes, name)))
    check_names(name, words, known)
    return words


def _positive(name: str, text: str, example: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"--{name} {text}: is not a positive number; write for example {example}")
    return value


def _whole(name: str, text: str, minimum: int, maximum: int) -> int:
    if not text.isdecimal() or not minimum <= int(text) <= maximum:
        raise UsageError(f"--{name} {text}: write a whole number from {minimum} to {maximum}")
    return int(text)


def memory_limit(text: str, device: str) -> Bytes:
    """The memory limit that the text means on this machine: a share is of its own memory, or its GPU's.

    Raises:
        UsageError: it is none.
    """
    total = devices.gpu_memory() if device == "cuda" else total_memory()
    try:
        return parse_memory_limit(text, total)
    except ValueError as error:
        raise UsageError(f"--memory-limit {error}") from None
