"""The cases that measure input pipelines. Each function returns the seconds for `batches` batches."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from alexnet import cifar10
from alexnet.model.alexnet_layers import DROPOUT_LAYERS, HIDDEN_UNITS
from alexnet.training.batches import Batches
from benchmarks.measure import repeat, serve

SHUFFLE_BUFFER = 1000
"""The zoo's `buffer_size`."""


def ours(
    folder: str, batch_size: int, dropout_rate: float, batches: int, repetitions: int, **augmentations: Any
) -> dict[str, Any]:
    """Read batches of our pipeline, which have dropout masks unless `dropout_rate` is 0.

    `augmentations` are arguments of Batches.
    """
    split = cifar10.read(Path(folder), cifar10.TRAIN_FILES)
    epochs = 1_000_000  # never reached
    dropout_shape = (DROPOUT_LAYERS, HIDDEN_UNITS)
    pipeline = Batches(split, epochs, batch_size, dropout_rate, seed=1, dropout_shape=dropout_shape, **augmentations)
    return {"seconds": _read((pipeline[step] for step in count()), batches, repetitions)}


def zoo(folder: str, batch_size: int, image_size: int, batches: int, repetitions: int) -> dict[str, Any]:
    """Read batches of a pipeline that resizes and normalises every image, in the same steps as the model zoo's.

    Source: https://gitee.com/mindspore/models/blob/master/official/cv/AlexNet/src/dataset.py
    """
    import mindspore.dataset as ds  # not at the top, because it would count towards the memory of our pipeline
    from mindspore.dataset import transforms, vision

    dataset = ds.Cifar10Dataset(folder, usage="train")
    dataset = dataset.map(transforms.TypeCast(np.int32), "label")
    for operation in (
        vision.RandomCrop([cifar10.HEIGHT, cifar10.WIDTH], [4, 4, 4, 4]),
        vision.RandomHorizontalFlip(),
        vision.Resize((image_size, image_size)),
        vision.Rescale(1 / 255, 0.0),
        vision.Normalize(cifar10.MEAN, cifar10.STD),
        vision.HWC2CHW(),
    ):
        dataset = dataset.map(operation, "image")
    dataset = dataset.shuffle(SHUFFLE_BUFFER).batch(batch_size, drop_remainder=True).repeat()
    return {"seconds": _read(dataset.create_tuple_iterator(output_numpy=True), batches, repetitions)}


def _read(pipeline: Iterator[object], batches: int, repetitions: int) -> list[float]:
    def read() -> None:
        for _ in range(batches):
            next(pipeline)

    return repeat(read, repetitions)


if __name__ == "__main__":
    serve(ours, zoo)
