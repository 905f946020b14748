"""Inside the worker: prepare, say what is here, do tasks until the parent hangs up."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import multiprocessing
import os
import pkgutil
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from attention_impls import tracebacks
from elattn_bench.cases import is_a_plugin
from elattn_bench.results import Skipped
from elattn_bench.stats import Budget
from elattn_bench.units import Bytes, format_bytes

if TYPE_CHECKING:
    from elattn_bench.gate import Gate

SHOW_STACK = getattr(signal, "SIGUSR1", None)  # asks a worker to print where it is, even inside native code
LONGEST_REASON = 500  # characters: a reason is read in a table; the traceback in errors.log has the rest
HUNG_UP = (EOFError, BrokenPipeError, ConnectionResetError)  # how the other side's end looks from this one


@dataclass(frozen=True, slots=True)
class Settings:
    """What every task of a worker has in common.

    input_std: standard deviation of the inputs drawn.
    gpu: number of the GPU, where the device is one.
    """

    device: str
    budget: Budget
    threads: int | None = None
    memory_limit: Bytes | None = None
    seed: int = 0
    input_std: float = 1.0
    gpu: int = 0


@dataclass(frozen=True, slots=True)
class Context:
    """What a task gets first: the settings, the gate that remembers what has passed, and a way to be heard before
    the end: ``report`` sends its argument to whoever waits for the task."""

    settings: Settings
    gate: Gate
    report: Callable[[Any], None] = lambda what: None


@dataclass(frozen=True, slots=True)
class Note:
    """What a task reported on its way."""

    what: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What a task returned, and why the worker should not be used again, if so."""

    result: Any
    left_behind: tuple[str, ...]
    is_worn: bool


def serve(connection: Connection, output: Connection, settings: Settings) -> None:
    """The worker's life."""
    _prepare_process(output)
    with contextlib.suppress(*HUNG_UP):
        _work(connection, settings)


def _work(connection: Connection, settings: Settings) -> None:
    try:
        from elattn_bench import device, measure, residue
        from elattn_bench.gate import Gate

        device.prepare(settings.device, settings.threads, settings.gpu)
        described = device.describe(settings.device)
        if settings.memory_limit is not None:
            device.limit_memory(settings.device, settings.memory_limit)
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send(described)
    context = Context(settings, Gate(settings.input_std), lambda what: connection.send(Note(what)))
    gc.freeze()  # torch's hundred thousand objects stay: every collection from here on is quick
    before = residue.Residue.now()
    own_pid = os.getpid()
    while True:
        target, arguments = connection.recv()
        result = _guarded(context, target, arguments)
        if os.getpid() != own_pid:
            os._exit(1)  # a case forked, and this is the copy: it may not answer as well
        measure.release()
        after = residue.Residue.now()
        worn = residue.is_worn(before, after, settings.memory_limit)
        connection.send(Answer(result, residue.left_behind(before, after), worn))


def _guarded(context: Context, target: str, arguments: tuple[Any, ...]) -> Any:
    from elattn_bench import measure

    try:
        return pkgutil.resolve_name(target)(context, *arguments)
    except BaseException as error:  # KeyboardInterrupt and SystemExit are a case's own doing here
        reason = None
        with contextlib.suppress(Exception):  # of an error that cannot be printed
            reason = measure.out_of_memory_reason(error)
        if reason:
            limit = context.settings.memory_limit
            return Skipped("oom", reason + (f" (--memory-limit {format_bytes(limit)})" if limit else ""))
        return _failure(error, arguments)


def _failure(error: BaseException, arguments: tuple[Any, ...]) -> Skipped:
    """The error as a value; where it is that of a user's attention, told by their own frames."""
    if any(map(_is_of_a_plugin, arguments)):
        with contextlib.suppress(Exception):  # of an error that cannot be told
            if told := tracebacks.of_user(error):
                return Skipped("error", f"{_in_one_line(error)} ({tracebacks.place(error)})", told)
    return Skipped("error", _in_one_line(error), "".join(traceback.format_exception(error)))


def _is_of_a_plugin(argument: object) -> bool:
    """Whether a case, or the model of a training, has an attention of the user's."""
    attention = getattr(getattr(argument, "model", argument), "attention", "")
    return bool(attention) and is_a_plugin(attention)


def _in_one_line(error: BaseException) -> str:
    told = traceback.TracebackException.from_exception(error)  # survives an error that cannot be printed
    first_line = next(iter(str(told).splitlines()), "")
    return f"{type(error).__name__}: {first_line}"[:LONGEST_REASON]


def _prepare_process(output: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # Whatever an attention, a kernel or a compiler prints reaches neither the data nor the progress bar.
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    faulthandler.enable()
    if SHOW_STACK is not None:
        faulthandler.register(SHOW_STACK)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    # A pool of compilers would outlive its case and stand beside the next one.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    if hasattr(os, "setsid"):
        os.setsid()  # leads a process group, so that the parent can end whatever a case starts
    _leave_with_parent()


def _leave_with_parent() -> None:
    # A sweep killed with -9 cannot clean up: an orphan would go on and disturb the next measurement.
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    with contextlib.suppress(ImportError, AttributeError, OSError):
        _kill_group_when_closed(parent.sentinel)
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _kill_group_when_closed(descriptor: int) -> None:
    # Linux: the kernel does it, even while a case that hangs in native code holds Python's lock.
    import fcntl

    fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)


def _follow(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
