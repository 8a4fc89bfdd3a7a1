"""A stand-in for CIFAR-10 where there is no network: drawn pictures of ten kinds, in an archive of the same layout."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np

from alexnet import cifar10
from alexnet.runtime.files import replacing

SEED = 10
NOTE = "The images of this archive were drawn by alexnet/archive/generated.py. They are not CIFAR-10.\n"

NOISE = 12.0
"""Standard deviation of the noise on each value, of 255."""
HUE_SPREAD = 0.02
"""Standard deviation of the hue about that of its kind, in turns; neighbouring kinds are 0.1 apart."""


def _masks(kind: int, count: int, rng: np.random.Generator) -> np.ndarray:
    # bool (count, 32, 32): what is drawn in the foreground's colour. Every kind can still be recognised when mirrored.
    y, x = np.mgrid[: cifar10.HEIGHT, : cifar10.WIDTH]

    def uniform(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (count, 1, 1))

    dy, dx = y - uniform(12, 19), x - uniform(12, 19)
    size, period, phase = uniform(8, 12), uniform(6, 10), uniform(0, 9)
    lean = rng.choice((-1, 1), (count, 1, 1))
    radius = np.hypot(dy, dx)
    square = np.maximum(abs(dy), abs(dx))
    match kind:
        case 0:  # horizontal stripes
            return (y + phase) % period < period / 2
        case 1:  # vertical stripes
            return (x + phase) % period < period / 2
        case 2:  # diagonal stripes
            return (y + lean * x + phase) % (1.4 * period) < 0.7 * period
        case 3:  # chequers
            return ((y + phase) // (period / 2) + (x + phase) // (period / 2)) % 2 < 1
        case 4:  # disc
            return radius < size
        case 5:  # ring
            return (radius < size) & (radius > size - 4)
        case 6:  # square
            return square < size
        case 7:  # frame
            return (square < size) & (square > size - 4)
        case 8:  # upright cross
            return (square < size) & (np.minimum(abs(dy), abs(dx)) < 3)
        case _:  # diagonal cross
            return (square < size) & (abs(abs(dy) - abs(dx)) < 3.5)


def _colours(hue: np.ndarray, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    # Float (count, 3, 1, 1), red, green and blue of 0 to 255 at a hue in turns and a brightness from low to high.
    offset = np.array([0, 1 / 3, 2 / 3])
    channels = 0.5 + 0.5 * np.cos(2 * np.pi * (hue[:, None] - offset))
    return (channels * rng.uniform(low, high, (len(hue), 1)))[:, :, None, None]


def draw(kind: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` pictures of a kind, 0 to 9; position, size, colours and noise vary.

    Returns uint8 of shape (count, 3, 32, 32).
    """
    front = _colours(kind / cifar10.NUM_CLASSES + rng.normal(0, HUE_SPREAD, count), 150, 255, rng)
    back = rng.uniform(0, 60, (count, 1, 1, 1))
    images = np.where(_masks(kind, count, rng)[:, None], front, back)
    images += rng.normal(0, NOISE, images.shape)
    return np.clip(images, 0, 255).astype(np.uint8)


def _records(images: int, rng: np.random.Generator) -> np.ndarray:
    # uint8 (images, 3073), the kinds equally often and shuffled.
    rows = np.empty((images, cifar10.RECORD_BYTES), np.uint8)
    labels = np.repeat(np.arange(cifar10.NUM_CLASSES), images // cifar10.NUM_CLASSES)
    rows[:, 0] = labels
    for kind in range(cifar10.NUM_CLASSES):
        mine = labels == kind
        rows[mine, 1:] = draw(kind, int(mine.sum()), rng).reshape(mine.sum(), -1)
    return rng.permutation(rows)


def write_archive(path: Path, train_images: int, test_images: int) -> None:
    """Write an archive in the layout of CIFAR-10's binary version, the same bytes each time on one machine.

    Both counts are multiples of ten, at least one a training file. A member `cifar10.GENERATED_FILE` says what the
    images are.
    """
    rng = np.random.default_rng(SEED)
    members = {
        cifar10.META_FILE: ("\n".join(cifar10.CLASS_NAMES) + "\n").encode(),
        cifar10.GENERATED_FILE: NOTE.encode(),
    }
    parts = np.array_split(_records(train_images, rng), len(cifar10.TRAIN_FILES))
    for name, part in zip(cifar10.TRAIN_FILES, parts, strict=True):
        members[name] = part.tobytes()
    for name in cifar10.TEST_FILES:
        members[name] = _records(test_images, rng).tobytes()
    with (
        replacing(path) as new,
        new.open("wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=1, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for name, data in members.items():
            info = tarfile.TarInfo(f"{cifar10.ARCHIVE_FOLDER}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
