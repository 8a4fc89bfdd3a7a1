from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from alexnet.cifar10 import MEAN_COLOUR, Split
from alexnet.training import trivial_augment as module
from alexnet.training.batches import Batches
from alexnet.training.trivial_augment import CHANGES, trivial_augment

Pixels = NDArray[Any]


def random_image(height: int = 32, width: int = 32) -> NDArray[np.uint8]:
    """Return an image of shape (H, W, 3) with random values from 20 to 199."""
    return np.random.default_rng(7).integers(20, 200, (height, width, 3), np.uint8)


def changed(name: str, image: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    return np.asarray(CHANGES[name](Image.fromarray(image), share))


def moved(image: Pixels, source: Callable[[float, float], tuple[float, float]]) -> Pixels:
    """`source` takes the place of a pixel of the result, from the centre, and returns the place it shows."""
    height, width, _ = image.shape
    result = np.empty(image.shape)
    for row in range(height):
        for column in range(width):
            x, y = source(column + 0.5 - width / 2, row + 0.5 - height / 2)
            x, y = x + width / 2, y + height / 2
            if not (0 <= x < width and 0 <= y < height):
                result[row, column] = MEAN_COLOUR
                continue
            left, top = int(np.floor(x - 0.5)), int(np.floor(y - 0.5))
            right_share, lower_share = x - 0.5 - left, y - 0.5 - top
            rows, columns = np.clip((top, top + 1), 0, height - 1), np.clip((left, left + 1), 0, width - 1)
            upper, lower = ((1 - right_share) * image[r, columns[0]] + right_share * image[r, columns[1]] for r in rows)
            result[row, column] = (1 - lower_share) * upper + lower_share * lower
    return result


def rotated(image: Pixels, share: float) -> Pixels:
    cosine, sine = np.cos(np.radians(30 * share)), np.sin(np.radians(30 * share))
    return moved(image, lambda x, y: (cosine * x + sine * y, cosine * y - sine * x))


def grey(image: Pixels) -> Pixels:
    return np.repeat(image @ np.array((0.299, 0.587, 0.114)), 3).reshape(image.shape)


def blended(image: Pixels, other: Pixels | float, share: float) -> Pixels:
    return np.clip(other + (1 + 0.9 * share) * (image - other), 0, 255)


def smoothed(image: Pixels) -> Pixels:
    """The mean of each pixel, which counts five times, and of its eight neighbours; at the edge, the image itself."""
    result = image.astype(float)
    for row in range(1, image.shape[0] - 1):
        for column in range(1, image.shape[1] - 1):
            block = image[row - 1 : row + 2, column - 1 : column + 2].astype(float)
            result[row, column] = (block.sum(axis=(0, 1)) + 4 * image[row, column]) / 13
    return result


def equalized(image: Pixels) -> Pixels:
    """Give each value to about equally many pixels of a channel."""
    darker = (image[None, :, :] < np.arange(256)[:, None, None, None]).sum(axis=(1, 2))
    brightest = (image == image.max(axis=(0, 1))).sum(axis=(0, 1))
    pixels_per_value = (image.shape[0] * image.shape[1] - brightest) // 255
    values = np.minimum((darker + pixels_per_value // 2) // pixels_per_value, 255)
    return np.take_along_axis(values, image.reshape(-1, 3).astype(int), axis=0).reshape(image.shape)


def stretched(image: Pixels) -> Pixels:
    low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
    return 255.0 * (image - low) / (high - low)


PLAIN: dict[str, Callable[[Pixels, float], Pixels]] = {
    "identity": lambda image, share: image,
    "auto contrast": lambda image, share: stretched(image),
    "equalize": lambda image, share: equalized(image),
    "rotate": rotated,
    "solarize": lambda image, share: np.where(image < 256 - round(256 * abs(share)), image, 255 - image),
    "color": lambda image, share: blended(image, grey(image), share),
    "posterize": lambda image, share: image - image % 2 ** round(4 * abs(share)),
    "contrast": lambda image, share: blended(image, round(grey(image).mean()), share),
    "brightness": lambda image, share: blended(image, 0, share),
    "sharpness": lambda image, share: blended(image, smoothed(image), share),
    "shear x": lambda image, share: moved(image, lambda x, y: (x + 0.3 * share * y, y)),
    "shear y": lambda image, share: moved(image, lambda x, y: (x, y + 0.3 * share * x)),
    "translate x": lambda image, share: moved(image, lambda x, y: (x + 10 * share, y)),
    "translate y": lambda image, share: moved(image, lambda x, y: (x, y + 10 * share)),
}
"""The same changes with NumPy, as float or uint8."""


@pytest.mark.parametrize("share", [1.0, -1.0, 0.53, -0.31])
@pytest.mark.parametrize("name", PLAIN)
def test_a_change_is_the_one_that_plain_numpy_makes(name: str, share: float) -> None:
    image = random_image()
    result, expected = changed(name, image, share), PLAIN[name](image.astype(int), share)
    assert result.dtype == np.uint8
    assert np.abs(result - expected).max() < 2
    assert (result == image).all() == (name == "identity")


def test_the_changes_are_those_of_the_paper() -> None:
    assert CHANGES.keys() == PLAIN.keys()
    assert len(CHANGES) == 14


@pytest.mark.parametrize("name", [name for name in PLAIN if name not in ("auto contrast", "equalize")])
def test_no_strength_is_no_change(name: str) -> None:
    image = random_image()
    np.testing.assert_allclose(changed(name, image, 0.0), image, atol=1)


def draw(monkeypatch: pytest.MonkeyPatch, strength: float, count: int = 14_000) -> list[tuple[str, float]]:
    """Return what was drawn for each of many images."""
    drawn: list[tuple[str, float]] = []

    def recorded(name: str) -> module.Change:
        def change(image: Image.Image, share: float) -> Image.Image:
            drawn.append((name, share))
            return image

        return change

    monkeypatch.setattr(module, "CHANGES", {name: recorded(name) for name in PLAIN})
    trivial_augment(np.zeros((count, 3, 2, 2), np.uint8), np.random.default_rng(0), strength)
    return drawn


def test_each_change_and_each_magnitude_is_drawn_equally_often_in_both_directions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = draw(monkeypatch, 1.0)
    names = Counter(name for name, _ in drawn)
    assert names.keys() == CHANGES.keys()
    assert all(880 < count < 1120 for count in names.values())  # 1,000 expected, standard deviation 30
    magnitudes = Counter(round(30 * share) for _, share in drawn)
    assert magnitudes.keys() == set(range(-30, 31))
    assert all(165 < count < 287 for magnitude, count in magnitudes.items() if magnitude)  # 226 expected, deviation 15
    assert 380 < magnitudes[0] < 523


def test_the_strength_multiplies_every_magnitude(monkeypatch: pytest.MonkeyPatch) -> None:
    for (name, share), (same_name, full) in zip(draw(monkeypatch, 0.7), draw(monkeypatch, 1.0), strict=True):
        assert name == same_name
        assert share == pytest.approx(0.7 * full)


def test_each_image_is_changed_by_itself_and_the_images_stay_as_they_are() -> None:
    images = np.random.default_rng(3).integers(0, 256, (60, 3, 20, 24), np.uint8)
    before = images.copy()
    result = trivial_augment(images, np.random.default_rng(11), 1.0)
    assert (result.shape, result.dtype) == (images.shape, np.uint8)
    np.testing.assert_array_equal(images, before)
    others = images.copy()
    others[1::2] = 0
    np.testing.assert_array_equal(trivial_augment(others, np.random.default_rng(11), 1.0)[::2], result[::2])
    flipped = trivial_augment(np.flip(images, axis=1), np.random.default_rng(11), 1.0)
    same_channels = (np.flip(result, axis=1) == flipped).mean(axis=(1, 2, 3))
    assert (same_channels == 1).sum() > 30, "the order of the channels matters to few changes"
    unchanged = (result == images).all(axis=(1, 2, 3)).mean()
    assert 0 < unchanged < 0.5


def noise(images: int = 40) -> Split:
    pixels = np.random.default_rng(0).integers(0, 256, (images, 3, 32, 32), np.uint8)
    return Split(pixels, np.arange(images, dtype=np.int32))


def test_a_batch_has_it_after_the_crop_and_before_cutout_and_nothing_else_changes() -> None:
    def images(strength: float, cutout_size: int) -> NDArray[np.uint8]:
        data = Batches(noise(), 2, 40, 0, 5, trivial_augment_strength=strength, cutout_size=cutout_size)
        return np.asarray(data[1].images)

    plain, changed_images = images(0.0, 0), images(1.0, 0)
    same = (plain == changed_images).all(axis=(1, 2, 3))
    assert 1 <= same.sum() < 20
    holes = (images(0.0, 12) != plain).any(axis=1)
    with_holes = images(1.0, 12)
    np.testing.assert_array_equal(
        with_holes[np.broadcast_to(~holes[:, None], plain.shape)],
        changed_images[np.broadcast_to(~holes[:, None], plain.shape)],
    )
    assert (with_holes.transpose(0, 2, 3, 1)[holes] == MEAN_COLOUR).all()


def test_a_batch_depends_only_on_the_seed_and_the_step() -> None:
    def data(seed: int) -> Batches:
        return Batches(noise(), 2, 8, 0, seed, trivial_augment_strength=0.7)

    forward = [batch.images for batch in data(5)]
    backward = [data(5)[step].images for step in reversed(range(10))][::-1]
    np.testing.assert_array_equal(forward, backward)
    assert (data(6)[0].images != forward[0]).any()
