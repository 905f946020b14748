"""Attentions from elsewhere: ``module:name`` of the user's own, and entry points of installed packages.

An object is found here and becomes an ``AttentionSpec`` in ``own``. Nothing is imported, and nothing is
searched, before somebody asks for a name that is not in the table. No torch.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from attention_impls import tracebacks
from attention_impls.nouns import InvalidArgument, UnknownAttention, nearest
from attention_impls.own import spec_of
from attention_impls.spec import AttentionSpec

GROUP = "elattn_bench.attentions"
"""Entry-point group: ``name = "module:object"``."""

NAME = re.compile(r"[\w.-]+")  # what an impl can be called: the rest has a meaning on the command line


def names() -> list[str]:
    """Names of the entry points of installed packages; none of them is imported."""
    return sorted(_entry_points())


@cache
def named(target: str) -> AttentionSpec:
    """The attention ``module:name``; the module may lie in the current directory.

    The name's oracle is its attribute ``oracle``, or ``name_oracle`` beside it.

    Raises:
        UnknownAttention: it cannot be imported, with the traceback of the user's own code, or is none.
    """
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        raise UnknownAttention(f"'{target}' names nothing; write module:name, for example mine:attention")
    with _searching_here():
        return _load(target, module, attribute)


@cache
def installed(name: str) -> AttentionSpec:
    """The attention of an entry point.

    Raises:
        UnknownAttention: as ``named``; or several packages have an entry point of that name.
    """
    found = _entry_points()[name]
    first, *others = found
    if others:
        listed = " and ".join(f"{origin(each)} ({each.value})" for each in found)
        raise UnknownAttention(f"'{name}' is an entry point of {listed}; write module:name to choose")
    if reason := _unusable(name):
        raise UnknownAttention(f"the entry point '{name}' of {origin(first)} {reason}")
    return _load(name, first.module, first.attr, origin(first))


def origins(name: str) -> str:
    """Which packages have the entry point, ``name version`` each."""
    return ", ".join(map(origin, _entry_points()[name]))


def origin(entry: EntryPoint) -> str:
    """The package of an entry point, ``name version``."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"


@cache
def _entry_points() -> Mapping[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        # A package may be found twice, as where a checkout is on the path beside its installation.
        if all(entry.value != other.value for other in found.setdefault(entry.name, [])):
            found[entry.name].append(entry)
    return found


def _unusable(name: str) -> str | None:
    if not NAME.fullmatch(name):
        return "has a name that cannot be written as an impl; letters, digits and . _ - can"
    return None


def _load(name: str, module: str, attribute: str, origin: str = "") -> AttentionSpec:
    found = _imported(name, module)
    thing = _attribute(name, found, attribute)
    try:
        return spec_of(name, thing, getattr(found, f"{attribute}_oracle", None), origin)
    except InvalidArgument as error:
        raise UnknownAttention(f"'{name}' is no attention: {error}") from None


def _imported(name: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise UnknownAttention(_no_module(name, module, error)) from None
        raise UnknownAttention(_raised(name, module, error)) from None
    except (Exception, SystemExit) as error:  # a module may do anything; Ctrl-C is the user's
        raise UnknownAttention(_raised(name, module, error)) from None


def _attribute(name: str, module: ModuleType, attribute: str) -> Any:
    thing: Any = module
    for part in attribute.split("."):
        try:
            thing = getattr(thing, part)
        except AttributeError:
            place = f" ({module.__file__})" if getattr(module, "__file__", None) else ""
            raise UnknownAttention(
                f"'{name}' cannot be imported: {module.__name__}{place} has no '{attribute}'"
                f"{nearest(part, [known for known in vars(thing) if not known.startswith('_')])}"
            ) from None
    return thing


def _no_module(name: str, module: str, error: ModuleNotFoundError) -> str:
    if module.endswith(".py"):
        written = name.replace(module, module.removesuffix(".py"))
        return f"'{name}' cannot be imported: write the module, not its file: {written}"
    return (
        f"'{name}' cannot be imported: there is no module '{error.name}', "
        f"neither installed nor in the current directory"
    )


def _raised(name: str, module: str, error: BaseException) -> str:
    where, said = tracebacks.place(error), tracebacks.in_one_line(error)
    raised = f"'{name}' cannot be imported: {module} raises {said}"
    return f"{raised} ({where})\n{tracebacks.of_user(error)}" if where else raised


@contextlib.contextmanager
def _searching_here() -> Iterator[None]:
    """Within, the current directory is searched first; afterwards last, for what is imported later.

    An installed script does not search it. First, so that nothing installed hides the user's module; last,
    so that a file of theirs hides nothing of Python's in what runs later.
    """
    here = ""
    with contextlib.suppress(OSError):  # somebody removed it
        here = str(Path.cwd())
    if not here or here in sys.path or "" in sys.path:
        yield
        return
    importlib.invalidate_caches()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the module may have changed it
            sys.path.remove(here)
        sys.path.append(here)
