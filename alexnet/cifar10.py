"""CIFAR-10: the names, sizes and statistics of its binary version, and functions that read its records.

Source of the format: https://www.cs.toronto.edu/~kriz/cifar.html, section "Binary version".
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet.runtime.errors import InputError

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NUM_CLASSES = len(CLASS_NAMES)


def class_name(label: int) -> str:
    """Return the name of a class. A network may have more outputs than classes; those are `class 10` and so on."""
    return CLASS_NAMES[label] if label < NUM_CLASSES else f"class {label}"


CHANNELS, HEIGHT, WIDTH = 3, 32, 32
RECORD_BYTES = 1 + CHANNELS * HEIGHT * WIDTH
"""The size of a record: one byte for the label, then the red, green and blue values of the image, row by row."""

ARCHIVE_FOLDER = "cifar-10-batches-bin"
"""The folder inside the official archive."""
OFFICIAL_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
"""The MD5 of the official archive, as given on its page."""
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILES = ("test_batch.bin",)
META_FILE = "batches.meta.txt"
"""The file with the class names, one on each line."""
README_FILE = "readme.html"
"""A page in the official archive, which nothing here reads."""
GENERATED = "generated"
"""The word that asks for generated images where an address of the archive is expected."""
GENERATED_FILE = "generated.txt"
"""A file that the official archive does not have. It marks images made by `alexnet.archive.generated`."""

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
"""Normalisation subtracts MEAN from each channel and then divides by STD. Pixel values are on a scale of 0 to 1.

MEAN is the mean over the training images. STD has the model zoo's values. They are smaller than the standard deviation
over all training images, which `metrics/data.json` has; they are about the mean of the standard deviations of single
images. Source: the zoo's dataset.py, https://gitee.com/mindspore/models/tree/master/official/cv/AlexNet"""
MEAN_COLOUR = np.round(255 * np.array(MEAN)).astype(np.uint8)
"""MEAN as a colour, uint8 of shape (3,)."""


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    images: uint8 of shape (N, CHANNELS, HEIGHT, WIDTH), channels in the order red, green, blue.
    labels: int32 of shape (N,), from 0 to NUM_CLASSES - 1.
    generated: whether the images were made by `alexnet.archive.generated`.
    """

    images: np.ndarray
    labels: np.ndarray
    generated: bool = False

    def __len__(self) -> int:
        return len(self.labels)


def parse(records: bytes | np.ndarray, source: str) -> Split:
    """Return the images and labels of records.

    Args:
        records: the bytes, or a uint8 array of them.
        source: what an error message calls the records.

    Raises InputError when there is no record, the last one is incomplete, or a label is not from 0 to 9.
    """
    flat = np.frombuffer(records, np.uint8)
    if len(flat) == 0 or len(flat) % RECORD_BYTES:
        raise InputError(
            f"{source} has {len(flat)} bytes, expected records of {RECORD_BYTES} bytes: it is cut short or not a "
            "CIFAR-10 file"
        )
    rows = flat.reshape(-1, RECORD_BYTES)
    wrong = np.flatnonzero(rows[:, 0] >= NUM_CLASSES)
    if len(wrong):
        raise InputError(
            f"{source} has label {rows[wrong[0], 0]} in record {wrong[0]}, expected 0 to {NUM_CLASSES - 1}: "
            "it is damaged or not a CIFAR-10 file"
        )
    return Split(rows[:, 1:].reshape(-1, CHANNELS, HEIGHT, WIDTH), rows[:, 0].astype(np.int32))


def read(folder: Path, files: tuple[str, ...]) -> Split:
    """Read `files` (TRAIN_FILES or TEST_FILES) in `folder`, in this order, as one split.

    Raises InputError when a file is missing or cannot be read, and whenever `parse` does.
    """
    parts = []
    for name in files:
        path = folder / name
        try:
            parts.append(parse(path.read_bytes(), str(path)))
        except OSError as error:
            raise InputError(
                f"cannot read {path}: {error.strerror}; expected {', '.join(files)} in this folder: unpack CIFAR-10's "
                "binary archive there, or name the folder that has these files"
            ) from None
    return Split(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        (folder / GENERATED_FILE).exists(),
    )
