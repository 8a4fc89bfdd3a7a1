"""The machine: its description, and how fast it multiplies matrices, which limits how fast it can train."""

import os
import platform
from importlib.metadata import version
from typing import Any

import cpuinfo
import numpy as np
import psutil
from threadpoolctl import threadpool_limits

from alexnet.kernels import onednn
from alexnet.kernels.onednn import ArrayMemory, Layout, Memory, Program
from alexnet.runtime.choices import AmpLevel
from benchmarks.measure import repeat, serve


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """Return the name, cores, memory, system and load of this machine, and the versions of what is measured."""
    return {
        "name": cpuinfo.get_cpu_info().get("brand_raw", platform.machine()),
        "cores": cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "load_average": round(psutil.getloadavg()[0], 2),
        "python": platform.python_version(),
        "mindspore": version("mindspore"),
        **({"onednn": onednn.version()} if onednn.available() else {}),
        "numpy": version("numpy"),
    }


def precisions() -> tuple[AmpLevel, ...]:
    """Return the precisions at which this CPU is fast: O0 (float32), and O2 if it has bfloat16 instructions."""
    return ("O0", "O2") if onednn.computes_bfloat16() else ("O0",)


def matmul(size: int, threads: int, amp_level: AmpLevel, repetitions: int) -> dict[str, Any]:
    """Multiply two matrices of shape (size, size) with oneDNN, in the layouts that oneDNN chooses.

    If oneDNN is not installed, NumPy multiplies them in float32.
    """
    left, right = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
    if not onednn.available():
        with threadpool_limits(threads):
            return {"seconds": repeat(lambda: left @ right, repetitions)}
    onednn.set_threads(threads)
    layout = Layout.any((size, size), "bf16" if amp_level == "O2" else "f32")
    product = onednn.matmul(layout, layout, layout)
    tensors = {name: Memory(product.layout(name)) for name in ("src", "weights", "dst")}
    program = Program()
    for name, values in (("src", left), ("weights", right)):
        array = ArrayMemory((size, size))
        array.array = values
        program.add(onednn.reorder(array.layout, tensors[name].layout), src=array, dst=tensors[name])
    program.run()
    return {"seconds": repeat(lambda: product.run(**tensors), repetitions)}


if __name__ == "__main__":
    serve(matmul)
