"""Pictures to measure with, as many as wanted: drawn ones, over and over again."""

from pathlib import Path

import numpy as np

from alexnet import cifar10
from alexnet.archive import generated
from alexnet.cifar10 import Split

DIFFERENT = 100
"""Different pictures of each class; more would only take longer to draw."""


def split(images: int) -> Split:
    """Return a split of `images` pictures whose classes take turns."""
    rng = np.random.default_rng(generated.SEED)
    drawn = np.stack([generated.draw(kind, DIFFERENT, rng) for kind in range(cifar10.NUM_CLASSES)], axis=1)
    drawn = drawn.reshape(-1, cifar10.CHANNELS, cifar10.HEIGHT, cifar10.WIDTH)
    chosen = np.arange(images)
    labels = (chosen % cifar10.NUM_CLASSES).astype(np.int32)
    return Split(drawn[chosen % len(drawn)], labels, generated=True)


def write(folder: Path, images: int) -> None:
    """Write `images` of them, at least five, as CIFAR-10's training files; one file is a link to its like before it."""
    pictures = split(images)
    records = np.concatenate([pictures.labels[:, None].astype(np.uint8), pictures.images.reshape(images, -1)], axis=1)
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[bytes, Path] = {}
    for name, part in zip(cifar10.TRAIN_FILES, np.array_split(records, len(cifar10.TRAIN_FILES)), strict=True):
        path, content = folder / name, part.tobytes()
        if content in written:
            path.hardlink_to(written[content])
        else:
            path.write_bytes(content)
            written[content] = path
