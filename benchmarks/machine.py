"""The machine: what it is, and the most that it computes."""

import os
import platform
from importlib.metadata import version
from typing import Any

import cpuinfo
import numpy as np
import psutil
from threadpoolctl import threadpool_limits

from benchmarks.measure import repeat, serve


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """Return the machine's name, cores, memory and system, how busy it is, and the versions of what is measured."""
    return {
        "name": cpuinfo.get_cpu_info().get("brand_raw", platform.machine()),
        "cores": cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "load_average": round(psutil.getloadavg()[0], 2),
        "python": platform.python_version(),
        "mindspore": version("mindspore"),
        "numpy": version("numpy"),
    }


def matmul(size: int, threads: int, repetitions: int) -> dict[str, Any]:
    """Multiply two float32 matrices of shape (size, size) with NumPy."""
    left, right = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
    with threadpool_limits(threads):
        return {"seconds": repeat(lambda: left @ right, repetitions)}


if __name__ == "__main__":
    serve(matmul)
