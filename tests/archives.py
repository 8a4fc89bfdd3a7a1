"""Small archives with CIFAR-10's layout, which tests damage in one place."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from alexnet import cifar10

TRAIN_IMAGES, TEST_IMAGES = 10 * cifar10.NUM_CLASSES, 2 * cifar10.NUM_CLASSES
"""The numbers of images in most of the archives here."""


def records(labels: np.ndarray, seed: int) -> bytes:
    """Return records with these labels and random pixels."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (len(labels), cifar10.RECORD_BYTES), dtype=np.uint8)
    rows[:, 0] = labels
    return rows.tobytes()


def files(train_images: int = TRAIN_IMAGES, test_images: int = TEST_IMAGES) -> dict[str, bytes]:
    """Return the files of the layout by name. Each split has every class equally often."""
    content = {cifar10.META_FILE: ("\n".join(cifar10.CLASS_NAMES) + "\n\n").encode()}
    parts = np.array_split(np.arange(train_images) % cifar10.NUM_CLASSES, len(cifar10.TRAIN_FILES))
    for number, (name, labels) in enumerate(zip(cifar10.TRAIN_FILES, parts, strict=True)):
        content[name] = records(labels, number)
    content["test_batch.bin"] = records(np.arange(test_images) % cifar10.NUM_CLASSES, 99)
    return content


def write(path: Path, content: Mapping[str, bytes]) -> Path:
    """Write an archive of these files and return its path."""
    path.write_bytes(packed(content))
    return path


def packed(content: Mapping[str, bytes]) -> bytes:
    """Return an archive of these files, a .tar.gz, in which they are in CIFAR-10's folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(f"{cifar10.ARCHIVE_FOLDER}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
