"""A file's digest."""

import hashlib
from pathlib import Path


def digest(path: Path, algorithm: str) -> str:
    """Return a file's digest in hexadecimal; `algorithm` is hashlib's name of it. Raises OSError."""
    state = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()
