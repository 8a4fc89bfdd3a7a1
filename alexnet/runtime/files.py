"""Writing files and folders, so that they appear complete or not at all."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Errors of writing to an open file. The exceptions for them do not name the file."""


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path for a new file or folder; after the body, sync it to disk and move it to `path`.

    The yielded path has the same name, in a temporary folder `.NAME.partial` beside `path`. The leftovers of a killed
    process are removed from there first. Until the new file or folder is there, whatever was at `path` stays, or comes
    back if this is interrupted; if the process is killed between two renames of folders, the next call brings it back.
    The parent folder is created if it is missing.

    Raises OSError when the file system does, with `path` as the file if the error names none, as for a full disk, and
    IsADirectoryError when the body makes a file and there is a folder at `path`.
    """
    partial = path.with_name(f".{path.name}.partial")
    old = partial / "old"
    _bring_back(old, path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        new = partial / path.name
        yield new
        for file in [new, *new.rglob("*")]:
            _sync(file)
        if path.is_dir() and new.is_dir():  # a rename can replace a file, but not a folder
            os.replace(path, old)
        os.replace(new, path)
        _sync(path.parent)
    except OSError as error:
        if error.errno in _WRITING and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        _bring_back(old, path)
        shutil.rmtree(partial)


def _bring_back(old: Path, path: Path) -> None:
    # Between two renames, the old folder is in another place, and nothing is at its own.
    if old.exists() and not path.exists():
        os.replace(old, path)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, completely or not at all. Raises OSError when the file system does."""
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object, completely or not at all.

    Raises ValueError for NaN and infinity, which JSON does not have, and OSError when the file system does.
    """
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def digest(path: Path, algorithm: str) -> str:
    """Return the digest of a file, in hexadecimal.

    `algorithm` is one of hashlib's names, such as `md5`. Raises OSError when the file cannot be read.
    """
    state = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()
