"""TrivialAugment: each image is changed in one way at random (Müller and Hutter, arXiv 2103.10158)."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from alexnet.cifar10 import MEAN_COLOUR

MAGNITUDES = 31
"""The number of magnitudes that can be drawn, from none to the largest, as in the paper."""

Change = Callable[[Image.Image, float], Image.Image]

_FILL = tuple(MEAN_COLOUR.tolist())


def _affine(image: Image.Image, a: float, b: float, d: float, e: float, x: float = 0, y: float = 0) -> Image.Image:
    # The pixel of the result at (u, v), as seen from the centre, shows the image at (a u + b v + x, d u + e v + y).
    centre_x, centre_y = image.width / 2, image.height / 2
    c = centre_x - a * centre_x - b * centre_y + x
    f = centre_y - d * centre_x - e * centre_y + y
    return image.transform(
        image.size, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR, fillcolor=_FILL
    )


def _rotated(image: Image.Image, share: float) -> Image.Image:
    angle = np.radians(30 * share)
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    return _affine(image, cosine, sine, -sine, cosine)


CHANGES: dict[str, Change] = {
    "identity": lambda image, share: image,
    "auto contrast": lambda image, share: ImageOps.autocontrast(image),
    "equalize": lambda image, share: ImageOps.equalize(image),
    "rotate": _rotated,
    "solarize": lambda image, share: ImageOps.solarize(image, 256 - round(256 * abs(share))),
    "color": lambda image, share: ImageEnhance.Color(image).enhance(1 + 0.9 * share),
    "posterize": lambda image, share: ImageOps.posterize(image, 8 - round(4 * abs(share))),
    "contrast": lambda image, share: ImageEnhance.Contrast(image).enhance(1 + 0.9 * share),
    "brightness": lambda image, share: ImageEnhance.Brightness(image).enhance(1 + 0.9 * share),
    "sharpness": lambda image, share: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * share),
    "shear x": lambda image, share: _affine(image, 1, 0.3 * share, 0, 1),
    "shear y": lambda image, share: _affine(image, 1, 0, 0.3 * share, 1),
    "translate x": lambda image, share: _affine(image, 1, 0, 0, 1, x=10 * share),
    "translate y": lambda image, share: _affine(image, 1, 0, 0, 1, y=10 * share),
}
"""The ways to change an image, with the paper's names: those of its augmentation space RA, with the same largest sizes.

Each takes an image and a share of its largest change, from -1 to 1. The sign is the direction. `solarize` and
`posterize` have no direction, so they use the absolute value; `identity`, `auto contrast` and `equalize` ignore it.
"""


def trivial_augment(images: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Return the images, each changed in one of the ways in `CHANGES`, by a random share and in a random direction.

    Where a moved image leaves pixels empty, they get the mean colour of CIFAR-10's training images, like Cutout's
    holes. MindSpore's `TrivialAugmentWide` is not used, because it draws from a generator of its own: its images would
    not depend on the seed and the step alone.

    Args:
        images: uint8 of shape (N, 3, H, W).
        rng: the generator of the random choices.
        strength: the largest share, from 0 to 1; the paper has 1.

    Returns uint8 of shape (N, 3, H, W).
    """
    count, changes = len(images), list(CHANGES.values())
    chosen = rng.integers(0, len(changes), count)
    shares = strength * rng.integers(0, MAGNITUDES, count) / (MAGNITUDES - 1) * rng.choice((-1, 1), count)
    result = np.empty_like(images)
    for i, (change, share) in enumerate(zip(chosen.tolist(), shares.tolist(), strict=True)):
        image = Image.fromarray(np.ascontiguousarray(images[i].transpose(1, 2, 0)))
        result[i] = np.asarray(changes[change](image, share)).transpose(2, 0, 1)
    return result
