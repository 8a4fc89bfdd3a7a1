"""`dvc repro` killed at random moments, by a random signal to a random process, has the bytes of a run left alone.

The normal suite kills two trainings; `make chaos KILLS=100` kills the whole pipeline so often.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import pytest

from alexnet.kernels import onednn
from alexnet.runtime.processes import alive
from tests import workspaces
from tests.trainings import HOLD_TIMES, duplicate, without_times
from tests.workspaces import change, run, wait_until

KILLS = int(os.environ.get("KILLS", 0))
REPRO = ("dvc", "repro") if KILLS else ("dvc", "repro", "train")
OUTPUTS = ("data", "dvclive", "metrics", "models", "plots", "predictions")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
MOST_KILLS_OF_A_RUN = 5


def result(folder: Path) -> dict[str, Any]:
    """Return what must not differ: the content of dvc.lock, and the digest of each output."""
    assert not list(folder.rglob("*.partial"))
    files = [path for name in OUTPUTS for path in (folder / name).rglob("*") if path.is_file()]
    digests = {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}
    lock = without_times((folder / "dvc.lock").read_text(encoding="utf-8"))
    return {"lock": lock} | {name: digest for name, digest in digests.items() if name not in HOLD_TIMES}


def kill(dvc: "subprocess.Popen[bytes]", chance: random.Random) -> str:
    """Send a signal to the process group, to DVC or to the running stage; return a description of it."""
    number, whom = chance.choice(SIGNALS), chance.choice(("group", "DVC", "stage"))
    try:
        below = psutil.Process(dvc.pid).children(recursive=True)
        stages = [process for process in below if "stages" in process.cmdline() and process.name() != "sh"]
        running = stages[0].cmdline()[-1] if stages else "between stages"
        if whom == "group":
            os.killpg(dvc.pid, number)
        elif whom == "stage" and stages:
            stages[0].send_signal(number)
        else:
            dvc.send_signal(number)
    except (psutil.Error, ProcessLookupError):
        return "nothing, for it had ended"
    return f"{number.name} to {whom}, {running}"


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


@pytest.mark.parametrize("kernels", ["onednn", "mindspore"])
def test_killed_at_random_moments(kernels: str, repository: Path, tmp_path: Path) -> None:
    if kernels == "onednn" and not onednn.available():
        pytest.skip("oneDNN is not installed")
    change(repository, train={"kernels": kernels})
    start = time.monotonic()
    alone = duplicate(repository, tmp_path / "alone")  # each has its own .dvc/cache
    run(alone, *REPRO)
    expected, seconds = result(alone), time.monotonic() - start
    seed = time.time_ns() if KILLS else 1
    chance = random.Random(seed)  # noqa: S311  # no secret
    events = [f"seed {seed}"]
    kills = 0
    while kills < max(1, KILLS // 2):
        folder = duplicate(repository, tmp_path / "killed")
        for _ in range(chance.randint(1, MOST_KILLS_OF_A_RUN) if KILLS else 1):
            with (tmp_path / "log").open("wb") as log:
                dvc = subprocess.Popen(
                    REPRO,
                    cwd=folder,
                    env=workspaces.environment(),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            try:
                dvc.wait(chance.uniform(0, seconds))
                break
            except subprocess.TimeoutExpired:
                events.append(kill(dvc, chance))
                kills += 1
                dvc.wait(300)
        print(*events[-6:], sep="; ", flush=True)
        run(folder, *REPRO)
        assert result(folder) == expected, events
        wait_until(lambda place=folder: not processes_in(place))  # type: ignore[misc]
        shutil.rmtree(folder)
