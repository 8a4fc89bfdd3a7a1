from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.cifar10 import MEAN, MEAN_COLOUR, STD, Split
from alexnet.runtime.errors import InputError
from alexnet.training.batches import Batch, Batches, Flip, PaddingMode, augment, cutout, hold_out
from tests.conftest import one_line

IMAGES = 22
SHAPE = (2, 4096)
"""The shape of AlexNet's dropout masks."""


def numbered(images: int = IMAGES) -> Split:
    """Image i has label i and the value i + 1 in every pixel, so that a crop shows which image it is from."""
    numbers = np.arange(images)
    pixels = np.broadcast_to((numbers + 1)[:, None, None, None], (images, 3, 32, 32)).astype(np.uint8)
    return Split(pixels, numbers.astype(np.int32))


def batches(*, epochs: int = 3, rate: float = 0.25, seed: int = 5, size: int = 4) -> Batches:
    return Batches(numbered(), epochs, size, rate, seed, dropout_shape=SHAPE)


def same(one: Batch, other: Batch) -> bool:
    return (
        np.array_equal(one.images, other.images)
        and np.array_equal(one.labels, other.labels)
        and (one.keep is other.keep or np.array_equal(np.asarray(one.keep), np.asarray(other.keep)))
    )


def augment_by_loops(
    images: NDArray[np.uint8], rng: np.random.Generator, padding: int, mode: PaddingMode
) -> NDArray[np.uint8]:
    count, channels, height, width = images.shape
    tops, lefts = rng.integers(0, 2 * padding + 1, (2, count))
    flips = rng.random(count) < 0.5
    result = np.zeros_like(images)
    for i in range(count):
        for y in range(height):
            for x in range(width):
                from_y = y + tops[i] - padding
                from_x = (width - 1 - x if flips[i] else x) + lefts[i] - padding
                if mode == "reflect":
                    from_y = -from_y if from_y < 0 else 2 * (height - 1) - from_y if from_y >= height else from_y
                    from_x = -from_x if from_x < 0 else 2 * (width - 1) - from_x if from_x >= width else from_x
                if 0 <= from_y < height and 0 <= from_x < width:
                    for channel in range(channels):
                        result[i, channel, y, x] = images[i, channel, from_y, from_x]
    return result


@pytest.mark.parametrize(
    ("shape", "padding"), [((12, 3, 32, 32), 4), ((9, 2, 6, 9), 5), ((5, 2, 6, 9), 2), ((5, 2, 6, 9), 0)]
)
@pytest.mark.parametrize("mode", get_args(PaddingMode))
def test_augment_crops_and_flips_as_plain_loops_do(mode: PaddingMode, shape: tuple[int, ...], padding: int) -> None:
    images = np.random.default_rng(3).integers(1, 256, shape, dtype=np.uint8)
    before = images.copy()
    result = augment(images, np.random.default_rng(11), padding, crop_padding_mode=mode)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, augment_by_loops(images, np.random.default_rng(11), padding, mode))
    np.testing.assert_array_equal(images, before)


def cutout_by_loops(images: NDArray[np.uint8], rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    count, channels, height, width = images.shape
    centre_ys = rng.integers(0, height, count)
    centre_xs = rng.integers(0, width, count)
    result = images.copy()
    for i in range(count):
        for dy in range(size):
            for dx in range(size):
                y, x = centre_ys[i] - size // 2 + dy, centre_xs[i] - size // 2 + dx
                if 0 <= y < height and 0 <= x < width:
                    for channel in range(channels):
                        result[i, channel, y, x] = MEAN_COLOUR[channel]
    return result


@pytest.mark.parametrize("size", [1, 2, 5, 12, 32])
@pytest.mark.parametrize("shape", [(12, 3, 32, 32), (5, 3, 6, 9)])
def test_cutout_makes_the_holes_that_plain_loops_do(shape: tuple[int, ...], size: int) -> None:
    images = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    before = images.copy()
    result = cutout(images, np.random.default_rng(11), size)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, cutout_by_loops(images, np.random.default_rng(11), size))
    np.testing.assert_array_equal(images, before)


def test_a_holes_centre_is_each_pixel_equally_often_and_its_colour_normalises_to_nothing() -> None:
    holes = cutout(np.zeros((20_000, 3, 4, 5), np.uint8), np.random.default_rng(0), 1)
    hits = (holes[:, 0] > 0).sum(axis=0)
    assert hits.sum() == 20_000
    assert hits.min() > 850  # 1,000 expected, standard deviation 31
    normalised = (holes.max(axis=(0, 2, 3)) / 255 - MEAN) / STD
    np.testing.assert_allclose(normalised, 0, atol=0.5 / 255 / min(STD))


def test_augment_makes_every_crop_and_flip_equally_often() -> None:
    image = np.arange(1, 13, dtype=np.uint8).reshape(1, 1, 3, 4)
    crops = augment(np.repeat(image, 16_200, axis=0), np.random.default_rng(0), 4)
    # The pixels that are not black show the offset and whether the image was mirrored, except when all are black.
    distinct, counts = np.unique(crops.reshape(len(crops), -1), axis=0, return_counts=True)
    seen = {tuple(row): count for row, count in zip(distinct.tolist(), counts.tolist(), strict=True) if any(row)}
    offsets = (2 * (3 - 1) + 1) * (2 * (4 - 1) + 1)
    assert len(seen) == 2 * offsets
    assert all(60 < count < 145 for count in seen.values())  # 100 expected, standard deviation 10


def test_a_batch_depends_only_on_the_seed_and_the_step() -> None:
    forward = batches()
    read = [forward[step] for step in range(len(forward))]
    backward, longer = batches(), batches(epochs=9)
    for step in reversed(range(len(forward))):
        assert same(backward[step], read[step])
        assert same(longer[step], read[step])
    assert same(forward[0], read[0])


def test_another_seed_gives_other_batches() -> None:
    one, other = batches(seed=5)[0], batches(seed=6)[0]
    assert one.keep is not None
    assert other.keep is not None
    assert not np.array_equal(one.images, other.images)
    assert not np.array_equal(one.labels, other.labels)
    assert not np.array_equal(one.keep, other.keep)


def test_an_epoch_has_no_image_twice_and_leaves_out_the_rest() -> None:
    data = batches()
    assert data.steps_per_epoch == IMAGES // 4 == 5
    assert len(data) == 15
    for epoch in range(3):
        labels = np.concatenate([data[step].labels for step in range(5 * epoch, 5 * epoch + 5)])
        assert len(labels) == len(set(labels.tolist())) == 20


def test_epochs_differ_in_order() -> None:
    data = batches()
    labels = [tuple(np.concatenate([data[5 * epoch + step].labels for step in range(5)])) for epoch in range(3)]
    assert len(set(labels)) == 3
    assert all(list(order) != sorted(order) for order in labels)


def test_the_same_image_is_cropped_and_masked_differently_in_each_step() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32), dtype=np.uint8)
    one, other = Batches(Split(np.repeat(noise, 4, axis=0), np.zeros(4, np.int32)), 2, 4, 0.5, 1, dropout_shape=SHAPE)
    assert one.keep is not None
    assert other.keep is not None
    assert not np.array_equal(one.images, other.images)
    assert not np.array_equal(one.keep, other.keep)


def test_labels_stay_with_their_images() -> None:
    for images, labels, _ in batches():
        np.testing.assert_array_equal(images.max(axis=(1, 2, 3)), labels + 1)


def test_the_originals_are_the_images_of_the_batch_before_augmentation() -> None:
    split = Split(np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), np.uint8), np.arange(12, dtype=np.int32))
    for worker in range(2):
        data = Batches(split, 2, 4, 0, 1, rank=worker, workers=2, cutout_size=8)
        for step in range(len(data)):
            np.testing.assert_array_equal(data.originals(step), split.images[data[step].labels])


def test_shapes_and_types() -> None:
    images, labels, keep = batches()[0]
    assert (images.shape, images.dtype) == ((4, 3, 32, 32), np.uint8)
    assert (labels.shape, labels.dtype) == ((4,), np.int32)
    assert keep is not None
    assert (keep.shape, keep.dtype) == ((4, 2, 4096), np.bool_)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_mask_keeps_its_share(rate: float) -> None:
    keep = batches(rate=rate)[0].keep
    assert keep is not None
    np.testing.assert_allclose(keep.mean(axis=2), 1 - rate, atol=0.04)
    assert keep.mean() == pytest.approx(1 - rate, abs=0.015)
    assert len({mask.tobytes() for image in keep for mask in image}) == 8


@pytest.mark.parametrize("rate", [1e-9, 1 - 1e-9])
def test_the_smallest_and_the_largest_rate_drop_neither_nothing_nor_everything(rate: float) -> None:
    keep = np.concatenate([batch.keep for batch in batches(epochs=30, rate=rate)])
    assert 0 < keep.mean() < 1


def test_without_dropout_there_is_no_mask() -> None:
    assert all(batch.keep is None for batch in batches(rate=0.0))


def test_dropout_does_not_change_the_images() -> None:
    for one, other in zip(batches(rate=0.0), batches(rate=0.5), strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)


@pytest.mark.parametrize("step", [-1, 15, 1000])
def test_a_step_out_of_range_is_refused(step: int) -> None:
    with pytest.raises(IndexError):
        batches()[step]


def test_a_batch_may_take_all_images() -> None:
    data = batches(size=IMAGES, epochs=1)
    assert len(data) == 1
    assert sorted(data[0].labels.tolist()) == list(range(IMAGES))


def test_too_few_images_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        batches(size=IMAGES + 1)
    one_line(caught, "batch_size is 23", "at most 22")


@pytest.mark.parametrize("crop_padding", [0, 2])
def test_crops_use_the_given_padding(crop_padding: int) -> None:
    white = Split(np.full((40, 3, 32, 32), 255, np.uint8), np.zeros(40, np.int32))
    images = Batches(white, 1, 40, 0, 1, crop_padding)[0].images
    black = (images == 0).all(axis=1)
    assert black.all(axis=2).sum(axis=1).max() == crop_padding
    assert black.all(axis=1).sum(axis=1).max() == crop_padding


def test_reflection_adds_no_black_and_changes_no_other_choice() -> None:
    split = Split(np.random.default_rng(0).integers(1, 256, (40, 3, 32, 32), np.uint8), np.arange(40, dtype=np.int32))
    black, reflected = (Batches(split, 1, 40, 0, 1, 8, mode)[0] for mode in get_args(PaddingMode))
    assert reflected.images.all()
    assert not black.images.all()
    np.testing.assert_array_equal(reflected.images[black.images > 0], black.images[black.images > 0])


def test_a_reflection_wider_than_the_image_is_refused() -> None:
    Batches(numbered(), 1, 4, 0, 1, 31, "reflect")
    Batches(numbered(), 1, 4, 0, 1, 32, "constant")
    with pytest.raises(InputError) as caught:
        Batches(numbered(), 1, 4, 0, 1, 32, "reflect")
    one_line(caught, "crop_padding is 32, expected at most 31 to reflect")


@pytest.mark.parametrize("flip", get_args(Flip))
def test_cutout_is_the_last_augmentation_and_changes_no_other_choice(flip: Flip) -> None:
    split = Split(np.full((40, 3, 32, 32), 255, np.uint8), np.arange(40, dtype=np.int32))
    without, small, whole = (Batches(split, 2, 40, 0, 1, flip=flip, cutout_size=size)[1].images for size in (0, 12, 32))
    colour = MEAN_COLOUR[:, None, None]
    hole = (small == colour).all(axis=1)
    assert hole.sum(axis=(1, 2)).max() == 12 * 12
    assert len(np.unique(hole.reshape(40, -1), axis=0)) > 30, "each image has a hole of its own"
    left = np.broadcast_to(~hole[:, None], small.shape)
    np.testing.assert_array_equal(small[left], without[left])
    assert (whole[:, :, 15, 15] == colour[:, 0, 0]).all(), "wherever its centre is, it reaches the middle"


def test_alternating_flips_mirror_every_image_in_every_other_epoch() -> None:
    # Left half dark, right half bright, in the middle rows too wide apart for a crop to hide which is which.
    sides = np.zeros((40, 3, 32, 32), np.uint8)
    sides[..., 16:] = 200
    data = Batches(Split(sides, np.arange(40, dtype=np.int32)), 4, 8, 0, 1, flip="alternating")
    mirrored = np.zeros((4, 40), bool)
    for step, (images, labels, _) in enumerate(data):
        mirrored[step // 5, labels] = images[:, 0, 16, 8] > 100
    assert 5 < mirrored[0].sum() < 35
    assert (mirrored[1] == ~mirrored[0]).all()
    assert (mirrored[2] == mirrored[0]).all()
    assert (mirrored[3] == mirrored[1]).all()


def classes(images: int) -> Split:
    return Split(numbered(images).images, np.arange(images, dtype=np.int32) % 10)


def test_equally_many_images_of_each_class_are_held_out() -> None:
    split = classes(50)
    train, validation = hold_out(split, 20, seed=1)
    assert np.bincount(validation.labels).tolist() == [2] * 10
    assert np.bincount(train.labels).tolist() == [3] * 10
    numbers = np.concatenate([train.images, validation.images])[:, 0, 0, 0]
    assert sorted(numbers.tolist()) == list(range(1, 51))
    for part in (train, validation):
        assert (part.labels == (part.images[:, 0, 0, 0] - 1) % 10).all()
    again, other = hold_out(split, 20, seed=1)[1], hold_out(split, 20, seed=2)[1]
    assert (again.images == validation.images).all()
    assert (other.images != validation.images).any()


@pytest.mark.parametrize("images", [25, 50, 60])
def test_a_validation_set_that_cannot_be_held_out_is_refused(images: int) -> None:
    with pytest.raises(InputError) as caught:
        hold_out(classes(50), images, seed=1)
    one_line(caught, f"validation_images is {images}", "a multiple of 10 below 50")


def test_images_of_nine_classes_are_fine_without_validation() -> None:
    split = classes(9)
    train, validation = hold_out(split, 0, seed=1)
    assert train is split
    assert len(validation) == 0
    with pytest.raises(InputError):
        hold_out(split, 10, seed=1)


def test_dropout_for_a_network_without_it_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        Batches(numbered(), 1, 4, 0.5, 1)
    one_line(caught, "dropout_rate is 0.5, expected 0", "no dropout")
