"""Copies of the project in which tests run: with the parameters of a tiny problem, and with git and DVC."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from tests import archives

ROOT = Path(__file__).resolve().parents[1]

TINY: dict[str, dict[str, Any]] = {
    "data": {
        "urls": ["archive.tar.gz"],
        "md5": None,
        "train_images": archives.TRAIN_IMAGES,
        "test_images": archives.TEST_IMAGES,
    },
    "model": {"name": "alexnet", "image_height": 67, "image_width": 67, "dropout_rate": 0.0},
    "train": {
        "epoch_size": 2,
        "batch_size": archives.TRAIN_IMAGES // 5,
        "threads": 1,
        "crop_padding": 2,
        "crop_padding_mode": "constant",
        "cutout_size": 0,
        "whitening": False,
        "identity_init": False,
        "learning_rate": 0.02,
        "weight_decay": 0.001,
        "batch_norm_bias_lr_factor": 1,
    },
    "evaluate": {"threads": 1},
    "run": {"log_steps": 1, "save_checkpoint_steps": 1},
}
"""Parameters for ten steps of the smallest network on one core, with a state saved after each step."""

RESULTS = ("dvc.lock", "dvclive/", "metrics/", "plots/confusion.csv")
"""What git tracks of the pipeline's results. Copies start without it, even if it has been run in this repository."""

NARROWER = 8
"""A narrow network has this many times fewer channels in its convolutions, and NARROWER**2 times fewer hidden units."""

PAUSE = "PAUSE_BEFORE_STEP"
"""The environment variable that makes a training in a copy wait before each step, for this many seconds."""

SITE_CACHE = "DVC_SITE_CACHE_DIR"
"""The environment variable that names the folder for DVC's database of files, in place of /var/tmp/dvc."""


def change(folder: Path, **sections: dict[str, Any]) -> None:
    """Change values in the params.yaml of a folder."""
    path = folder / "params.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, changes in sections.items():
        values[section] |= changes
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def put_parameters(folder: Path) -> None:
    """Put params.yaml into a folder, with the values of the recipe `hour`.

    These are the values that it has in this repository, unless an experiment with others has been applied.
    """
    shutil.copy(ROOT / "params.yaml", folder)
    change(folder, **yaml.safe_load((ROOT / "recipes" / "hour.yaml").read_text(encoding="utf-8")))


def copy(folder: Path) -> Path:
    """Make a copy of the project with a tiny archive, tiny parameters and a narrow network."""
    listed = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", *RESULTS)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    make_narrow(folder)
    # Several tests must do something while a training is running, so they make it slower.
    loop = folder / "alexnet" / "training" / "loop.py"
    replace(loop, r"(?<=\n)import time\n", "import os\nimport time\n")
    pause = f'    time.sleep(float(os.environ.get("{PAUSE}", 0)))'
    replace(loop, r"( +)for step in range\(first, steps\):\n", rf"\g<0>\g<1>{pause}\n")
    archives.write(folder / "archive.tar.gz", archives.files())
    put_parameters(folder)
    change(folder, **TINY)
    return folder


def make_narrow(folder: Path) -> None:
    """Make the AlexNet in a copy of the library as narrow as `tests.networks.narrow` makes it in this process.

    A checkpoint of the real network takes 80 MB, and a state two or three times as much, so a test would spend most of
    its time writing files.
    """
    layers = folder / "alexnet" / "model" / "alexnet_layers.py"
    replace(layers, r"(?<=ConvolutionShape\()\d+", lambda found: str(int(found[0]) // NARROWER))
    replace(layers, r"(?<=HIDDEN_UNITS = )\d+", lambda found: str(int(found[0]) // NARROWER**2))


def replace(path: Path, pattern: str, replacement: "str | Callable[[re.Match[str]], str]") -> None:
    """Replace each match in a file, of which there must be at least one."""
    text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"))
    assert count, f"{path} has no {pattern}"
    path.write_text(text, encoding="utf-8")


def environment() -> dict[str, str]:
    """Return the environment of a new user's shell, with this Python first on PATH."""
    dropped = ("DVC_", "FORCE_COLOR", "GLOG_", "MS_", "MAKE", "MFLAGS", "TTY_COMPATIBLE")
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(dropped) or name == SITE_CACHE
    }
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return variables | {"PATH": path, "DVC_NO_ANALYTICS": "true", "PYTHONDONTWRITEBYTECODE": "1"}


STARTED: list["subprocess.Popen[str]"] = []
"""The processes that `start` has started, except for those that `run` has seen end."""


def start(folder: Path, *command: str, pause: float = 0, **options: Any) -> "subprocess.Popen[str]":
    """Start a command in a folder, in a session of its own, with all of its output in one pipe.

    A training that it starts waits for `pause` seconds before each step.
    """
    process: subprocess.Popen[str] = subprocess.Popen(
        command,
        cwd=folder,
        env=environment() | {PAUSE: str(pause)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **{"stderr": subprocess.STDOUT} | options,
    )
    STARTED.append(process)
    return process


def kill_started() -> None:
    """Kill what is left of the processes in STARTED, and of all that they started in the same sessions."""
    while STARTED:
        with suppress(ProcessLookupError):
            os.killpg(STARTED.pop().pid, signal.SIGKILL)


def run(folder: Path, *command: str, code: int | None = 0, **options: Any) -> str:
    """Run a command in a folder and return its output. Asserts the exit code, unless `code` is None."""
    process = start(folder, *command, **options)
    output, _ = process.communicate(timeout=900)
    STARTED.remove(process)
    assert code in (None, process.returncode), f"{command} exited with {process.returncode}:\n{output}"
    return output


def read_json(folder: Path, *command: str) -> Any:
    """Run a command in a folder and return the JSON that it printed, without its standard error, DVC's progress."""
    return json.loads(run(folder, *command, stderr=subprocess.DEVNULL))


def wait_for_queue(folder: Path, experiments: int) -> None:
    """Wait until DVC's queue has finished this many experiments, of which none may fail."""
    deadline = time.monotonic() + 900
    while (status := run(folder, "dvc", "queue", "status")).count("Success") < experiments:
        assert "Failed" not in status
        assert time.monotonic() < deadline, status
        time.sleep(2)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until a condition holds. Asserts that it does within five minutes, and before the process ends, if given."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


def commit(folder: Path, message: str = "a change") -> None:
    """Commit everything that is not ignored."""
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", message)


def repository(folder: Path) -> Path:
    """Make a copy of the project as a git repository of its own, in which everything is committed."""
    copy(folder)
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")
    run(folder, "git", "config", "user.name", "tester")
    run(folder, "git", "config", "user.email", "tester@example.org")
    commit(folder, "the project")
    return folder
