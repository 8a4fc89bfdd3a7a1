"""`dvc repro` stopped at random moments, again and again, ends with the bytes of a run left alone.

A random signal to a random process stops it, or a disk that is full for a while. The normal suite stops one training;
`make chaos KILLS=100` stops the whole pipeline 100 times and ends with a table. SEED=N repeats the choices of the run
with that seed; the moments are then the same, but not what the processes are doing at these moments.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from alexnet.kernels import onednn
from alexnet.runtime.processes import alive
from tests import workspaces
from tests.tables import tally
from tests.trainings import OUTPUTS_WITH_TIMES, duplicate, states, without_times
from tests.workspaces import change, run, wait_until

KILLS = int(os.environ.get("CHAOS_KILLS") or 0)
REPRO = ("dvc", "repro") if KILLS else ("dvc", "repro", "train")
OUTPUTS = ("data", "dvclive", "metrics", "models", "plots", "predictions")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
TARGETS = ("group", "DVC", "stage")
SHARE_OF_FULL_DISKS = 0.2
FULL_SECONDS = 8
"""The longest time for which the disk is full."""
MAX_KILLS_OF_A_RUN = 5
STEP_SECONDS = 0.2
"""How long a training waits before each step, so that many of the signals come between its steps."""


def result(folder: Path) -> dict[str, Any]:
    """Return what must not differ: the content of dvc.lock, and the digest of each output."""
    assert not list(folder.rglob("*.partial"))
    files = [path for name in OUTPUTS for path in (folder / name).rglob("*") if path.is_file()]
    digests = {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}
    lock = without_times((folder / "dvc.lock").read_text(encoding="utf-8"))
    return {"lock": lock} | {name: digest for name, digest in digests.items() if name not in OUTPUTS_WITH_TIMES}


def disturb(dvc: "subprocess.Popen[bytes]", chance: random.Random) -> tuple[str, str]:
    """Stop DVC in one of the ways; return which, and what was running then. Two empty texts: it had ended."""
    full, number, target = chance.random() < SHARE_OF_FULL_DISKS, chance.choice(SIGNALS), chance.choice(TARGETS)
    full_seconds = chance.uniform(0, FULL_SECONDS)
    try:
        stages = [process for process in processes_of(dvc) if {"python", "stages"} <= set(process.cmdline())]
        running = stages[0].cmdline()[-1] if stages else "no stage"
        if full:
            fill_disk(dvc, full_seconds)
            return "disk full for a while", running
        if target == "group":
            os.killpg(dvc.pid, number)
        elif target == "stage" and stages:
            stages[0].send_signal(number)
        else:
            target = "DVC"
            dvc.send_signal(number)
    except (psutil.Error, ProcessLookupError):
        return "", ""
    return f"{number.name} to {target}", running


def fill_disk(dvc: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Keep all processes below DVC from writing to files for some seconds, as on a full disk.

    Processes that they start meanwhile inherit the limit. It needs no root rights. A write fails as on a full disk, but
    with another error number.
    """
    for limit in (0, resource.RLIM_INFINITY):
        for process in processes_of(dvc):
            with suppress(psutil.NoSuchProcess):
                process.rlimit(psutil.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        if limit == 0:
            with suppress(subprocess.TimeoutExpired):
                dvc.wait(seconds)


def processes_of(dvc: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    if dvc.poll() is not None:
        return []
    process = psutil.Process(dvc.pid)
    return [process, *process.children(recursive=True)]


def processes_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder) and alive(process):
                found.append(process)
        except psutil.Error:
            pass
    return found


@pytest.fixture(scope="module")
def repository(module_path: Path) -> Path:
    """The project with a tiny problem. For the short run, its data are already verified."""
    folder = workspaces.repository(module_path / "alexnet")
    if not KILLS:
        run(folder, "dvc", "repro", "verify")
    return folder


@pytest.fixture
def log(tmp_path: Path) -> Iterator[IO[bytes]]:
    """Where DVC prints to: a process that the full disk does not concern writes it to a file."""
    with (
        (tmp_path / "log").open("wb") as file,
        subprocess.Popen(("cat",), stdin=subprocess.PIPE, stdout=file, start_new_session=True) as writer,
    ):
        assert writer.stdin is not None
        yield writer.stdin


@pytest.mark.parametrize("kernels", ["onednn", "mindspore"] if KILLS else ["mindspore"])
def test_killed_at_random_moments(kernels: str, repository: Path, tmp_path: Path, log: IO[bytes]) -> None:
    if kernels == "onednn" and not onednn.available():
        pytest.skip("oneDNN is not installed")
    change(repository, train={"kernels": kernels})
    start = time.monotonic()
    alone = duplicate(repository, tmp_path / "alone")  # each has its own .dvc/cache
    run(alone, *REPRO, pause=STEP_SECONDS)
    expected, seconds = result(alone), time.monotonic() - start
    seed = os.environ.get("CHAOS_SEED") or (time.time_ns() if KILLS else 1)
    print(f"SEED={seed}", flush=True)
    chance = random.Random(f"{seed} {kernels}")  # noqa: S311  # no secret
    kills = 0
    while kills < max(1, KILLS // 2):
        folder = duplicate(repository, tmp_path / "stopped")
        done: list[str] = []
        for _ in range(chance.randint(1, MAX_KILLS_OF_A_RUN) if KILLS else 1):
            attack, running = repro_disturbed(folder, log, chance, seconds)
            if not attack:
                break
            done.append(attack)
            kills += 1
            print(f"{kernels} {kills}: {attack}, {running}", flush=True)
        outcome = "bad"
        try:
            output = run(folder, *REPRO)
            assert KILLS or "resuming after epoch" in output, "the training was stopped between its steps"
            assert result(folder) == expected, done
            wait_until(lambda place=folder: not processes_in(place))  # type: ignore[misc]
            outcome = "same bytes"
        finally:
            for attack in done:
                tally(f"{kernels}, {attack}", outcome)
        shutil.rmtree(folder)


def remove_damaged_lock(folder: Path) -> None:
    """Do what docs/interrupting.md advises when DVC was killed while it wrote the list of the files in use."""
    lock = folder / ".dvc/tmp/rwlock"
    with suppress(FileNotFoundError):
        try:
            json.loads(lock.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            lock.unlink()


def repro_disturbed(folder: Path, log: IO[bytes], chance: random.Random, seconds: float) -> tuple[str, str]:
    """Run DVC, stop it after a random time, and return how and at what; two empty texts when it had ended by then."""
    dvc = subprocess.Popen(
        REPRO,
        cwd=folder,
        env=workspaces.environment() | {workspaces.PAUSE: str(STEP_SECONDS)},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    if not KILLS:  # the only signal comes between the first steps
        wait_until(lambda: bool(states(folder)))
        seconds = 3 * STEP_SECONDS
    try:
        dvc.wait(chance.uniform(0, seconds))
    except subprocess.TimeoutExpired:
        disturbed = disturb(dvc, chance)
        dvc.wait(300)
        remove_damaged_lock(folder)
        return disturbed
    return "", ""
