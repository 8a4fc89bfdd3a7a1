"""Image files of any kind, made into images as CIFAR-10 has them."""

import warnings
from typing import BinaryIO, cast

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from alexnet.cifar10 import HEIGHT, WIDTH
from alexnet.runtime.errors import InputError


def read_image(file: BinaryIO) -> np.ndarray:
    """Return the image in an open file, in any format and mode that Pillow reads, as uint8 of shape (32, 32, 3).

    Its EXIF orientation is followed, the largest square in its middle is taken and resized with antialiasing; what is
    transparent is laid on white. Of greyscale images with more than eight bits, white is the largest of 16 bits, or
    1 in floating point. Of several frames the first is taken.

    Raises InputError when it is no image, is damaged or cut short, or has more pixels than Pillow takes for safe
    (twice `Image.MAX_IMAGE_PIXELS`).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, and of images half as large as is refused
        try:
            with Image.open(file) as opened:
                image = ImageOps.exif_transpose(opened)
        except UnidentifiedImageError:
            raise InputError("no image of a format that Pillow reads") from None
        except Exception as error:  # of damaged files, Pillow's decoders raise whatever they stumble over
            raise InputError(f"an image that cannot be read: {error or type(error).__name__}") from None
        return np.asarray(_on_white(ImageOps.fit(_eight_bits(image), (WIDTH, HEIGHT))))


def _eight_bits(image: Image.Image) -> Image.Image:
    # Red, green and blue, and alpha only where something may be transparent.
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return cast(Image.Image, ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"))
    if image.mode.startswith(("I", "F")):
        white = 1 if image.mode == "F" else 65535
        values = np.nan_to_num(np.asarray(image, np.float64)) / white
        image = Image.fromarray((255 * values.clip(0, 1)).round().astype(np.uint8))
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
