"""Choosing the device that computes, and the number of threads on the CPU."""

import os
from contextlib import suppress

import mindspore as ms

from alexnet.runtime.choices import TARGETS
from alexnet.runtime.errors import InputError


def available() -> list[str]:
    """Return the device targets that the installed MindSpore supports and this machine has."""
    targets: list[str] = []
    for target in TARGETS:
        with suppress(RuntimeError):  # the libraries are there, but they find no device
            if ms.hal.is_available(target) and ms.hal.device_count(target):
                targets.append(target)
    return targets


def select(device_target: str, threads: int | str = "auto", workers: int = 1) -> tuple[str, int | None]:
    """Make MindSpore compute on a device, and on the CPU with a number of threads. Call it before anything is computed.

    Args:
        device_target: one of TARGETS; `auto` takes the first of them that is available.
        threads: the number of CPU threads; `auto` takes one for each core that this process may use, divided by
            `workers`.
        workers: how many processes on this machine share the cores.

    Returns the device target, and the number of threads that are used; None on Ascend and GPU, where MindSpore chooses
    it. Raises InputError when the device is not available, or there are more threads than cores. On systems other than
    Linux, which cannot limit a process to some cores, `auto` takes all cores, whatever `workers` is, and any other
    number of threads raises InputError.
    """
    targets = available()
    target = targets[0] if device_target == "auto" else device_target
    if target not in targets:
        raise InputError(
            f"device_target is {device_target}, but MindSpore finds only {', '.join(targets)} here: set it to that, or "
            "to auto; GLOG_v=1 in the environment shows why"
        )
    ms.set_device(target)
    if target == "CPU":
        count = _threads(threads, workers)
        _start_threads(count)
        return target, count
    # By default, these devices may round the inputs of convolutions in float32: a GPU to TF32 with 10 bits of
    # precision, Ascend to HF32 with 11. On Ascend, this setting may not reach all kernels.
    if target == "GPU":
        ms.device_context.gpu.op_precision.conv_allow_tf32(False)
    else:
        ms.device_context.ascend.op_precision.conv_allow_hf32(False)
    return target, None


def sinks_data(dataset_sink_mode: bool | str, target: str) -> bool:
    """Return whether to sink data on a device target; `auto` does so wherever MindSpore can, on Ascend and GPU.

    Source: https://www.mindspore.cn/docs/en/master/api_python/mindspore/mindspore.data_sink.html

    Raises InputError when `dataset_sink_mode` is true on a CPU.
    """
    supported = target != "CPU"
    if dataset_sink_mode is True and not supported:
        raise InputError(f"dataset_sink_mode is true, but {target} has no data sinking: set it to auto or false")
    return supported if dataset_sink_mode == "auto" else bool(dataset_sink_mode)


def _threads(threads: int | str, workers: int) -> int:
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        count = os.cpu_count() or 1
        if threads not in ("auto", count):
            raise InputError(f"threads is {threads}, but on this system all {count} cores compute: set it to auto")
        return count
    cores = len(os.sched_getaffinity(0))
    count = max(1, cores // workers) if threads == "auto" else int(threads)
    if count > cores:
        raise InputError(f"threads is {threads}, but this process may use {cores} cores: set it to {cores} or less")
    return count


def _start_threads(count: int) -> None:
    # When its first CPU kernel runs, MindSpore starts a thread for each core that the process may use; neither
    # OMP_NUM_THREADS nor op_tuning.threads_num changes that (MindSpore 2.8.0). So the first kernel runs while the
    # process is limited to as many cores as there should be threads, and then the limit is lifted for every thread.
    # This is not done on Ascend and GPU, where workers must join before anything is computed.
    if not hasattr(os, "sched_getaffinity"):
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(cores)[:count]))
    try:
        ms.ops.matmul(ms.ops.ones((2, 2)), ms.ops.ones((2, 2))).asnumpy()
    finally:
        for task in os.listdir("/proc/self/task"):
            with suppress(ProcessLookupError):  # a thread may have ended in the meantime
                os.sched_setaffinity(int(task), cores)
