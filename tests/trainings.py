"""Functions for tests of trainings that end early: workspaces to train in, and their content afterwards."""

import re
import shutil
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil
import yaml

from alexnet.runtime.files import digest
from alexnet.runtime.processes import alive
from tests import workspaces
from tests.workspaces import change, run

TRAIN = ("python", "-m", "stages", "train")
OUTPUTS_WITH_TIMES = ("metrics/timing.json", "report")
"""Outputs that contain times and so differ from run to run."""


def verified(folder: Path, **sections: dict[str, Any]) -> Path:
    """Make a copy of the project with these parameters and verified data."""
    workspaces.copy(folder)
    change(folder, **sections)
    for stage in ("download", "verify"):
        run(folder, "python", "-m", "stages", stage)
    return folder


def duplicate(folder: Path, parent: Path) -> Path:
    """Make a copy of a workspace, with its states and its repository, which a test may change."""
    return Path(shutil.copytree(folder, parent / "alexnet", symlinks=True))


def outputs(folder: Path) -> str:
    """Return the MD5 of the checkpoint, and the metrics and curves, which must not differ from run to run."""
    checkpoint = digest(folder / "models" / "alexnet.ckpt", "md5")
    curves = sorted((folder / "dvclive").rglob("*.*"))
    assert len(curves) == 6
    return checkpoint + "".join(path.read_text() for path in (folder / "metrics" / "train.json", *curves))


def no_outputs(folder: Path) -> bool:
    """Return whether a workspace has no checkpoint and no metrics of a training."""
    return not any((folder / name).exists() for name in ("models/alexnet.ckpt", "metrics/train.json"))


def without_times(lock: str) -> Any:
    """Return the deps and outputs in a dvc.lock, except for the files that contain times."""
    stages = yaml.safe_load(lock)["stages"]
    return {
        name: [
            entry
            for kind in ("deps", "outs")
            for entry in stage.get(kind, ())
            if entry["path"] not in OUTPUTS_WITH_TIMES
        ]
        for name, stage in stages.items()
    }


def states(folder: Path) -> list[str]:
    """Return the names of the saved states, the latest step last."""
    paths = (folder / ".dvc" / "tmp" / "alexnet").glob("*/checkpoint_alexnet-*.ckpt")
    return sorted((path.name for path in paths), key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def trainers(folder: Path) -> list[psutil.Process]:
    """Return the processes that train in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = Path(process.cwd()).is_relative_to(folder)
            if inside and {"stages", "train"} <= set(process.cmdline()) and alive(process):
                found.append(process)
        except psutil.Error:
            pass
    return found


def wait_for(process: "Popen[str]", text: str) -> str:
    """Read the output of a process until a line contains the text, and return what was read."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return "".join(seen)
    raise AssertionError(f"no {text!r} in {''.join(seen)}")
