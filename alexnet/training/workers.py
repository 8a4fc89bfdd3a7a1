"""Data-parallel training: several workers, each with its shard of every batch, started by MindSpore's `msrun`.

Source: https://www.mindspore.cn/tutorials/en/master/parallel/msrun_launcher.html
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np
import psutil
from mindspore import nn, ops
from mindspore.communication import get_group_size, get_rank, init

from alexnet.runtime.errors import InputError, Stopped, WorkerError
from alexnet.runtime.processes import LAUNCHED, alive

POLL_SECONDS = 0.1
GRACE_SECONDS = 10
"""How long the other workers may live on once one has ended; in a whole run they end together."""
STOP_SECONDS = 60
"""How long the workers have to save their state once they are asked to stop, and `msrun` to end after the last."""


@dataclass(frozen=True)
class Worker:
    """Which worker this process is, from 0, and how many there are."""

    rank: int = 0
    workers: int = 1

    def mean(self, *values: float) -> np.ndarray:
        """Return the mean of each value over the workers, float32. Every worker must call it alike."""
        local = np.array(values, np.float32)
        if self.workers == 1:
            return local
        return ops.AllReduce()(ms.Tensor(local)).asnumpy() / self.workers

    def broadcast(self, value: np.ndarray) -> np.ndarray:
        """Return worker 0's value. Every worker must call it with an array of the same shape and dtype."""
        if self.workers == 1:
            return value
        return ops.Broadcast(0)((ms.Tensor(value),))[0].asnumpy()

    def wait_for_all(self) -> None:
        """Return when every worker has called this."""
        self.mean(0)

    def gradient_reducer(self, optimizer: nn.Optimizer) -> Callable[[tuple[ms.Tensor, ...]], tuple[ms.Tensor, ...]]:
        """Return what averages the gradients of the optimizer's parameters over the workers, inside a graph."""
        if self.workers == 1:
            return lambda gradients: gradients
        return nn.DistributedGradReducer(optimizer.parameters, mean=True, degree=self.workers)


ALONE = Worker()


def started_by_msrun() -> bool:
    """Tell whether this process is one of those that an `msrun` starts."""
    return "MS_ROLE" in os.environ


def join(workers: int) -> Worker:
    """Join the workers that `msrun` started; without one, this process is the only worker.

    Call it after the device was chosen. The process of the scheduler ends in here. Raises InputError when there are
    not as many as `workers` says.
    """
    if not started_by_msrun():
        return ALONE
    init()
    if get_group_size() != workers:
        raise InputError(f"workers is {workers}, but msrun started {get_group_size()}: give both the same number")
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True)
    return Worker(get_rank(), workers)


def launch(command: Sequence[str], workers: int, log_folder: Path, stop: Callable[[], bool]) -> None:
    """Run `python` with the arguments `command` as `workers` workers of this machine, and wait for their end.

    What worker 0 prints goes to standard output as it comes, what the others print to `log_folder`. When `stop` says
    so, the workers get a SIGTERM. No process is left when this returns or raises.

    Raises Stopped when they ended because of `stop`, InputError when a worker told why it failed (a line `ERROR: ...`,
    which may also be of a full disk), and WorkerError, which names the worker and its log, when one died untold.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log_folder.mkdir(parents=True, exist_ok=True)
    logs = [log_folder / f"worker_{rank}.log" for rank in range(workers)]
    for log in logs:
        log.write_bytes(b"")
    options = {
        "worker_num": workers,
        "local_worker_num": workers,
        "master_port": port,
        "log_dir": log_folder,
        "join": True,
    }
    # msrun takes only the literal word python, so ours must be the first on PATH. In a session of its own a Ctrl-C
    # at the terminal reaches us alone, who then asks the workers.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    with (log_folder / "msrun.log").open("wb") as own, logs[0].open(encoding="utf-8", errors="replace") as shown:
        msrun = subprocess.Popen(
            ["msrun", *(f"--{name}={value}" for name, value in options.items()), "python", *command],
            stdout=own,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": path, LAUNCHED: "1"},
            start_new_session=True,
        )
        family: dict[int, psutil.Process] = {}  # the workers by rank
        first: list[int] = []  # the ranks of those that ended first
        since_end = since_stop = None
        try:
            while msrun.poll() is None:
                time.sleep(POLL_SECONDS)
                _relay(shown)
                family |= _workers(msrun.pid)
                now = time.monotonic()
                if not first:
                    first = [rank for rank, process in family.items() if not alive(process)]
                    since_end = now if first else None
                if stop() and since_stop is None and len(family) == workers:
                    since_stop = now
                    for process in family.values():
                        process.terminate()
                grace = GRACE_SECONDS if any(map(alive, family.values())) else STOP_SECONDS
                if since_end and now - since_end > grace:
                    break
                if since_stop and now - since_stop > STOP_SECONDS:
                    break
        finally:
            _kill([msrun.pid, *(process.pid for process in family.values())])
            msrun.wait()
            _relay(shown)
    for log in logs:
        errors = re.findall(r"^ERROR: (.*)$", log.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if errors:
            raise InputError(errors[-1])
    if msrun.returncode != 0:
        named = re.search(r"Worker process (\d+) exit with exception", (log_folder / "msrun.log").read_text())
        rank = next((rank for rank in first if len(first) == 1 or (named and family[rank].pid == int(named[1]))), None)
        which = f"msrun failed, see {log_folder}" if rank is None else f"worker {rank} died, its log is {logs[rank]}"
        raise WorkerError(f"{which}; the next start goes on from the last state")
    if re.search("^stopped ", logs[0].read_text(encoding="utf-8"), re.MULTILINE):
        raise Stopped("all workers stopped")


def _relay(log) -> None:  # type: ignore[no-untyped-def]
    for line in log:
        if not re.match(r"\[(INFO|WARNING|ERROR)\] |ERROR: ", line):  # MindSpore's, or told by whoever catches it
            print(line, end="", flush=True)


def _workers(pid: int) -> dict[int, psutil.Process]:
    # The workers among msrun's children, by rank; it starts a `tail` of each one's log with the same environment.
    found = {}
    try:
        for process in psutil.Process(pid).children():
            environment = process.environ()
            if environment.get("MS_ROLE") == "MS_WORKER" and process.name() != "tail":
                found[int(environment["RANK_ID"])] = process
    except psutil.Error:  # one that just ended
        pass
    return found


def _kill(pids: Sequence[int]) -> None:
    # These and all that they started, msrun's scheduler among them.
    for pid in pids:
        try:
            process = psutil.Process(pid)
            for one in [*process.children(recursive=True), process]:
                one.kill()
        except psutil.NoSuchProcess:
            pass
