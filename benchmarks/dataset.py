"""Generated images to measure with."""

from pathlib import Path

import numpy as np

from alexnet import cifar10
from alexnet.archive import generated
from alexnet.cifar10 import Split

DIFFERENT = 100
"""How many different images there are of each class. They are repeated, because generating more would take longer."""


def split(images: int) -> Split:
    """Return a split of this many images, in which the classes alternate."""
    rng = np.random.default_rng(generated.SEED)
    different = np.stack([generated.draw(kind, DIFFERENT, rng) for kind in range(cifar10.NUM_CLASSES)], axis=1)
    different = different.reshape(-1, cifar10.CHANNELS, cifar10.HEIGHT, cifar10.WIDTH)
    indices = np.arange(images)
    labels = (indices % cifar10.NUM_CLASSES).astype(np.int32)
    return Split(different[indices % len(different)], labels, generated=True)


def write(folder: Path, images: int) -> None:
    """Write this many images, at least five, as CIFAR-10's training files. Files with equal content are hard links."""
    data = split(images)
    records = np.concatenate([data.labels[:, None].astype(np.uint8), data.images.reshape(images, -1)], axis=1)
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[bytes, Path] = {}
    for name, part in zip(cifar10.TRAIN_FILES, np.array_split(records, len(cifar10.TRAIN_FILES)), strict=True):
        path, content = folder / name, part.tobytes()
        if content in written:
            path.hardlink_to(written[content])
        else:
            path.write_bytes(content)
            written[content] = path
