"""Show or remove what trainings left behind: states, workers' logs, lock files, and temporary experiments.

This is not a stage of DVC: run it in the repository, as `python -m stages states` or `python -m stages states --clear`.
"""

import argparse
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from tqdm import tqdm

from alexnet.training.state import RESULT
from stages import paths

STANDALONE = Path(".dvc/tmp/exps/standalone")
"""The folder to which `dvc exp run --temp` copies the workspace. The copies for the queue are in its parent folder."""

_DVC = re.compile(r"(^|/)dvc(/__main__\.py)?$|^tools$")
"""Matches the argument of a command line that runs DVC: of DVC itself, of its queue, or of `tools/`."""


def main(flags: argparse.Namespace) -> None:
    root = paths.states()
    states = sorted(path for path in root.glob("*") if path.is_dir() and re.fullmatch("[0-9a-f]{16}", path.name))
    locks = sorted(path for path in root.glob("*.lock") if not path.with_suffix("").exists())
    logs = sorted(root.glob("workers-*"))
    copies = sorted([*STANDALONE.glob("tmp*"), *STANDALONE.parent.glob("tmp*")])
    kinds = dict.fromkeys(logs, "workers' logs") | dict.fromkeys(copies, "temporary experiment")
    kinds |= dict.fromkeys(locks, "lock file")
    for path in (*states, *logs, *copies, *locks):
        with suppress(FileNotFoundError), ExitStack() as stack:  # a training may remove it in the meantime
            size = tqdm.format_sizeof(_bytes(path), "B")
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
            what = _describe(path) if path in states else kinds[path]
            used = stack.enter_context(_locked(path)) if path in (*states, *locks) else _has_process(path)
            print(f"{size:>6}  {when}  {path}  {what}{', in use' if used else ', removed' if flags.clear else ''}")
            if flags.clear and not used:
                if path not in locks:
                    shutil.rmtree(path)
                path.with_suffix(".lock").unlink(missing_ok=True)


def _bytes(path: Path) -> int:
    # A running training may remove a file in the meantime; it counts as empty.
    total = path.stat().st_size if path.is_file() else 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _describe(folder: Path) -> str:
    names = sorted(path.stem for path in folder.glob("*.ckpt"))
    try:
        identity = json.loads((folder / "identity.json").read_text(encoding="utf-8"))
        model, train = identity["model"], identity["train"]
        size = f" {model['image_height']}x{model['image_width']}" if "image_height" in model else ""
        training = f"{model['name']}{size}, epoch_size {train['epoch_size']}, learning_rate {train['learning_rate']}"
    except FileNotFoundError:
        training = "a training without identity.json"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        training = "a training whose identity.json is damaged"
    return f"{training}: {', '.join(names) or 'no state'}{', finished' if (folder / RESULT).exists() else ''}"


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    # Yields whether a training has locked these states. If none has, none can lock them until the body ends.
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(folder.with_suffix(".lock"), timeout=0))
        except Timeout:
            yield True
        else:
            yield False


def _has_process(folder: Path) -> bool:
    # A log folder has the number of the process that started the workers in its name; another process with this number
    # started later. A copy of the workspace is in use when a process has it as its working folder, or when DVC runs in
    # the workspace, because DVC makes a copy before it changes into it, and reads the results after it has left it.
    if folder.name.startswith("workers-"):
        number = folder.name.removeprefix("workers-")
        with suppress(psutil.NoSuchProcess):
            return number.isdecimal() and psutil.Process(int(number)).create_time() <= folder.stat().st_mtime
        return False
    for process in psutil.process_iter(["cwd", "cmdline"]):
        place = process.info["cwd"] and Path(process.info["cwd"])
        if place and place.is_relative_to(folder.resolve()):
            return True
        if place and place.is_relative_to(Path.cwd()) and any(map(_DVC.search, process.info["cmdline"] or ())):
            return True
    return False
