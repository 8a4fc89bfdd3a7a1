"""Copies of the project in which tests run: with the parameters of a tiny problem, and with git and DVC."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from alexnet.model.alexnet_layers import HIDDEN_UNITS
from tests import archives

ROOT = Path(__file__).resolve().parents[1]

TINY: dict[str, dict[str, Any]] = {
    "data": {"urls": ["archive.tar.gz"], "md5": None, "train_images": 100, "test_images": 20},
    "model": {"image_height": 67, "image_width": 67},
    "train": {"epoch_size": 2, "batch_size": 20, "threads": 1},
    "evaluate": {"threads": 1},
    "run": {"log_steps": 1, "save_checkpoint_steps": 1},
}
"""Parameters for ten steps of the smallest network on one core, with a state saved after each step."""


def change(folder: Path, **sections: dict[str, Any]) -> None:
    """Change values in the params.yaml of a folder."""
    path = folder / "params.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, changes in sections.items():
        values[section] |= changes
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def copy(folder: Path, hidden_units: int = 256) -> Path:
    """Make a copy of all that belongs to the project, with a tiny archive, tiny parameters and a narrow network.

    With as many hidden units as the project's most of a test's time goes into states and checkpoints.
    """
    listed = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    architecture = folder / "alexnet" / "model" / "alexnet_layers.py"
    code = architecture.read_text(encoding="utf-8")
    line = f"HIDDEN_UNITS = {HIDDEN_UNITS}\n"
    assert line in code
    architecture.write_text(code.replace(line, f"HIDDEN_UNITS = {hidden_units}\n"), encoding="utf-8")
    archives.write(folder / "archive.tar.gz", archives.files())
    change(folder, **TINY)
    return folder


def environment() -> dict[str, str]:
    """Return the environment of a new user's shell, with this Python first on PATH."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GLOG_", "MS_"))}
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return variables | {"PATH": path, "DVC_NO_ANALYTICS": "true", "PYTHONDONTWRITEBYTECODE": "1"}


def start(folder: Path, *command: str, **options: Any) -> "subprocess.Popen[str]":
    """Start a command in a folder, in a session of its own, with all of its output in one pipe."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )


def run(folder: Path, *command: str, code: int | None = 0, **options: Any) -> str:
    """Run a command in a folder and return its output. Asserts the exit code, unless `code` is None."""
    process = start(folder, *command, **options)
    output, _ = process.communicate(timeout=600)
    assert code in (None, process.returncode), f"{command} exited with {process.returncode}:\n{output}"
    return output


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition holds. Asserts that it does in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
