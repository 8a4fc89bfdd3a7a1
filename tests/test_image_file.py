import io
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Exif

from alexnet.inference import image_file
from alexnet.inference.image_file import open_image
from alexnet.runtime.errors import InputError
from tests.conftest import one_line
from tests.memory import forget_peak, megabytes
from tests.workspaces import ROOT

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


def read_image(file: io.BytesIO) -> NDArray[np.uint8]:
    """Read the image in an open file."""
    return image_file.read_image(file.getvalue())


def encoded(image: Image.Image, encoding: str = "PNG", **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, encoding, **options)
    file.seek(0)
    return file


def half(mode: str, left: Any, right: Any, palette: list[int] | None = None) -> Image.Image:
    """Return an image of 64x64 pixels whose left and right half each have one colour."""
    image = Image.new(mode, (64, 64), right)
    image.paste(left, (0, 0, 32, 64))
    if palette:
        image.putpalette(palette)
    return image


def grey(kind: type, left: float, right: float) -> Image.Image:
    """Return a greyscale image of 64x64 pixels with a type of number."""
    return Image.fromarray(np.repeat(np.array([[left, right]], kind), 64, axis=0).repeat(32, axis=1))


def halves(image: np.ndarray) -> list[list[int]]:
    """Return the colours of the left and of the right half."""
    assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
    return [image[16, 4].tolist(), image[16, 27].tolist()]


def png(width: int, height: int) -> io.BytesIO:
    """Return a PNG whose header has this size, but which has hardly any pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


@pytest.mark.parametrize("encoding", ["PNG", "BMP", "TIFF", "PPM"])
def test_an_image_of_cifars_size_stays_as_it_is(encoding: str) -> None:
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(PIXELS), encoding)), PIXELS)


PALETTE = [250, 10, 20, 30, 200, 100]
RED, GREEN = PALETTE[:3], PALETTE[3:]

MODES: dict[str, tuple[Callable[[], io.BytesIO], list[list[int]]]] = {
    "1": (lambda: encoded(half("1", 0, 1)), [[0] * 3, [255] * 3]),
    "L": (lambda: encoded(half("L", 7, 200)), [[7] * 3, [200] * 3]),
    "LA": (lambda: encoded(half("LA", (7, 255), (7, 0))), [[7] * 3, [255] * 3]),
    "L with transparency": (lambda: encoded(half("L", 7, 200), transparency=7), [[255] * 3, [200] * 3]),
    "P": (lambda: encoded(half("P", 0, 1, PALETTE)), [RED, GREEN]),
    "P in a GIF": (lambda: encoded(half("P", 0, 1, PALETTE), "GIF"), [RED, GREEN]),
    "P with transparency": (lambda: encoded(half("P", 0, 1, PALETTE), transparency=1), [RED, [255] * 3]),
    "RGB": (lambda: encoded(half("RGB", (*RED,), (*GREEN,))), [RED, GREEN]),
    "RGB with transparency": (
        lambda: encoded(half("RGB", (*RED,), (*GREEN,)), transparency=(*RED,)),
        [[255] * 3, GREEN],
    ),
    "RGBA": (lambda: encoded(half("RGBA", (0, 0, 0, 0), (0, 0, 0, 153))), [[255] * 3, [102] * 3]),
    "CMYK": (lambda: encoded(half("CMYK", (255, 0, 0, 0), (0, 0, 255, 0)), "TIFF"), [[0, 255, 255], [255, 255, 0]]),
    "LAB": (lambda: encoded(half("LAB", (0, 128, 128), (255, 128, 128)), "TIFF"), [[0] * 3, [255] * 3]),
    "16 bits, PNG": (lambda: encoded(grey(np.uint16, 0x4040, 0xFFFF)), [[64] * 3, [255] * 3]),
    "16 bits, TIFF": (lambda: encoded(grey(np.uint16, 0x4040, 0xFFFF), "TIFF"), [[64] * 3, [255] * 3]),
    "16 bits, PGM": (lambda: encoded(grey(np.uint16, 0x4040, 0xFFFF), "PPM"), [[64] * 3, [255] * 3]),
    "32 bits": (lambda: encoded(grey(np.int32, 0x4040, 0x12345), "TIFF"), [[64] * 3, [255] * 3]),
    "floating point": (lambda: encoded(grey(np.float32, 0.2, np.nan), "TIFF"), [[51] * 3, [0] * 3]),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode(mode: str) -> None:
    file, expected = MODES[mode]
    np.testing.assert_allclose(halves(read_image(file())), expected, atol=1)


def test_a_larger_image_is_averaged_not_sampled() -> None:
    chequers = np.indices((320, 320)).sum(axis=0) % 2 * np.uint8(200)
    assert abs(read_image(encoded(Image.fromarray(chequers.astype(np.uint8)))).astype(int) - 100).max() < 5


@pytest.mark.parametrize(("width", "height"), [(90, 30), (30, 90), (91, 31), (96, 32), (400, 3000)])
def test_the_square_in_the_middle_is_taken(width: int, height: int) -> None:
    size = min(width, height)
    image = Image.new("RGB", (width, height), "red")
    left, top = (width - size) // 2, (height - size) // 2
    image.paste("blue", (left, top, left + size, top + size))
    found = read_image(encoded(image))
    np.testing.assert_array_equal(found[2:-2, 2:-2], np.broadcast_to([0, 0, 255], (28, 28, 3)))


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (33, 2)])
def test_a_small_image_is_enlarged(size: tuple[int, int]) -> None:
    assert halves(read_image(encoded(Image.new("RGB", size, "red")))) == [[255, 0, 0]] * 2


@pytest.mark.parametrize(("orientation", "row", "column"), [(1, 0, 16), (3, -1, 16), (6, 16, -1), (8, 16, 0)])
def test_exif_orientation(orientation: int, row: int, column: int) -> None:
    image, exif = Image.new("RGB", (64, 64)), Exif()
    image.paste("white", (0, 0, 64, 16))
    exif[0x0112] = orientation
    found = read_image(encoded(image, "JPEG", exif=exif))
    assert found[row, column].min() > 250
    assert (found > 127).mean() == pytest.approx(0.25, abs=0.02)


def test_the_first_of_several_frames() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    assert halves(read_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))) == [[255, 0, 0]] * 2


PHOTO = Image.fromarray(np.random.default_rng(1).integers(0, 256, (99, 150, 3), np.uint8))
WHOLE = {encoding: encoded(PHOTO, encoding).getvalue() for encoding in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP")}

BAD: dict[str, tuple[Callable[[], io.BytesIO], str]] = (
    {
        "nothing": (lambda: io.BytesIO(), "not an image in a supported format"),
        "text": (lambda: io.BytesIO(b"a cat\n"), "not an image in a supported format"),
        "zeros": (lambda: io.BytesIO(bytes(9999)), "not an image in a supported format"),
        "a drawing": (lambda: io.BytesIO(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not an image in a"),
        "no pixels": (lambda: png(0, 0), "not an image in a supported format"),
        "fewer pixels than it says": (lambda: png(999, 999), "cannot be read"),
        "a decompression bomb": (lambda: png(60_000, 60_000), "decompression bomb"),
        "a drawing in PostScript": (lambda: encoded(PHOTO, "EPS"), "not an image in a supported format"),
        "a large PNG": (lambda: png(8000, 8000), "8000x8000 pixels, too many for a PNG: make it smaller"),
        "a changed byte": (
            lambda: io.BytesIO(WHOLE["PNG"][:5000] + bytes([WHOLE["PNG"][5000] ^ 255]) + WHOLE["PNG"][5001:]),
            "cannot be read",
        ),
    }
    | {
        f"a PNG without its last {count} bytes": (
            lambda count=count: io.BytesIO(WHOLE["PNG"][:-count]),
            "cannot be read",
        )
        for count in (1, 4, 8, 12, 13, 20)
    }
    | {
        f"half a {encoding}": (lambda data=data: io.BytesIO(data[: len(data) // 2]), "cannot be read")
        for encoding, data in WHOLE.items()
    }
)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.filterwarnings("error")
def test_a_file_that_is_not_an_image_is_one_line(kind: str) -> None:
    file, part = BAD[kind]
    with pytest.raises(InputError) as caught:
        read_image(file())
    one_line(caught, part)


def test_a_large_photograph_is_accepted(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 40 - 1)
    assert halves(read_image(encoded(Image.new("RGB", (40, 40), "red")))) == [[255, 0, 0]] * 2
    assert not recwarn


LARGE = {
    "16 bits, PNG": "Image.new('I;16', (6100, 6100)).save(path, 'PNG')",
    "transparent PNG": "Image.new('RGBA', (6100, 6100)).save(path, 'PNG')",
    "palette, PNG": "Image.new('P', (6100, 6100)).save(path, 'PNG')",
    "JPEG in passes": "Image.new('RGB', (5700, 5700)).save(path, 'JPEG', progressive=True, subsampling=0)",
    "JPEG": "Image.new('RGB', (8100, 8000)).save(path, 'JPEG')",
    "floating point, TIFF": "Image.new('F', (3500, 3500)).save(path, 'TIFF')",
    "compressed TIFF": "Image.new('RGBA', (3500, 3500)).save(path, 'TIFF', compression='tiff_lzw')",
    "GIF": "Image.new('P', (4900, 4900)).save(path, 'GIF')",
    "WebP": "Image.new('RGBA', (2500, 2500)).save(path, 'WEBP', lossless=True)",
    "JPEG 2000": "Image.new('RGBA', (2500, 2500)).save(path, 'JPEG2000')",
    "AVIF": "Image.new('RGBA', (2500, 2500)).save(path, 'AVIF', speed=10)",
    "BMP": "Image.new('RGB', (4700, 4700)).save(path, 'BMP')",
    "narrow JPEG": "Image.new('RGB', (60, 60000)).save(path, 'JPEG', progressive=True, subsampling=0)",
}


@pytest.mark.parametrize("kind", LARGE)
def test_the_largest_images_take_less_than_256_mb(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    code = f"from PIL import Image; path = {str(path)!r}; {LARGE[kind]}"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = (
        "import sys; from alexnet.inference.image_file import open_image\n"
        "from PIL import Image, ImageCms; Image.init()\n"
        "from tests.memory import forget_peak, megabytes\n"
        "forget_peak(); before = megabytes('VmRSS')\n"
        "assert open_image(sys.argv[1]).shape == (32, 32, 3)\n"
        "print(megabytes('VmHWM') - before)"
    )
    command = [sys.executable, "-c", code, str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(result.stdout) < 256


def test_a_large_transparent_image_is_averaged_on_white() -> None:
    image = Image.new("RGBA", (640, 640), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 320, 640))
    assert halves(read_image(encoded(image))) == [[0] * 3, [255] * 3]


def jpeg(before: bytes = b"", passes: int = 1) -> bytes:
    """Return a progressive JPEG with `before` after its first segment, and with its last pass `passes` times."""
    data = encoded(PHOTO.resize((400, 400)), "JPEG", progressive=True).getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:20] + before + data[20:last] + passes * data[last:-2] + data[-2:]


def gif_comment(parts: int) -> bytes:
    data = encoded(PHOTO, "GIF").getvalue()
    start = data.index(b"\x2c", 13 + 3 * 256)  # of the first frame, after the colours
    return data[:start] + b"\x21\xfe" + parts * b"\1x" + b"\0" + data[start:]


def png_chunks(count: int) -> bytes:
    end = WHOLE["PNG"].index(b"IDAT") - 4
    return (
        WHOLE["PNG"][:end] + count * (bytes(4) + b"prVt" + struct.pack(">I", zlib.crc32(b"prVt"))) + WHOLE["PNG"][end:]
    )


BMP_HEADER = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54 + 1024, 40, 6000, 6000, 1, 8, 1, 0, 0, 0, 256, 0)
MANY_PARTS: dict[str, Callable[[], bytes]] = {
    "comments, JPEG": lambda: jpeg(10_000_000 * b"\xff\xfe\0\2"),
    "junk, JPEG": lambda: jpeg(60_000_000 * b"x"),
    "passes, JPEG": lambda: jpeg(passes=6000),
    "chunks, PNG": lambda: png_chunks(5_000_000),
    "a comment in pieces, GIF": lambda: gif_comment(30_000_000),
    "a comment, PPM": lambda: b"P6\n#" + 60_000_000 * b"x" + b"\n2 2\n255\n" + bytes(12),
    "digits, PPM": lambda: b"P3\n2000 2000\n255\n" + 12_000_000 * b"255 ",
    "runs, BMP": lambda: BMP_HEADER + bytes(1024) + 15_000_000 * b"\1\0",
    "empty rows, BMP": lambda: BMP_HEADER + bytes(1024) + 30_000_000 * b"\0\0",
    "moves, BMP": lambda: BMP_HEADER + bytes(1024) + 15_000_000 * b"\0\2\0\0",
}


@pytest.mark.parametrize("kind", MANY_PARTS)
def test_an_image_of_millions_of_parts_is_answered_or_refused_soon(kind: str) -> None:
    data = MANY_PARTS[kind]()
    assert len(data) < image_file.FILE_BYTES
    forget_peak()
    start, before = time.process_time(), megabytes("VmRSS")
    with suppress(InputError):
        image_file.read_image(data)
    assert time.process_time() - start < 10
    assert megabytes("VmHWM") - before < 256


def test_a_photograph_in_too_many_passes_is_refused() -> None:
    with pytest.raises(InputError, match="it has too many scans"):
        image_file.read_image(jpeg(passes=6000))


def test_a_photograph_in_passes_is_answered() -> None:
    assert image_file.read_image(jpeg(b"\xff\xfe\0\2" * 1000)).shape == (32, 32, 3)


def test_numbers_in_digits_are_read() -> None:
    assert halves(image_file.read_image(b"P3\n2 1\n255\n255 0 0  255 0 0")) == [[255, 0, 0]] * 2


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_file, "FILE_BYTES", 1000)
    (tmp_path / "a.png").write_bytes(WHOLE["PNG"])
    with pytest.raises(InputError, match="more than 1000 bytes"):
        open_image(str(tmp_path / "a.png"))
    with pytest.raises(InputError, match="more than 1000 bytes"):
        open_image("/dev/zero")


def test_a_pipe_that_nobody_writes_to_is_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_file, "WAIT_SECONDS", 0.2)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"sent nothing for 0\.2 s"):
        open_image(str(tmp_path / "pipe"))


def test_closed_standard_input_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="standard input is closed"):
        open_image("-")


def test_a_folder_is_refused_and_leaves_no_file_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(InputError) as caught:
            open_image(str(tmp_path))
        one_line(caught, "cannot be read: Is a directory")
    assert len(os.listdir("/proc/self/fd")) == before
