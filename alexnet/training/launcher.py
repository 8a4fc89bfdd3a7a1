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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil

from alexnet.runtime.errors import InputError, Stopped, WorkerError, describe
from alexnet.runtime.files import write_json
from alexnet.runtime.processes import LAUNCHED, alive

POLL_SECONDS = 0.1
GRACE_SECONDS = 10
"""How long the other workers may go on running after one has ended, in seconds; normally they end together."""
STOP_SECONDS = 60
"""How long the workers have to save their state after a request to stop, and `msrun` to end after the last, in s."""

OUTCOMES = "ALEXNET_OUTCOMES"
"""The environment variable that tells a launched worker the folder for its outcome."""


def launched() -> bool:
    """Return whether `launch` started this process."""
    return OUTCOMES in os.environ


@contextmanager
def outcome_reported() -> Iterator[None]:
    """In a launched worker, write how the body ended to `worker_{rank}.outcome.json` for the launcher.

    The file says `outcome`: `finished`, `stopped` (Stopped was raised) or `failed`; and, unless it finished, `reason`
    and `exit_code`. For a bug, whose traceback is in the log, there is no file. Exceptions are passed on.
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
        with suppress(OSError):  # on a full disk, the launcher can only point to the log
            report("failed", reason=describe(error), exit_code=1)
        raise
    report("finished")


def launch(command: Sequence[str], workers: int, log_folder: Path, stop: Callable[[], bool]) -> None:
    """Run `python` with the arguments `command` as `workers` workers of this machine, and wait until they have ended.

    What worker 0 prints goes to standard output at once; what all of them print is in `log_folder`. The command must
    have its work within `outcome_reported`. When `stop` says so, the workers get a SIGTERM. No process is left when
    this returns or raises.

    Raises Stopped when the workers ended because of `stop`, InputError when one failed because of one, and WorkerError
    when one failed for another reason; if that is not known, the error names the worker and its log.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log_folder = log_folder.absolute()
    log_folder.mkdir(parents=True, exist_ok=True)
    logs = [log_folder / f"worker_{rank}.log" for rank in range(workers)]
    for rank, log in enumerate(logs):
        log.write_bytes(b"")
        _outcome_path(log_folder, rank).unlink(missing_ok=True)
    options = {
        "worker_num": workers,
        "local_worker_num": workers,
        "master_port": port,
        "log_dir": log_folder,
        "join": True,
    }
    # msrun takes only the literal word python, so our Python's folder must be the first on PATH. It runs in a
    # separate session, so that Ctrl-C at the terminal reaches only this process, which then asks the workers to stop.
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

    outcomes = {rank: outcome for rank in range(workers) if (outcome := _read_outcome(log_folder, rank))}
    for outcome in outcomes.values():
        if outcome["outcome"] == "failed":
            raise (InputError if outcome["exit_code"] == 2 else WorkerError)(outcome["reason"])
    missing = [rank for rank in range(workers) if rank not in outcomes]
    if missing or msrun.returncode != 0:
        # msrun ends the others when one has died, so these have no outcome either.
        named = re.search(r"Worker process (\d+) exit with exception", (log_folder / "msrun.log").read_text())
        died = (rank for rank in first if len(first) == 1 or (named and family[rank].pid == int(named[1])))
        culprit = next(died, missing[0] if len(missing) == 1 else None)
        which = f"worker {culprit} died, its log is {logs[culprit]}" if culprit is not None else "msrun failed"
        which += "" if culprit is not None else f", see {log_folder}"
        raise WorkerError(f"{which}; the next start resumes from the last state")
    if outcomes[0]["outcome"] == "stopped":
        raise Stopped(outcomes[0]["reason"])


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
        if not re.match(r"\[(INFO|WARNING|ERROR)\] |ERROR: ", line):  # MindSpore's own, and errors that we report
            with suppress(OSError):  # the terminal is gone, but the workers can still save their state
                print(line, end="", flush=True)


def _workers(pid: int) -> dict[int, psutil.Process]:
    # The workers among msrun's children, by rank. It also starts a `tail` of each log, with the same environment.
    found = {}
    try:
        for process in psutil.Process(pid).children():
            environment = process.environ()
            if environment.get("MS_ROLE") == "MS_WORKER" and process.name() != "tail":
                found[int(environment["RANK_ID"])] = process
    except psutil.Error:  # one that has just ended
        pass
    return found


def _kill(pids: Sequence[int]) -> None:
    # These and all their descendants, msrun's scheduler among them.
    for pid in pids:
        try:
            process = psutil.Process(pid)
            for one in [*process.children(recursive=True), process]:
                one.kill()
        except psutil.NoSuchProcess:
            pass
