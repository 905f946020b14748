"""Compile the Triton kernels for an H100, with no GPU, and print what registers they take as JSON.

A process of its own, because in the tests' process the kernels may be bound to Triton's interpreter:
``python triton_registers.py`` prints ``[{"kernel": ..., "dtype": ..., "order": ..., ...}, ...]``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from attention_impls.kernels import ea_triton, ea_triton_backward, ea_triton_forward

H100 = GPUTarget("cuda", 90, 32)
NAMES = {torch.float32: "fp32", torch.float64: "fp64", torch.bfloat16: "bf16", torch.float16: "fp16"}

KERNELS = {
    kernel.__name__: kernel
    for module in (ea_triton_forward, ea_triton_backward)
    for kernel in vars(module).values()
    if hasattr(kernel, "arg_names") and kernel.__module__ == module.__name__ and kernel.__name__[0] != "_"
}
SUMS = {"moments", "chunk_tops", "initial", "final", "state", "new_state", "adjoints", "tops_of_all"}
SCRATCH = {"alphas", "outputs"}
DIVISIBLE = {"head_dim", "channels"}


def compile_kernel(name: str, dtype: torch.dtype, order: int, tiles: Any) -> Any:
    """The kernel for dense tensors with a head_dim that 16 divides, as a benchmark calls it."""
    kernel = KERNELS[name]
    sums = "fp64" if dtype == torch.float64 else "fp32"
    signature: dict[str, Any] = {}
    constants: dict[Any, Any] = {}
    attributes: dict[Any, Any] = {}
    knobs = {"ORDER": order, "SCALE": 1.0, "STABILISED": True, "KEEP": True, "LANES": tiles.lanes, "ROWS": tiles.rows}
    divisible = [["tt.divisibility", 16]]
    for index, argument in enumerate(kernel.arg_names):
        if argument.isupper():
            signature[argument] = "constexpr"
            constants[(index,)] = knobs[argument]
        elif argument.endswith("strides"):
            signature[argument] = ("i32", "i32", "i32", "constexpr")
            constants[(index, 3)] = 1
            attributes.update({(index, i): divisible for i in range(3)})
        elif argument in ("seq_len", "chunk_rows", "heads", "chunks", "rows"):
            signature[argument] = "i32"
        elif argument in DIVISIBLE:
            signature[argument] = "i32"
            attributes[(index,)] = divisible
        else:
            signature[argument] = "*" + (sums if argument in SUMS | SCRATCH and not (name == "x") else NAMES[dtype])
            attributes[(index,)] = divisible
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=H100, options={"num_warps": tiles.warps, "enable_fp_fusion": True})


def registers(cubin: bytes) -> dict[str, int]:
    """Registers a thread, bytes spilled and shared memory, as cuobjdump finds them in the binary."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        report = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True)
    text = report.stdout + report.stderr
    found = {key: int(value) for key, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", text)}
    return {"registers": found["REG"], "stack": found["STACK"], "local": found["LOCAL"], "shared": found["SHARED"]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", default="2,6")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--kernels", default=",".join(KERNELS))
    parser.add_argument("--tiles", default=None)
    parser.add_argument("--ptx", default=None)
    options = parser.parse_args()
    for name in options.kernels.split(","):
        for dtype in (getattr(torch, x) for x in options.dtypes.split(",")):
            for order in map(int, options.orders.split(",")):
                tiles = ea_triton.tiles(name, order, dtype)
                if options.tiles:
                    tiles = ea_triton.Tiles(*map(int, options.tiles.split(",")))
                compiled = compile_kernel(name, dtype, order, tiles)
                if options.ptx:
                    Path(options.ptx).write_text(compiled.asm["ptx"])
                    Path(options.ptx + ".cubin").write_bytes(compiled.asm["cubin"])
                row = {"kernel": name, "dtype": NAMES[dtype], "order": order, **tiles._asdict()}
                print(json.dumps({**row, **registers(compiled.asm["cubin"])}), flush=True)


if __name__ == "__main__":
    main()
