"""Reading image files of the usual formats as images of CIFAR-10's size."""

import io
import os
import select
import stat
import sys
import warnings
from typing import cast

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from alexnet.cifar10 import HEIGHT, WIDTH
from alexnet.runtime.errors import InputError

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are read. Not EPS, for instance, which Pillow has Ghostscript run."""
JPEGS = ("JPEG", "MPO")
"""Pillow's names for a file with a JPEG in it, and for one with several."""
FILE_BYTES = 64 << 20
"""The most bytes that a file may have."""
DECODED_BYTES = 192 << 20
"""The most bytes that decoding an image may take, as far as its header tells, so that all of it stays below 256 MB."""
MOST_READS = 400_000
"""In how many pieces a file may be read, so that millions of empty parts take neither minutes nor gigabytes."""
SCANNED_PIXELS = 7 * 10**8
"""How many pixels all passes of a JPEG together may have. Each pass goes over the whole image."""
PLAIN_BYTES = 4 << 20
"""The most bytes of a PPM whose numbers are written in digits, which are read slowly."""
WAIT_SECONDS = 30
"""How long a named pipe or a device may send nothing."""

_PIXEL_BYTES = {"BMP": 5, "DIB": 5, "GIF": 8, "PNG": 5, "PPM": 5, "TIFF": 16}
"""The bytes that decoding is assumed to take for each pixel; JPEG is counted apart, the other formats count as 32.

These are estimates with a margin. Pillow holds a pixel in at most 4 bytes. BMP, PNG and PPM are decoded row by row into
one such image, a GIF's frame is laid on a second one, and TIFF and the others are given room for four and eight.
"""
_JPEG_SCAN = b"\xff\xda"
"""What each pass of a JPEG begins with."""
_PNG_END = b"IEND\xae\x42\x60\x82"
"""The last chunk of a PNG with its checksum, which Pillow does not ask for."""
_SIDE = 4 * max(HEIGHT, WIDTH)
"""The side in pixels that a large image is first brought down to, at least, by averaging whole blocks."""


def open_image(name: str) -> np.ndarray:
    """Return the image in a file, on standard input for `-`, as `read_image` does, and raise InputError as it does.

    Raises InputError also for a file that cannot be read, is larger than FILE_BYTES, or is a pipe that sends nothing.
    """
    try:
        if name == "-":
            if sys.stdin is None:
                raise InputError("cannot be read: standard input is closed")
            return read_image(_bounded(sys.stdin.buffer.read(FILE_BYTES + 1)))
        # Without O_NONBLOCK, a named pipe that nobody writes to would keep this waiting for ever.
        with os.fdopen(os.open(name, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
                return read_image(_bounded(file.read(FILE_BYTES + 1)))
            return read_image(_from_pipe(file.fileno()))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise InputError("cannot be read: no name of a file") from None


def _bounded(data: bytes) -> bytes:
    if len(data) > FILE_BYTES:
        raise InputError(f"has more than {FILE_BYTES} bytes: make the image smaller")
    return data


def _from_pipe(handle: int) -> bytes:
    data = bytearray()
    while select.select([handle], [], [], WAIT_SECONDS)[0]:
        block = os.read(handle, 1 << 20)
        data += block
        if not block or len(data) > FILE_BYTES:
            return _bounded(bytes(data))
    raise InputError(f"cannot be read: it is a pipe or a device that sent nothing for {WAIT_SECONDS} s")


class _File(io.BytesIO):
    # A file that counts how often it is read.

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self._reads += 1
        if self._reads > MOST_READS:
            raise InputError(f"an image that cannot be read: it has more than {MOST_READS} parts")
        return super().read(size)


def read_image(data: bytes) -> np.ndarray:
    """Return the image in the bytes of a file, of one of FORMATS and any mode, as uint8 of shape (32, 32, 3).

    Its EXIF orientation is followed, the largest square in its middle is taken and resized with antialiasing; what is
    transparent is laid on white. Of greyscale images with more than eight bits, white is the largest of 16 bits, or
    1 in floating point. Of several frames the first is taken.

    Raises InputError when it is no image, is damaged or cut short, would take more memory than DECODED_BYTES, or would
    take long: it then has more than MOST_READS, SCANNED_PIXELS or PLAIN_BYTES allow.
    """
    if data[:2] in (b"P1", b"P2", b"P3") and len(data) > PLAIN_BYTES:
        raise InputError(f"a PPM in digits with more than {PLAIN_BYTES} bytes: save it in another format")
    file = _File(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata, and images that Pillow finds large
        try:
            with Image.open(file, formats=FORMATS) as opened:
                opened.verify()  # for a PNG, this checks every chunk; decoding skips the last ones
            file.seek(0)
            if opened.format == "PNG" and _PNG_END not in data:
                raise InputError("an image that cannot be read: it is cut short")
            if opened.format in JPEGS and data.count(_JPEG_SCAN) * opened.width * opened.height > SCANNED_PIXELS:
                raise InputError("an image that cannot be read: it has too many passes")
            with Image.open(file, formats=FORMATS) as opened:
                return _read(opened)
        except InputError:
            raise
        except UnidentifiedImageError:
            raise InputError(f"no image of a format that is read ({', '.join(FORMATS)})") from None
        except Exception as error:  # for damaged files, Pillow's decoders raise exceptions of any type
            raise InputError(f"an image that cannot be read: {error or type(error).__name__}") from None


def _read(opened: Image.Image) -> np.ndarray:
    size = opened.size
    if opened.format in JPEGS:
        opened.draft(None, (_SIDE, _SIDE))  # decoded smaller, where that is larger still
    if _decoded_bytes(opened, size) > DECODED_BYTES:
        raise InputError(f"an image of {size[0]}x{size[1]} pixels, too many for a {opened.format}: make it smaller")
    small = _reduced(opened)
    orientation = opened.getexif().get(0x0112)
    if orientation is not None:
        small.getexif()[0x0112] = orientation
        small = ImageOps.exif_transpose(small)
    return np.asarray(ImageOps.fit(small, (WIDTH, HEIGHT)))


def _decoded_bytes(opened: Image.Image, size: tuple[int, int]) -> float:
    if opened.format not in JPEGS:
        return size[0] * size[1] * _PIXEL_BYTES.get(str(opened.format), 32)
    # A JPEG may come in passes, which takes two bytes for each coefficient of each of its layers.
    layers = [(across, down) for _, across, down, _ in getattr(opened, "layer", [])]
    most = max(across for across, _ in layers) * max(down for _, down in layers)
    share = sum(across * down for across, down in layers) / most
    return size[0] * size[1] * 2 * share + opened.width * opened.height * 4


def _reduced(opened: Image.Image) -> Image.Image:
    # The square in the middle in red, green and blue, by averages over blocks where it is large. A strip at a time, for
    # some modes take many times the memory while they are converted.
    side = min(opened.size)
    left, top = ((length - side) // 2 for length in opened.size)
    right, bottom = opened.width - left, opened.height - top  # one pixel more, where the middle is between two
    factor = side // _SIDE
    if factor < 2:
        return _on_white(_eight_bits(opened.crop((left, top, right, bottom))))
    opened.load()
    strips = [
        _on_white(_eight_bits(opened.crop((left, y, right, min(y + factor, bottom))))).reduce(factor)
        for y in range(top, bottom, factor)
    ]
    small = Image.new("RGB", (strips[0].width, len(strips)))
    for row, strip in enumerate(strips):
        small.paste(strip, (0, row))
    return small


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
