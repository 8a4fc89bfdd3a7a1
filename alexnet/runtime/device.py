"""The device: which ones there are, which one is used, and how many threads compute on the CPU."""

import os

import mindspore as ms

from alexnet.runtime.choices import TARGETS
from alexnet.runtime.errors import InputError


def available() -> list[str]:
    """Return the device targets this MindSpore and this machine have."""
    found: list[str] = []
    for target in TARGETS:
        try:
            if ms.hal.is_available(target):
                found.append(target)
        except ValueError:  # this MindSpore was built without it
            pass
    return found


def select(device_target: str, threads: int | str = "auto", workers: int = 1) -> tuple[str, int]:
    """Make MindSpore compute on `device_target`, with `threads` threads on the CPU; return the two values used.

    Call it before anything else is computed. `auto` takes the first of TARGETS that is there, and a thread for each
    core this process may use, shared among `workers` processes. Raises InputError when the device is not there, or
    there are fewer cores than threads.
    """
    found = available()
    target = found[0] if device_target == "auto" else device_target
    if target not in found:
        raise InputError(
            f"device_target is {device_target}, but MindSpore finds {', '.join(found)} here: name it, or auto; "
            "GLOG_v=2 in the environment shows why"
        )
    ms.set_device(target)
    count = _threads(threads, workers)
    if target == "CPU":
        _start_threads(count)
    return target, count


def sinks_data(dataset_sink_mode: bool | str, target: str) -> bool:
    """Return whether to sink data on a device target; `auto` means wherever MindSpore can do it.

    Raises InputError when it cannot (https://www.mindspore.cn/docs/en/master/api_python/mindspore/mindspore.data_sink.html
    names Ascend and GPU).
    """
    can = target != "CPU"
    if dataset_sink_mode is True and not can:
        raise InputError(f"dataset_sink_mode is true, but {target} has no data sinking: set it to auto or false")
    return can if dataset_sink_mode == "auto" else bool(dataset_sink_mode)


def _threads(threads: int | str, workers: int) -> int:
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        count = os.cpu_count() or 1
        if threads not in ("auto", count):
            raise InputError(f"threads is {threads}, but this system can only use all {count} cores: set it to auto")
        return count
    cores = len(os.sched_getaffinity(0))
    count = max(1, cores // workers) if threads == "auto" else int(threads)
    if count > cores:
        raise InputError(f"threads is {threads}, but this process may use {cores} cores: set it to at most that")
    return count


def _start_threads(count: int) -> None:
    # MindSpore's CPU kernels start a thread for each core the process may use when the first of them runs; neither
    # OMP_NUM_THREADS nor op_tuning.threads_num changes that (2.8.0). So the first kernel runs while the process
    # is limited to as many cores as there should be threads, and the limit is then lifted for every thread.
    # Not on Ascend and GPU: there, workers must join before anything is computed.
    if not hasattr(os, "sched_getaffinity"):
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(cores)[:count]))
    try:
        ms.ops.matmul(ms.ops.ones((2, 2)), ms.ops.ones((2, 2))).asnumpy()
    finally:
        for task in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(task), cores)
