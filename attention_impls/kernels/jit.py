"""From LLVM's text to a function that ctypes can call, with machine code kept on disk between processes."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

CACHE_VARIABLE = "ATTENTION_IMPLS_CACHE"
"""Environment variable: the directory of compiled kernels; empty keeps them in memory only."""

OPTIMISATION = 2  # -O2; what -O3 adds is inlining and vectorising, which these kernels do by themselves

_lock = threading.Lock()


class Loaded:
    """Machine code in this process.

    compiled: whether it had to be compiled, rather than read from the disk.
    """

    def __init__(self, text: str) -> None:
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
        stored = _place(text)
        machine_code = _read(stored)
        self.compiled = machine_code is None
        if machine_code is None:
            machine_code = _compile(text)
            _write(stored, machine_code)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(machine_code))
        self._engine.finalize_object()

    def function(self, name: str, *arguments: Any) -> Any:
        """The function of that name, taking those ctypes and returning nothing. Calls release the GIL."""
        function: Any = ctypes.CFUNCTYPE(None, *arguments)(self._engine.get_function_address(name))
        function.code = self  # which lives as long as its function
        return function


def load(text: str) -> Loaded:
    """The module written in LLVM's assembly, compiled for this machine or read from the cache."""
    with _lock:  # LLVM's compilers are not thread-safe
        return Loaded(text)


@cache
def features() -> dict[str, bool]:
    """What this CPU can do, by LLVM's names; empty where LLVM cannot tell."""
    _initialise()
    return dict(llvm.get_host_cpu_features())


def cache_directory() -> Path | None:
    """Where compiled kernels are kept; None where nothing is kept."""
    named = os.environ.get(CACHE_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    home = os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):  # a user without a home
        return (Path(home) if home else Path.home() / ".cache") / "attention_impls"
    return None


@cache
def _initialise() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _machine() -> Any:
    _initialise()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=_feature_text(),
        opt=OPTIMISATION,
        jit=True,
        codemodel="default",
    )


def _feature_text() -> str:
    return ",".join(f"{'+' if has else '-'}{name}" for name, has in sorted(features().items()))


def _compile(text: str) -> bytes:
    machine = _machine()
    module = llvm.parse_assembly(text)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=OPTIMISATION)
    options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return bytes(machine.emit_object(module))


def _place(text: str) -> Path | None:
    directory = cache_directory()
    if directory is None:
        return None
    what = (text, llvm.get_host_cpu_name(), _feature_text(), llvmlite.__version__, sys.platform)
    return directory / f"{hashlib.sha256(repr(what).encode()).hexdigest()[:32]}.o"


def _read(stored: Path | None) -> bytes | None:
    if stored is None:
        return None
    with contextlib.suppress(OSError):
        content = stored.read_bytes()
        digest, machine_code = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(machine_code).digest() == digest:  # a half-written file is no machine code
            return machine_code
    return None


_DIGEST = hashlib.sha256().digest_size


def _write(stored: Path | None, machine_code: bytes) -> None:
    if stored is None:
        return
    with contextlib.suppress(OSError):  # a disk that is full or read-only costs a compilation, nothing more
        stored.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=stored.parent, delete=False) as file:
            file.write(hashlib.sha256(machine_code).digest() + machine_code)
        Path(file.name).replace(stored)
