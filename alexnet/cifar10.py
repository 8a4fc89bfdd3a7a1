"""CIFAR-10: the names, sizes and statistics of its binary version, and how its records are read.

Source of the format: https://www.cs.toronto.edu/~kriz/cifar.html, section "Binary version".
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet.runtime.errors import InputError

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NUM_CLASSES = len(CLASS_NAMES)


def class_name(label: int) -> str:
    """Return the name of a class; an output of the network that stands for none is `class 10` and so on."""
    return CLASS_NAMES[label] if label < NUM_CLASSES else f"class {label}"


CHANNELS, HEIGHT, WIDTH = 3, 32, 32
RECORD_BYTES = 1 + CHANNELS * HEIGHT * WIDTH
"""A record is one byte of label, then the red, the green and the blue plane, each row by row."""

ARCHIVE_FOLDER = "cifar-10-batches-bin"
"""The folder inside the official archive."""
OFFICIAL_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
"""The MD5 of the official archive, as its page gives it."""
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILES = ("test_batch.bin",)
META_FILE = "batches.meta.txt"
"""The file of the class names, one on each line."""
README_FILE = "readme.html"
"""A page of the official archive that nothing here reads."""
GENERATED = "generated"
"""The word that stands for an archive of drawn pictures where an address is expected."""
GENERATED_FILE = "generated.txt"
"""A file that the official archive lacks: it marks images drawn by `alexnet.archive.generated`."""

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
"""Per-channel statistics of the training images on a scale of 0 to 1, as the model zoo's dataset.py
has them: https://gitee.com/mindspore/models/tree/master/official/cv/AlexNet"""


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    images: uint8 of shape (N, 3, 32, 32), channels red, green, blue.
    labels: int32 of shape (N,), each in 0 to 9.
    generated: the images were drawn by `alexnet.archive.generated`.
    """

    images: np.ndarray
    labels: np.ndarray
    generated: bool = False

    def __len__(self) -> int:
        return len(self.labels)


def parse(records: bytes | np.ndarray, source: str) -> Split:
    """Split records into images and labels; `source` names them in an error.

    Raises InputError when the bytes are no whole number of records, there is none, or a label is not 0 to 9.
    """
    flat = np.frombuffer(records, np.uint8)
    if len(flat) == 0 or len(flat) % RECORD_BYTES:
        raise InputError(
            f"{source} has {len(flat)} bytes, expected records of {RECORD_BYTES} bytes: cut short or no CIFAR-10 file"
        )
    rows = flat.reshape(-1, RECORD_BYTES)
    wrong = np.flatnonzero(rows[:, 0] >= NUM_CLASSES)
    if len(wrong):
        raise InputError(
            f"{source} has label {rows[wrong[0], 0]} in record {wrong[0]}, expected 0 to {NUM_CLASSES - 1}: "
            "damaged or no CIFAR-10 file"
        )
    return Split(rows[:, 1:].reshape(-1, CHANNELS, HEIGHT, WIDTH), rows[:, 0].astype(np.int32))


def read(folder: Path, files: tuple[str, ...]) -> Split:
    """Read `files` (TRAIN_FILES or TEST_FILES) of `folder`, in order, as one split.

    Raises InputError when a file is missing or unreadable, and for what `parse` refuses.
    """
    parts = []
    for name in files:
        path = folder / name
        try:
            parts.append(parse(path.read_bytes(), str(path)))
        except OSError as error:
            raise InputError(
                f"cannot read {path}: {error.strerror}; expected {', '.join(files)} there: unpack CIFAR-10's binary "
                "archive, or name the folder that has them"
            ) from None
    return Split(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        (folder / GENERATED_FILE).exists(),
    )
