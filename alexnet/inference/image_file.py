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
"""Pillow's names of the formats that are read. EPS is not one of them, because Pillow runs Ghostscript for it."""
JPEGS = ("JPEG", "MPO")
"""Pillow's names for a file with one JPEG in it, and for one with several."""
FILE_BYTES = 64 << 20
"""The most bytes that a file may have."""
DECODED_BYTES = 192 << 20
"""The most bytes that decoding an image may take, estimated from its header. All in all it takes less than 256 MB."""
MAX_READS = 400_000
"""The most pieces in which a file may be read, so that millions of empty parts cannot take minutes or gigabytes."""
SCANNED_PIXELS = 7 * 10**8
"""The most pixels that all scans of a JPEG may have together. Each scan goes over the whole image."""
PLAIN_BYTES = 4 << 20
"""The most bytes of a plain (ASCII) PBM, PGM or PPM file, because reading its decimal numbers is slow."""
WAIT_SECONDS = 30
"""How long a named pipe or a device may send nothing, in seconds."""

_PIXEL_BYTES = {"BMP": 5, "DIB": 5, "GIF": 8, "PNG": 5, "PPM": 5, "TIFF": 16}
"""The estimated number of bytes that decoding takes for each pixel. It is 32 for other formats, except for JPEG.

The estimates have a margin. Pillow stores a pixel in at most 4 bytes. BMP, PNG and PPM are decoded row by row into one
image, and a GIF's frame is put on a second one. TIFF has room for four images, and the other formats for eight.
"""
_JPEG_SCAN = b"\xff\xda"
"""The marker with which each scan of a JPEG begins (SOS)."""
_PNG_END = b"IEND\xae\x42\x60\x82"
"""The last chunk of a PNG file with its checksum. Pillow also accepts files without it."""
_SIDE = 4 * max(HEIGHT, WIDTH)
"""A larger image is first reduced to at least this many pixels a side, by averaging blocks of pixels."""


def open_image(name: str) -> np.ndarray:
    """Return the image in a file, or on standard input if the name is `-`, as `read_image` does.

    Raises InputError when `read_image` does, and when the file cannot be read, is larger than FILE_BYTES, or is a pipe
    that sends nothing.
    """
    try:
        if name == "-":
            if sys.stdin is None:
                raise InputError("cannot be read: standard input is closed")
            return read_image(_bounded(sys.stdin.buffer.read(FILE_BYTES + 1)))
        # Without O_NONBLOCK, opening a named pipe that nobody writes to would never return.
        with open(name, "rb", buffering=0, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return read_image(_bounded(file.read(FILE_BYTES + 1)))
            return read_image(_from_pipe(file.fileno()))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise InputError("cannot be read: not a valid file name") from None


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
    # A file that counts how often it is read, and ends in an error when that is too often.

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self._reads += 1
        if self._reads > MAX_READS:
            raise InputError(f"the image cannot be read: it has more than {MAX_READS} parts")
        return super().read(size)


def read_image(data: bytes) -> np.ndarray:
    """Return the image in the bytes of a file as uint8 of shape (32, 32, 3). It may have any of FORMATS, and any mode.

    The image is turned as its EXIF orientation says. The largest square in the middle is resized with antialiasing.
    Transparent parts become white. In greyscale images with more than eight bits, white is the largest 16-bit value, or
    1 in floating point. If there are several frames, the first is used.

    Raises InputError when the bytes are not an image, or are damaged or cut short; when decoding them would take more
    than DECODED_BYTES; and when reading them would take too long, because they exceed MAX_READS, SCANNED_PIXELS or
    PLAIN_BYTES.
    """
    if data[:2] in (b"P1", b"P2", b"P3") and len(data) > PLAIN_BYTES:
        raise InputError(f"a plain (ASCII) PBM, PGM or PPM of more than {PLAIN_BYTES} bytes: save it in another format")
    file = _File(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about unusual metadata, and about images that Pillow considers large
        try:
            with Image.open(file, formats=FORMATS) as opened:
                opened.verify()  # for a PNG, this checks every chunk; decoding skips the last ones
            file.seek(0)
            if opened.format == "PNG" and _PNG_END not in data:
                raise InputError("the image cannot be read: it is cut short")
            if opened.format in JPEGS and data.count(_JPEG_SCAN) * opened.width * opened.height > SCANNED_PIXELS:
                raise InputError("the image cannot be read: it has too many scans")
            with Image.open(file, formats=FORMATS) as opened:
                return _read(opened)
        except InputError:
            raise
        except UnidentifiedImageError:
            raise InputError(f"not an image in a supported format ({', '.join(FORMATS)})") from None
        except Exception as error:  # Pillow's decoders raise exceptions of any type for damaged files
            raise InputError(f"the image cannot be read: {error or type(error).__name__}") from None


def _read(opened: Image.Image) -> np.ndarray:
    size = opened.size
    if opened.format in JPEGS:
        opened.draft(None, (_SIDE, _SIDE))  # decodes the JPEG at a smaller size, if that is still at least _SIDE
    if _decoded_bytes(opened, size) > DECODED_BYTES:
        raise InputError(f"the image has {size[0]}x{size[1]} pixels, too many for a {opened.format}: make it smaller")
    small = _reduced(opened)
    orientation = opened.getexif().get(0x0112)
    if orientation is not None:
        small.getexif()[0x0112] = orientation
        small = ImageOps.exif_transpose(small)
    return np.asarray(ImageOps.fit(small, (WIDTH, HEIGHT)))


def _decoded_bytes(opened: Image.Image, size: tuple[int, int]) -> float:
    if opened.format not in JPEGS:
        return size[0] * size[1] * _PIXEL_BYTES.get(str(opened.format), 32)
    # A JPEG may be progressive, which takes two bytes for each coefficient of each of its components.
    sampling = [(across, down) for _, across, down, _ in getattr(opened, "layer", [])]
    most = max(across for across, _ in sampling) * max(down for _, down in sampling)
    coefficients_per_pixel = sum(across * down for across, down in sampling) / most
    return size[0] * size[1] * 2 * coefficients_per_pixel + opened.width * opened.height * 4


def _reduced(opened: Image.Image) -> Image.Image:
    # Returns the square in the middle as RGB, reduced if it is large. It is converted in strips, because some modes
    # take many times as much memory while they are converted.
    side = min(opened.size)
    left, top = ((length - side) // 2 for length in opened.size)
    right, bottom = opened.width - left, opened.height - top  # one pixel more if the sides differ by an odd number
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
    # Converts an image to RGB, or to RGBA if it may have transparent parts.
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
