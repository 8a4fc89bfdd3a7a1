"""Data-parallel training: how the workers, each with its shard of every batch, communicate.

The workers are started by MindSpore's `msrun`, see `alexnet.training.launcher`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.communication import get_group_size, get_rank, init

from alexnet.runtime.errors import InputError


@dataclass(frozen=True)
class Worker:
    """A worker: one of the processes that train together.

    rank: the number of this worker, counted from 0.
    workers: how many workers there are.
    """

    rank: int = 0
    workers: int = 1

    def mean(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return the mean of each value over the workers, float32 of shape (number of values,).

        Every worker must call this with the same number of values.
        """
        local = np.asarray(values, np.float32)
        if self.workers == 1:
            return local
        return ops.AllReduce()(ms.Tensor(local)).asnumpy() / self.workers

    def broadcast(self, value: np.ndarray) -> np.ndarray:
        """Return worker 0's value. Every worker must call this with an array of the same shape and dtype."""
        if self.workers == 1:
            return value
        return ops.Broadcast(0)((ms.Tensor(value),))[0].asnumpy()

    def broadcast_int(self, value: int) -> int:
        """Return worker 0's whole number, which is from -2^31 to 2^31 - 1. Every worker must call this."""
        return int(self.broadcast(np.array([value], np.int32))[0])

    def wait_for_all(self) -> None:
        """Return when every worker has called this."""
        self.mean([0])

    def gradient_reducer(self, optimizer: nn.Optimizer) -> Callable[[tuple[ms.Tensor, ...]], tuple[ms.Tensor, ...]]:
        """Return a function that averages gradients over the workers and can be part of a graph.

        It takes the gradients of the optimizer's parameters, in the order of the parameters.
        """
        if self.workers == 1:
            return lambda gradients: gradients
        return nn.DistributedGradReducer(optimizer.parameters, mean=True, degree=self.workers)


ALONE = Worker()
"""The only worker."""


def started_by_msrun() -> bool:
    """Return whether `msrun` started this process."""
    return "MS_ROLE" in os.environ


def join(workers: int) -> Worker:
    """Join the other workers that `msrun` started. If `msrun` did not start this process, it is the only worker.

    Call it after `alexnet.runtime.device.select`. It does not return in msrun's scheduler, which is a process that runs
    the same program. Raises InputError when `msrun` did not start `workers` workers.
    """
    if not started_by_msrun():
        return ALONE
    init()
    if get_group_size() != workers:
        raise InputError(f"workers is {workers}, but msrun started {get_group_size()}: give both the same number")
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True)
    return Worker(get_rank(), workers)
