"""What a backend needs of the machine: every function returns all reasons why a problem cannot run.

No torch is imported for a CPU problem.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import sysconfig
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from attention_impls.nouns import Problem

LEAST_TRITON = (3, 3)
HALF_TYPES = ("float16", "bfloat16")


def flash(problem: Problem) -> list[str]:
    """PyTorch's flash kernel: any CPU; on a GPU half precision, head_dim <= 256, Ampere or newer."""
    if problem.device != "cuda":
        return []
    reasons = half_only("the flash kernel", problem) + ampere("the flash kernel")
    if problem.head_dim > 256:
        reasons.append(f"the flash kernel takes head_dim up to 256; it is {problem.head_dim}")
    return reasons


def memory_efficient(problem: Problem) -> list[str]:
    """PyTorch's memory-efficient kernel: a GPU, no float64, rows of a multiple of 16 bytes."""
    if problem.device != "cuda":
        return ["the memory-efficient kernel runs on cuda only"]
    reasons = []
    if problem.dtype == "float64":
        reasons.append("the memory-efficient kernel takes float32, float16 or bfloat16; it is float64")
    if problem.head_dim * problem.element_size % 16:
        reasons.append(
            "the memory-efficient kernel takes rows of a multiple of 16 bytes; "
            f"head_dim {problem.head_dim} in {problem.dtype} has {problem.head_dim * problem.element_size}"
        )
    return reasons


def cudnn(problem: Problem) -> list[str]:
    """The cuDNN kernel: a GPU, half precision, head_dim a multiple of 8 up to 128, Ampere or newer."""
    if problem.device != "cuda":
        return ["the cuDNN kernel runs on cuda only"]
    reasons = half_only("the cuDNN kernel", problem) + ampere("the cuDNN kernel")
    if problem.head_dim > 128 or problem.head_dim % 8:
        reasons.append(f"the cuDNN kernel takes head_dim a multiple of 8 up to 128; it is {problem.head_dim}")
    return reasons


def ring(problem: Problem, ranks: int) -> list[str]:
    """PyTorch's context parallelism: GPUs, and shards of one length; what the flash kernel asks for is asked apart."""
    if ranks == 1:
        return []
    reasons = []
    if problem.device != "cuda":
        reasons.append("PyTorch's context parallelism runs on cuda only; use softmax/sdpa")
    elif not _has_ring():
        reasons.append("this torch has no context parallelism as of 2.6 to 2.13; use softmax/sdpa")
    if problem.seq_len % ranks:
        reasons.append(
            "PyTorch's context parallelism takes shards of one length; "
            f"seq_len {problem.seq_len} is no multiple of {ranks} ranks"
        )
    return reasons


def _has_ring() -> bool:
    """The context manager, and the switch that keeps shards contiguous: a prototype that may move."""
    try:
        from torch.distributed.tensor.experimental import _attention
    except ImportError:
        return False
    options = getattr(_attention, "_cp_options", None)
    return hasattr(_attention, "context_parallel") and hasattr(options, "enable_load_balance")


def no_float64_on_gpu(problem: Problem) -> list[str]:
    """The GPU kernel behind the two-dimensional identity computes in float32, never in float64."""
    if problem.device == "cuda" and problem.dtype == "float64":
        return ["on cuda this kernel computes in float32; for float64 use eager"]
    return []


def own_kernels(problem: Problem) -> list[str]:
    """Our kernels: on a CPU llvmlite, on a GPU triton; float16 on a CPU that converts it by itself."""
    if problem.device == "cuda":
        return _recent_triton()
    if not find_spec("llvmlite"):
        return ["the fused kernel needs llvmlite on the CPU: pip install llvmlite"]
    if problem.dtype == "float16" and not _converts_float16():
        return ["the fused kernel takes float16 on CPUs that convert it (x86: F16C); use eager"]
    return []


def _recent_triton() -> list[str]:
    if not find_spec("triton"):
        return ["the fused kernel needs triton on cuda: pip install triton"]
    found = _installed("triton")
    if tuple(map(int, found.split(".")[:2])) < LEAST_TRITON:
        return [f"the fused kernel needs triton 3.3 or newer, which has tuples; this is {found}"]
    return []


@cache
def _installed(package: str) -> str:
    """The package's version; read from the disk once, for a layer asks at every call."""
    return version(package)


def _converts_float16() -> bool:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    from attention_impls.kernels.jit import features

    return features().get("f16c", False)


def compiler(problem: Problem) -> list[str]:
    """torch.compile: on a CPU a C++ compiler and the Python headers, on a GPU triton."""
    if problem.device == "cuda":
        return [] if find_spec("triton") else ["torch.compile needs triton on cuda: pip install triton"]
    return list(_cpu_toolchain(os.environ.get("CXX", ""), os.environ.get("PATH", "")))


@cache
def _cpu_toolchain(cxx: str, path: str) -> tuple[str, ...]:
    """Reasons of the CPU tool chain, cached by the two variables that it depends on."""
    reasons = []
    compiler_name = cxx or ("clang++" if sys.platform == "darwin" else "g++")  # the choice of inductor itself
    if not shutil.which(compiler_name, path=path):
        reasons.append(
            f"torch.compile needs a C++ compiler on the CPU; {compiler_name} is not on PATH: "
            "install it or point CXX at another"
        )
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        reasons.append("torch.compile needs the Python headers on the CPU: install python3-dev")
    return tuple(reasons)


def half_only(what: str, problem: Problem) -> list[str]:
    """Half precision is all that it takes on a GPU."""
    if problem.dtype in HALF_TYPES:
        return []
    return [f"{what} takes float16 or bfloat16 on cuda; it is {problem.dtype}"]


def ampere(what: str) -> list[str]:
    """It needs a GPU of Ampere or newer."""
    import torch

    if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
        return [f"{what} needs compute capability 8.0 or newer"]
    return []
