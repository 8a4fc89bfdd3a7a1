"""Saved states of a training: written completely, checked when they are read, and found only by the same training."""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from filelock import FileLock, Timeout

from alexnet.model.checkpoint import read_checkpoint, write_checkpoint
from alexnet.runtime.errors import InputError
from alexnet.runtime.files import digest, replacing, write_json, write_text

LOCK_SECONDS = 60
"""How long to wait for another process that runs the same training, in seconds.

That is enough for a process whose DVC was killed to notice it and to stop."""

RESULT = "result.json"
"""The file, beside the states, that is written when a training has ended, after all of its outputs."""

_NAME = re.compile(r"checkpoint_alexnet-(\d+)_(\d+)\.ckpt")

log = logging.getLogger(__name__)


def key(identity: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that identify a training by everything that decides its result."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def remove_recorded(root: Path, recorded: Callable[[str], bool]) -> None:
    """Remove the states of each training that has ended and whose result is recorded elsewhere.

    States that a process has locked stay, and so do those that were finished with `keep`.

    Args:
        root: the folder of the states of all trainings.
        recorded: returns whether a result, as it was given to `States.finish`, is recorded.
    """
    for path in sorted(root.glob(f"*/{RESULT}")):
        lock = path.parent.with_suffix(".lock")
        with suppress(Timeout), FileLock(lock, timeout=0):
            finished = _read_result(path.parent)
            if finished and not finished["keep"] and recorded(finished["result"]):
                shutil.rmtree(path.parent)
                lock.unlink()


def _read_result(folder: Path) -> dict[str, Any] | None:
    try:
        values = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        return {"result": str(values["result"]), "keep": bool(values["keep"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


class States:
    """The saved states of one training.

    Each state is a file `checkpoint_alexnet-{epoch}_{step}.ckpt`, with its checksum in a `.sha256` file beside it. Use
    the other methods inside `with states.locked():`, which creates the folder. Without the folder, `newest` and `clear`
    raise FileNotFoundError.

    Args:
        root: the folder of the states of all trainings.
        identity: everything that decides the result of the training, in types that JSON has. The states are in the
            folder `root` / `key(identity)`, so that no other training finds them.
        keep_checkpoint_max: how many of the newest states are kept.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any], keep_checkpoint_max: int) -> None:
        self.folder = root / key(identity)
        self._identity = identity
        self._keep = keep_checkpoint_max

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Lock these states, so that no other process uses them; yield whether another process had locked them before.

        Raises InputError when another process still has them locked after LOCK_SECONDS.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder.with_suffix(".lock"))  # beside the folder, which is removed while this is held
        waited = False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process runs the same training: waiting up to %d s for it to end", LOCK_SECONDS)
            waited = True
            try:
                lock.acquire(timeout=LOCK_SECONDS)
            except Timeout:
                raise InputError(
                    f"another process runs the same training, with its state in {self.folder}: "
                    "wait until it ends, or stop it"
                ) from None
        try:
            self.folder.mkdir(exist_ok=True)
            yield waited
        finally:
            lock.release()

    def save(self, epoch: int, step: int, values: Mapping[str, ms.Tensor]) -> None:
        """Save a state and remove those that are too old.

        Args:
            epoch: the epoch, counted from 1.
            step: how many steps of this epoch are done.
            values: the values of the state, by name. (A Parameter is a Tensor.)

        Raises OSError when the file system does; the earlier states stay then.
        """
        write_json(self.folder / "identity.json", self._identity)
        path = self.folder / f"checkpoint_alexnet-{epoch}_{step}.ckpt"
        with replacing(path) as new:
            write_checkpoint(values, new)
            write_text(self._checksum(path), f"{digest(new, 'sha256')}  {path.name}\n")
        for old in self._newest_first()[self._keep :]:
            self._remove(old)

    def newest(self) -> dict[str, np.ndarray] | None:
        """Return the values of the newest intact state, by name; None when there is none.

        A damaged state is removed, with a warning.
        """
        for path in self._newest_first():
            try:
                intact = self._checksum(path).read_text().split()[0] == digest(path, "sha256")
            except (OSError, IndexError, UnicodeDecodeError):
                intact = False
            if intact:
                epoch, step = _NAME.fullmatch(path.name).groups()  # type: ignore[union-attr]
                log.info("resuming after epoch %s step %s, from %s", epoch, step, path)
                return read_checkpoint(path)
            log.warning("%s is damaged (its checksum is wrong): removing it and trying the state before it", path)
            self._remove(path)
        return None

    def result(self) -> str | None:
        """Return the result that `finish` stored; None when the training has not ended, or has begun again."""
        finished = _read_result(self.folder)
        return finished["result"] if finished else None

    def begin(self) -> None:
        """Remove the result of an earlier run, because its outputs are about to be written again."""
        (self.folder / RESULT).unlink(missing_ok=True)

    def finish(self, result: str, keep: bool) -> None:
        """Store the result. Call it once all outputs have been written.

        Args:
            result: a text that identifies the result, for `remove_recorded`.
            keep: whether to keep all states. Otherwise only the newest stays, until `remove_recorded` removes it.
        """
        if not keep:
            for old in self._newest_first()[1:]:
                self._remove(old)
        write_json(self.folder / RESULT, {"result": result, "keep": keep})

    def clear(self) -> None:
        """Remove these states."""
        shutil.rmtree(self.folder)

    def _newest_first(self) -> list[Path]:
        numbers = {path: match for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name))}
        return sorted(numbers, key=lambda path: tuple(map(int, numbers[path].groups())), reverse=True)

    @staticmethod
    def _checksum(path: Path) -> Path:
        return path.with_name(path.name + ".sha256")

    def _remove(self, path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        self._checksum(path).unlink(missing_ok=True)
