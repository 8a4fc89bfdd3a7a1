"""Show or clear what interrupted trainings left: their states, their workers' logs, and DVC's temporary experiments.

No DVC stage: run it in the repository, as `python -m stages states` or `python -m stages states --clear`.
"""

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from tqdm import tqdm

from stages import paths

STANDALONE = Path(".dvc/tmp/exps/standalone")
"""Where `dvc exp run --temp` copies the workspace to; the queue's copies stand one folder up."""


def main(flags: argparse.Namespace) -> None:
    states = sorted(path.parent for path in paths.states().glob("*/identity.json"))
    logs = sorted(paths.states().glob("workers-*"))
    copies = sorted([*STANDALONE.glob("tmp*"), *STANDALONE.parent.glob("tmp*")])
    for folder in (*states, *logs, *copies):
        size = tqdm.format_sizeof(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()), "B")
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(folder.stat().st_mtime))
        what = _describe(folder) if folder in states else "workers' logs" if folder in logs else "temporary experiment"
        with _locked(folder) if folder in states else nullcontext(_has_process(folder)) as used:
            print(f"{size:>6}  {when}  {folder}  {what}{', in use' if used else ', removed' if flags.clear else ''}")
            if flags.clear and not used:
                shutil.rmtree(folder)
                folder.with_suffix(".lock").unlink(missing_ok=True)


def _describe(folder: Path) -> str:
    identity = json.loads((folder / "identity.json").read_text(encoding="utf-8"))
    model, train = identity["model"], identity["train"]
    names = sorted(path.stem for path in folder.glob("*.ckpt"))
    size = f"{model['image_height']}x{model['image_width']}"
    return f"{size}, epoch_size {train['epoch_size']}, learning_rate {train['learning_rate']}: {', '.join(names)}"


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    # Whether a training has these states; if none has, none can take them while the context lasts.
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(folder.with_suffix(".lock"), timeout=0))
        except Timeout:
            yield True
        else:
            yield False


def _has_process(folder: Path) -> bool:
    # A copy is the working folder of what runs in it; a log folder is named after the process that started the workers.
    if folder.name.startswith("workers-"):
        return psutil.pid_exists(int(folder.name.removeprefix("workers-")))
    return any(
        process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(folder.resolve())
        for process in psutil.process_iter(["cwd"])
    )
