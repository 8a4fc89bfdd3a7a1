"""Starting the workers of a data-parallel training on this machine, and finding out how they ended.

Source: https://www.mindspore.cn/tutorials/en/master/parallel/msrun_launcher.html
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil

from alexnet.runtime.errors import InputError, Stopped, WorkerError, describe
from alexnet.runtime.files import write_json
from alexnet.runtime.processes import LAUNCHED, alive

POLL_SECONDS = 0.1
"""How often to look at the workers, in seconds."""
GRACE_SECONDS = 10
"""How long the other workers may keep running after the first has ended, in seconds. Normally they end together."""
END_SECONDS = 60
"""How long `msrun` may keep running after the last worker has ended, in seconds."""

OUTCOMES = "ALEXNET_OUTCOMES"
"""The environment variable that has the folder to which a launched worker writes its outcome."""


def launched() -> bool:
    """Return whether `launch` started this process."""
    return OUTCOMES in os.environ


@contextmanager
def outcome_reported() -> Iterator[None]:
    """In a launched worker, write how the body ended to `worker_{rank}.outcome.json`, which the launcher reads.

    `outcome` is `finished`, `stopped` (the body raised Stopped) or `failed` (it raised InputError or OSError). Unless
    it is `finished`, there are also a `reason` and an `exit_code`. After any other exception there is no file: that is
    a bug, whose traceback is in the log. All exceptions are raised again.
    """
    if not launched() or "RANK_ID" not in os.environ:
        yield
        return

    def report(outcome: str, **values: Any) -> None:
        write_json(_outcome_path(Path(os.environ[OUTCOMES]), int(os.environ["RANK_ID"])), {"outcome": outcome} | values)

    try:
        yield
    except Stopped as stopped:
        report("stopped", reason=str(stopped), exit_code=0)
        raise
    except InputError as error:
        report("failed", reason=str(error), exit_code=2)
        raise
    except OSError as error:
        with suppress(OSError):  # if the disk is full, the launcher can only name the log
            report("failed", reason=describe(error), exit_code=1)
        raise
    report("finished")


def free_port() -> int:
    """Return the number of a port of this machine that nothing uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def launch(command: Sequence[str], workers: int, log_folder: Path, stop: Callable[[], bool]) -> None:
    """Run several workers on this machine and wait until they have ended. No process is left running afterwards.

    Args:
        command: the arguments of `python` in each worker. The program must do its work within `outcome_reported`.
        workers: how many workers to run.
        log_folder: the folder for the logs and outcomes of the workers. The output of worker 0 is also copied to
            standard output.
        stop: whether the workers should stop; it is called again and again. They get a SIGTERM when it returns true.

    Raises Stopped when the workers stopped because of `stop`, InputError when a worker failed with an InputError, and
    WorkerError when one failed for another reason; if the reason is not known, the error names the worker and its log.
    """
    log_folder = log_folder.absolute()
    log_folder.mkdir(parents=True, exist_ok=True)
    logs = [log_folder / f"worker_{rank}.log" for rank in range(workers)]
    for rank, log in enumerate(logs):
        log.write_bytes(b"")
        _outcome_path(log_folder, rank).unlink(missing_ok=True)
    options = {
        "worker_num": workers,
        "local_worker_num": workers,
        "master_port": free_port(),
        "log_dir": log_folder,
        "join": True,
    }
    # msrun accepts only the word `python` as a program, so the folder of this Python must be the first on PATH. msrun
    # runs in a session of its own, so that Ctrl-C reaches only this process, which then asks the workers to stop.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    with (
        (log_folder / "msrun.log").open("wb") as launcher_log,
        logs[0].open(encoding="utf-8", errors="replace") as shown,
    ):
        msrun = subprocess.Popen(
            ["msrun", *(f"--{name}={value}" for name, value in options.items()), "python", *command],
            stdout=launcher_log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": path, LAUNCHED: "1", OUTCOMES: str(log_folder)},
            start_new_session=True,
        )
        msrun_process = psutil.Process(msrun.pid)
        processes: dict[int, psutil.Process] = {}  # the workers by rank
        try:
            first_ended = _watch(msrun, processes, workers, stop, shown)
        finally:
            _kill([msrun_process, *processes.values()])
            msrun.wait()
            _relay(shown)

    outcomes = {rank: outcome for rank in range(workers) if (outcome := _read_outcome(log_folder, rank))}
    for outcome in outcomes.values():
        if outcome["outcome"] == "failed":
            raise (InputError if outcome["exit_code"] == 2 else WorkerError)(outcome["reason"])
    missing = [rank for rank in range(workers) if rank not in outcomes]
    # When all workers have reported an outcome, their work is done, and it does not matter how msrun ended. It may have
    # been killed above, because it took too long to end.
    if missing:
        crashed = _crashed({rank: processes[rank].pid for rank in first_ended}, missing, log_folder / "msrun.log")
        cause = f"msrun failed, see {log_folder}" if crashed is None else f"worker {crashed} died, see {logs[crashed]}"
        raise WorkerError(f"{cause}; the same command resumes from the last saved state")
    if outcomes[0]["outcome"] == "stopped":
        raise Stopped(outcomes[0]["reason"])


def _watch(
    msrun: subprocess.Popen[bytes],
    processes: dict[int, psutil.Process],
    workers: int,
    stop: Callable[[], bool],
    log: IO[str],
) -> list[int]:
    # Copies the log to standard output and adds the workers to `processes`, until msrun has ended or it is time to kill
    # all of them. Returns the ranks of the workers that ended first.
    first_ended: list[int] = []
    ended_at = None
    stopping = False
    while msrun.poll() is None:
        time.sleep(POLL_SECONDS)
        _relay(log)
        processes |= _workers(msrun.pid)
        now = time.monotonic()
        if not first_ended:
            first_ended = [rank for rank, process in processes.items() if not alive(process)]
            ended_at = now if first_ended else None
        if stop() and not stopping and len(processes) == workers:
            # They stop after their step, and after the validation if it is due, however long that takes.
            stopping = True
            for process in processes.values():
                with suppress(psutil.NoSuchProcess):
                    process.terminate()
        grace = GRACE_SECONDS if any(map(alive, processes.values())) else END_SECONDS
        if ended_at and now - ended_at > grace:
            break
    return first_ended


def _crashed(first_ended: Mapping[int, int], missing: Sequence[int], msrun_log: Path) -> int | None:
    # Returns the rank of the worker that died, or None if it is not known. When one has died, msrun ends the others, so
    # they have no outcome either. first_ended: process ids by rank. missing: the ranks without an outcome.
    blamed = re.search(r"Worker process (\d+) exit with exception", msrun_log.read_text())
    candidates = {rank: pid for rank, pid in first_ended.items() if rank in missing}
    for rank, pid in candidates.items():
        if len(candidates) == 1 or (blamed and pid == int(blamed[1])):
            return rank
    return missing[0] if len(missing) == 1 else None


def _outcome_path(folder: Path, rank: int) -> Path:
    return folder / f"worker_{rank}.outcome.json"


def _read_outcome(folder: Path, rank: int) -> dict[str, Any] | None:
    try:
        outcome: dict[str, Any] = json.loads(_outcome_path(folder, rank).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return outcome


def _relay(log: IO[str]) -> None:
    for line in log:
        if not re.match(r"\[(INFO|WARNING|ERROR)\] |ERROR: ", line):  # MindSpore's lines; errors, which `launch` raises
            with suppress(OSError):  # if the terminal is gone, the workers can still save their state
                print(line, end="", flush=True)


def _workers(pid: int) -> dict[int, psutil.Process]:
    # Returns the workers among msrun's children, by rank. Another child is a `tail` with the environment of a worker.
    processes: dict[int, psutil.Process] = {}
    try:
        children = psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return processes
    for process in children:
        with suppress(psutil.Error):  # it has ended; of a zombie, there is no environment
            environment = process.environ()
            if environment.get("MS_ROLE") == "MS_WORKER" and process.name() != "tail":
                processes[int(environment["RANK_ID"])] = process
    return processes


def _kill(parents: Sequence[psutil.Process]) -> None:
    # Kills these processes and all their descendants, which include msrun's scheduler. Some may have ended; psutil
    # notices when their numbers belong to other processes.
    for parent in parents:
        descendants: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            descendants = parent.children(recursive=True)
        for process in [*descendants, parent]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
