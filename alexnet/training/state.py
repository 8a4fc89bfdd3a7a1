"""The state of a training on disk: whole, checked, and found again only by the same training."""

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
"""How long to wait for another process with the same training: long enough for an orphan to notice and stop."""

RESULT = "result.json"
"""Beside the states of a training that has ended, and written after all of its outputs."""

_NAME = re.compile(r"checkpoint_alexnet-(\d+)_(\d+)\.ckpt")

log = logging.getLogger(__name__)


def key(identity: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that stand for everything that decides a training's result."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def remove_recorded(root: Path, recorded: Callable[[str], bool]) -> None:
    """Remove the states of each training that has ended and whose result is recorded.

    States that a process has locked stay, and so do those that were finished with `keep`.

    Args:
        root: the folder of all trainings' states.
        recorded: whether somebody else has noted a result, which is what `States.finish` was given.
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
    """The saved states of one training, as `checkpoint_alexnet-{epoch}_{step}.ckpt` with a `.sha256` beside each.

    Args:
        root: the folder of all trainings' states.
        identity: everything that decides the training's result, in JSON's types. The states stand in the folder
            `root` / `key(identity)`, so that another training never finds them.
        keep_checkpoint_max: how many of the newest states to keep.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any], keep_checkpoint_max: int) -> None:
        self.folder = root / key(identity)
        self._identity = identity
        self._keep = keep_checkpoint_max

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold these states for this process alone; yield whether another process had them first.

        Waits LOCK_SECONDS for another process that has them; raises InputError when it still has them then.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder.with_suffix(".lock"))  # beside the folder, which is removed while this is held
        waited = False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process runs this very training: waiting %d s for it to end", LOCK_SECONDS)
            waited = True
            try:
                lock.acquire(timeout=LOCK_SECONDS)
            except Timeout:
                raise InputError(
                    f"another process runs this very training, with its state in {self.folder}: "
                    "wait until it ends, or stop it"
                ) from None
        try:
            self.folder.mkdir(exist_ok=True)
            yield waited
        finally:
            lock.release()

    def save(self, epoch: int, step: int, values: Mapping[str, ms.Tensor]) -> None:
        """Save the values, by name, as the state after `step` steps of `epoch`, both from 1; drop the oldest states.

        A Parameter is a Tensor. Raises OSError as the file system does; the states before stay.
        """
        write_json(self.folder / "identity.json", self._identity)
        path = self.folder / f"checkpoint_alexnet-{epoch}_{step}.ckpt"
        with replacing(path) as new:
            write_checkpoint(values, new)
            write_text(self._checksum(path), f"{digest(new, 'sha256')}  {path.name}\n")
        for old in self._newest_first()[self._keep :]:
            self._remove(old)

    def newest(self) -> dict[str, np.ndarray] | None:
        """Return the values of the newest state that is whole; None when there is none.

        One that is cut short or altered is named in a warning and removed.
        """
        for path in self._newest_first():
            try:
                whole = self._checksum(path).read_text().split()[0] == digest(path, "sha256")
            except (OSError, IndexError, UnicodeDecodeError):
                whole = False
            if whole:
                epoch, step = _NAME.fullmatch(path.name).groups()  # type: ignore[union-attr]
                log.info("resuming after epoch %s step %s, from %s", epoch, step, path)
                return read_checkpoint(path)
            log.warning("%s is damaged (its checksum is wrong): removing it and taking the state before", path)
            self._remove(path)
        return None

    def result(self) -> str | None:
        """Return the result that `finish` noted; None when the training has not ended, or has begun again."""
        finished = _read_result(self.folder)
        return finished["result"] if finished else None

    def begin(self) -> None:
        """Forget the result of an earlier run, because its outputs are about to be written again."""
        (self.folder / RESULT).unlink(missing_ok=True)

    def finish(self, result: str, keep: bool) -> None:
        """Note the result, once all outputs are written.

        Args:
            result: what identifies the result, for `remove_recorded`.
            keep: whether all states stay; otherwise only the newest does, until `remove_recorded` removes it.
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
