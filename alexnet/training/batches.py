"""Training batches: shuffled and augmented images. Each batch depends only on the seed and the step."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from alexnet.cifar10 import MEAN_COLOUR, NUM_CLASSES, Split
from alexnet.runtime.errors import InputError

Flip = Literal["random", "alternating"]
"""How images are mirrored, see `Batches`."""

PaddingMode = Literal["constant", "reflect"]
"""What an image is padded with before the random crop, see `Batches`; the names are NumPy's."""

DROPOUT_STEPS = 1 << 16
"""The dropout rate is rounded to a multiple of 1 / DROPOUT_STEPS, because 16 random bits are faster than a float32."""

# The purposes of the generators. The same seed and step give independent random numbers for each purpose.
_SHUFFLE, _AUGMENT, _DROPOUT, _MIRROR, _HOLD_OUT = range(5)


def _generator(seed: int, purpose: int, count: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, count)))


def hold_out(split: Split, validation_images: int, seed: int) -> tuple[Split, Split]:
    """Return the images to train on and the images held out for validation, with the same number from each class.

    Args:
        split: all training images.
        validation_images: how many images to hold out.
        seed: the seed of the choice.

    Raises InputError when the number is not a multiple of the number of classes, or leaves no image of a class.
    """
    if not validation_images:  # this avoids a copy of all images
        return split, Split(split.images[:0], split.labels[:0], split.generated)
    per_class, rest = divmod(validation_images, NUM_CLASSES)
    fewest = int(np.bincount(split.labels, minlength=NUM_CLASSES).min())
    if rest or per_class >= fewest:
        raise InputError(
            f"validation_images is {validation_images}, expected a multiple of {NUM_CLASSES} below "
            f"{fewest * NUM_CLASSES}, so that there are images of each class left to train on"
        )
    order = _generator(seed, _HOLD_OUT, 0).permutation(len(split))
    labels = split.labels[order]
    held_out = np.zeros(len(split), bool)
    for label in range(NUM_CLASSES):
        held_out[order[labels == label][:per_class]] = True
    train, validation = (
        Split(split.images[part], split.labels[part], split.generated) for part in (~held_out, held_out)
    )
    return train, validation


def augment(
    images: np.ndarray,
    rng: np.random.Generator,
    crop_padding: int,
    mirrored: np.ndarray | None = None,
    crop_padding_mode: PaddingMode = "constant",
) -> np.ndarray:
    """Pad each image, crop it at a random position, and mirror some; return uint8 of shape (N, C, H, W).

    Args:
        images: uint8 of shape (N, C, H, W).
        rng: the generator of the random positions and, if `mirrored` is None, of the choice of images to mirror.
        crop_padding: how many pixels are added on each side.
        mirrored: bool of shape (N,), the images to mirror; None mirrors each with a probability of one half.
        crop_padding_mode: what is added, as in `Batches`.
    """
    count, _, height, width = images.shape
    margin = (crop_padding, crop_padding)
    padded = np.pad(images, ((0, 0), (0, 0), margin, margin), crop_padding_mode)
    windows = sliding_window_view(padded, (height, width), axis=(2, 3))  # type: ignore[call-overload]
    top, left = rng.integers(0, 2 * crop_padding + 1, (2, count))
    cropped = windows[np.arange(count), :, top, left]
    if mirrored is None:
        mirrored = rng.random(count) < 0.5
    cropped[mirrored] = cropped[mirrored, :, :, ::-1]
    return cropped


def cutout(images: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """Return the images with a square hole of `size` pixels a side in each (DeVries and Taylor, arXiv 1708.04552).

    Takes and returns uint8 of shape (N, 3, H, W). Every pixel has the same chance to be the centre of the hole, so a
    part of the hole may lie outside the image. If `size` is even, the centre is the pixel below and to the right of the
    middle. The hole has the mean colour of CIFAR-10's training images, which the network normalises to 0.
    """
    count, _, height, width = images.shape
    first_row = rng.integers(0, height, (count, 1)) - size // 2
    first_column = rng.integers(0, width, (count, 1)) - size // 2
    rows, columns = np.arange(height) - first_row, np.arange(width) - first_column
    in_rows, in_columns = (rows >= 0) & (rows < size), (columns >= 0) & (columns < size)
    hole = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    return np.where(hole, MEAN_COLOUR[:, None, None], images)


def check_shards(batch_size: int, workers: int) -> None:
    """Raise InputError unless a batch can be divided equally among workers."""
    if batch_size % workers:
        raise InputError(f"batch_size is {batch_size}, expected a multiple of the {workers} workers")


class Batch(NamedTuple):
    """The batch of one step; N is the batch size, or this worker's share of it.

    images: uint8 of shape (N, 3, 32, 32).
    labels: int32 of shape (N,).
    keep: bool of shape (N, *dropout_shape), the values that dropout keeps; None without dropout.
    """

    images: np.ndarray
    labels: np.ndarray
    keep: np.ndarray | None


class Batches(Sequence[Batch]):
    """The batches of all epochs, one for each step, counted from 0. A batch does not depend on those read before.

    Each epoch has the images in another random order, without those at its end that do not fill a batch (like the zoo's
    `drop_remainder`). `batches[step]` raises IndexError for a step below 0 or
    beyond the last one.

    Args:
        split: the training images.
        epoch_size: the number of epochs.
        batch_size: the number of images in a batch.
        dropout_rate: the probability that a value is dropped; 0 makes no masks.
        seed: the seed of shuffling, augmentation and dropout.
        crop_padding: how many pixels are added on each side of an image before the random crop; the zoo's dataset.py
            adds 4.
        crop_padding_mode: `constant` adds black pixels; `reflect` adds the image's own, mirrored at its edge (Zagoruyko
            and Komodakis, arXiv 1605.07146, section 3).
        flip: `random` mirrors an image with a probability of one half in each epoch. `alternating` does so in the first
            epoch, and mirrors in each later epoch exactly the images that it did not mirror in the epoch before (K.
            Jordan, arXiv 2404.00498, section 3.6).
        cutout_size: the side of the hole that `cutout` makes in each image, in pixels; 0 makes none.
        rank: the number of this worker, which gets one of the equal shards of each batch.
        workers: the number of workers.
        dropout_shape: the shape of the dropout masks of one image, see `alexnet.model.network.Network`.

    Attributes:
        steps_per_epoch: the number of batches in an epoch.
        image_count: the number of training images.
        epoch_size, batch_size: as given.

    Raises InputError when there are not enough images for one batch, a batch cannot be divided equally among the
    workers, an image is too small to be reflected, or there is a dropout rate although the network has no dropout.
    """

    def __init__(
        self,
        split: Split,
        epoch_size: int,
        batch_size: int,
        dropout_rate: float,
        seed: int,
        crop_padding: int = 4,
        crop_padding_mode: PaddingMode = "constant",
        flip: Flip = "random",
        cutout_size: int = 0,
        rank: int = 0,
        workers: int = 1,
        dropout_shape: tuple[int, ...] = (),
    ) -> None:
        self.steps_per_epoch = len(split) // batch_size
        if self.steps_per_epoch == 0:
            raise InputError(
                f"batch_size is {batch_size}, expected at most {len(split)}, the number of training images"
            )
        check_shards(batch_size, workers)
        if crop_padding_mode == "reflect" and crop_padding >= (size := min(split.images.shape[2:])):
            raise InputError(f"crop_padding is {crop_padding}, expected at most {size - 1} to reflect an image")
        if dropout_rate and not dropout_shape:
            raise InputError(f"dropout_rate is {dropout_rate}, expected 0, because the network has no dropout")
        self._split = split
        self.image_count = len(split)
        self.epoch_size = epoch_size
        self.batch_size = batch_size
        self._dropout_rate, self._dropout_shape = dropout_rate, dropout_shape
        self._seed = seed
        self._crop_padding, self._crop_padding_mode = crop_padding, crop_padding_mode
        self._cutout_size = cutout_size
        self._first_mirrored = None
        if flip == "alternating":
            self._first_mirrored = _generator(seed, _MIRROR, 0).random(len(split)) < 0.5
        self._shard = slice(rank * batch_size // workers, (rank + 1) * batch_size // workers)
        self._shuffled: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def __len__(self) -> int:
        return self.epoch_size * self.steps_per_epoch

    def __getitem__(self, step: int) -> Batch:  # type: ignore[override]  # there are no slices
        if not 0 <= step < len(self):
            raise IndexError(step)
        chosen = self._chosen(step)
        mirrored = self._mirrored(chosen, epoch=step // self.steps_per_epoch)
        rng = _generator(self._seed, _AUGMENT, step)
        images = augment(self._split.images[chosen], rng, self._crop_padding, mirrored, self._crop_padding_mode)
        if self._cutout_size:
            images = cutout(images, rng, self._cutout_size)
        keep = None
        if self._dropout_rate:
            shape = self.batch_size, *self._dropout_shape
            draws = _generator(self._seed, _DROPOUT, step).integers(0, DROPOUT_STEPS, shape, np.uint16)
            dropped = min(max(1, round(self._dropout_rate * DROPOUT_STEPS)), DROPOUT_STEPS - 1)  # neither none nor all
            keep = draws >= dropped
        shard = self._shard
        return Batch(images[shard], self.labels(step), None if keep is None else keep[shard])

    def originals(self, step: int) -> np.ndarray:
        """Return the images of a step's batch before any augmentation, uint8 of shape (N, 3, 32, 32), N as in Batch."""
        return self._split.images[self._chosen(step)][self._shard]

    def labels(self, step: int) -> np.ndarray:
        """Return only the labels of the batch of a step, int32 of shape (N,)."""
        return self._split.labels[self._chosen(step)][self._shard]

    def _chosen(self, step: int) -> np.ndarray:
        # Returns the indices of the images in the global batch of a step.
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._shuffled[0] != epoch:
            self._shuffled = epoch, _generator(self._seed, _SHUFFLE, epoch).permutation(len(self._split))
        return self._shuffled[1][position * self.batch_size : (position + 1) * self.batch_size]

    def _mirrored(self, chosen: np.ndarray, epoch: int) -> np.ndarray | None:
        # Returns which of the chosen images are mirrored in an epoch, counted from 0: bool of shape (batch_size,). None
        # means that `augment` draws them at random.
        if self._first_mirrored is None:
            return None
        mirrored = self._first_mirrored[chosen]
        return mirrored if epoch % 2 == 0 else ~mirrored
