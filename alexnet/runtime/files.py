"""Writing files and folders so that they appear complete or not at all."""

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
"""Errors of writing to a file that is open, for which the system names none."""


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the name at which to make a file or a folder; on leaving, sync it and move it to `path`.

    The yielded name is that of `path`, in a folder `.NAME.partial` beside it, which goes in the end; what a killed
    process left there is removed first. When the body raises, what stood at `path` stays. The parent folder is made
    when missing. Raises OSError as the file system does, with `path` where it names no file, as of a full disk.
    """
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        new = partial / path.name
        yield new
        for file in [new, *new.rglob("*")]:
            _sync(file)
        if path.is_dir():  # a rename replaces a file, but no folder
            os.replace(path, partial / "old")
        os.replace(new, path)
        _sync(path.parent)
    except OSError as error:
        if error.errno in _WRITING and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        shutil.rmtree(partial)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object, whole or not at all. Raises ValueError for NaN and infinity, which JSON does not have."""
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def digest(path: Path, algorithm: str) -> str:
    """Return a file's digest in hexadecimal; `algorithm` is its name in hashlib. Raises OSError."""
    state = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()
