"""What comes from outside: each input gives a right answer or one InputError of one line, and leaves nothing behind.

`make test` tries a few inputs of each kind, always the same; `make fuzz MINUTES=20` tries new ones for 20 minutes. The
smallest input that failed is left as `tests/fuzz/cases/KIND/newest`. Give it a name that says what is wrong and commit
it: all files in these folders are tried each time. The table at the end counts the inputs of each kind: those that were
answered, those that were refused, and those that were bad because neither happened within the bounds.
"""

import gzip
import io
import os
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mindspore.train.checkpoint_pb2 import Checkpoint
from PIL import Image

from alexnet import cifar10
from alexnet.archive.verify import verify
from alexnet.inference.image_file import open_image
from alexnet.model import checkpoint
from alexnet.model.checkpoint import load_network
from alexnet.report.curves import read_curve
from alexnet.runtime.errors import InputError
from stages import params
from tests import archives
from tests.memory import forget_peak, megabytes
from tests.tables import tally
from tests.workspaces import ROOT

MINUTES = float(os.environ.get("FUZZ_MINUTES", 0))
SECONDS, MEGABYTES = 10, 300
"""Limits for one input: of the CPU time, and of the memory beyond what the process had before."""
CASES = Path(__file__).with_name("cases")


def read_archive(path: Path) -> None:
    verify(path, path.parent / "train", path.parent / "test", md5=None, train_images=50, test_images=10)


def read_parameters(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        params.read()
    finally:
        os.chdir(before)


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "archives": ("a.tar.gz", read_archive),
    "checkpoints": ("a.ckpt", lambda path: load_network(path, 67, 67)),
    "parameters": ("params.yaml", read_parameters),
    "images": ("a.png", lambda path: open_image(str(path))),
    "curves": ("loss.tsv", lambda path: read_curve(path.parent, "loss")),
}
"""For each kind of input, the name of the file and the function that reads it."""


def attempt(kind: str, data: bytes) -> str:
    """Read an input from a file of its own, check what is left behind, and return `answered` or `refused`."""
    name, read = READERS[kind]
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        path = folder / "in" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        forget_peak()
        start, before = time.process_time(), megabytes("VmRSS")  # this process's time, as others run beside it
        created, message = set[str](), ""
        try:
            read(path)
            created = {"train", "test"}
        except InputError as error:
            message = str(error)
        assert "\n" not in message
        assert len(message) < 10_000
        assert time.process_time() - start < SECONDS
        assert megabytes("VmHWM") - before < MEGABYTES
        assert {entry.name for entry in folder.iterdir()} == {"in"}
        assert {entry.name for entry in path.parent.iterdir()} - created == {path.name}
        assert path.read_bytes() == data
    return "refused" if message else "answered"


@st.composite
def damaged(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """Return a good input in which some bytes are changed, removed, repeated or inserted."""
    data = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 600))
        match draw(st.integers(0, 3)):
            case 0:
                data[place : place + 8] = draw(st.binary(max_size=8))
            case 1:
                del data[place : place + length]
            case 2:
                data[place:place] = data[place : place + length]
            case _:
                data[place:place] = draw(st.binary(max_size=40))
    return bytes(data)


NAMES = (*cifar10.TRAIN_FILES, *cifar10.TEST_FILES, cifar10.META_FILE, cifar10.README_FILE, cifar10.GENERATED_FILE)
KINDS = (
    *(tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE),
    *(tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.XGLTYPE, b"\0", b"?"),
)


@st.composite
def archive(draw: st.DrawFn) -> bytes:
    """A good archive with members beside or instead of its own: links, devices, sparse files, wrong names and sizes."""
    good = archives.files(50, 10)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=draw(st.sampled_from((0, 1, 2)))) as tar:
        for own in [*good, *draw(st.lists(st.sampled_from(NAMES), max_size=3))]:
            content = good.get(own, b"")
            changed = draw(st.integers(0, 9)) == 0
            name = st.sampled_from(NAMES).map(f"{cifar10.ARCHIVE_FOLDER}/".__add__) | st.text(min_size=1, max_size=120)
            path = f"{cifar10.ARCHIVE_FOLDER}/{own}"
            info = tarfile.TarInfo(draw(name | st.sampled_from(("/", "../", "./", "//"))) if changed else path)
            info.size = draw(st.integers(0, 2**33)) if changed else len(content)
            info.type = draw(st.sampled_from(KINDS)) if changed else tarfile.REGTYPE
            if changed:
                info.linkname = draw(st.sampled_from(("/etc/passwd", "../a", path, own)))
                fields = st.sampled_from(("path", "size", "linkpath", "GNU.sparse.map", "GNU.sparse.realsize", "mtime"))
                info.pax_headers = draw(st.dictionaries(fields, st.text(max_size=9) | st.just("0,9,20,5"), max_size=2))
            with suppress(ValueError, UnicodeError):  # what tarfile cannot write
                tar.addfile(info)
                buffer.write(content + bytes(-len(content) % 512))
                tar.offset = buffer.tell()
    return buffer.getvalue()


def good_checkpoint() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ckpt"
        values = {"fc3.bias": np.zeros(10, np.float32), "settings.num_classes": np.array(10), "x": np.zeros((2, 0, 3))}
        ms.save_checkpoint([{"name": name, "data": ms.Tensor(value)} for name, value in values.items()], str(path))
        return path.read_bytes()


TEXTS = st.sampled_from(("fc3.bias", "fc3.weight", "conv1.weight", "digest.sha256", "x")) | st.text(max_size=9)
SETTINGS = st.sampled_from(("name", "num_classes", "image_height", "image_width", "batch_norm", "x")).map(
    "settings.{}".format
)
TYPES = st.sampled_from(("Float32", "Int64", "Bool", "UInt8", "Float64", "str", "", "Float99"))
NUMBERS = st.floats(width=64).map(lambda value: np.float64(value).tobytes())
NUMBERS |= st.integers(-(2**63), 2**63 - 1).map(lambda value: np.int64(value).tobytes())


GOOD_SETTINGS = {
    "name": ("UInt8", b"alexnet"),
    "num_classes": ("Int64", np.int64(10).tobytes()),
    "image_height": ("Int64", np.int64(67).tobytes()),
    "image_width": ("Int64", np.int64(67).tobytes()),
    "batch_norm": ("Bool", b"\1"),
}
"""The type and the bytes of each setting of an AlexNet."""


@st.composite
def values(draw: st.DrawFn) -> bytes:
    """A checkpoint of a few values with any names, shapes, types and numbers.

    Some have settings, most of which are right, and the digest of their values, so that the values are looked at.
    """
    made = Checkpoint()
    if draw(st.booleans()):
        for name, (kind, content) in GOOD_SETTINGS.items():
            entry = made.value.add(tag=f"settings.{name}")
            entry.tensor.tensor_type = kind
            entry.tensor.dims.extend([len(content)] if kind == "UInt8" else [])
            entry.tensor.tensor_content = content if draw(st.integers(0, 4)) else draw(NUMBERS)
    for _ in range(draw(st.integers(0, 8))):
        entry = made.value.add(tag=draw(TEXTS | SETTINGS))
        entry.tensor.dims.extend(draw(st.lists(st.integers(0, 3) | st.integers(-(2**63), 2**63 - 1), max_size=4)))
        entry.tensor.tensor_type = draw(TYPES)
        entry.tensor.tensor_content = draw(NUMBERS | st.binary(max_size=40))
    if draw(st.booleans()):
        with suppress(ValueError):  # the values have no digest, because they cannot be read
            digest = checkpoint._digest(checkpoint._parse(made.SerializeToString()))
            entry = made.value.add(tag=checkpoint.DIGEST)
            entry.tensor.dims.append(digest.size)
            entry.tensor.tensor_type, entry.tensor.tensor_content = "UInt8", digest.tobytes()
    return made.SerializeToString()


def images() -> list[bytes]:
    """Images of each format, and of the modes and kinds that are decoded by code of their own."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    colour, deep = Image.fromarray(pixels), Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    frames = {"save_all": True, "append_images": [colour.rotate(90), colour.rotate(180)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        *((colour, kind, {}) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")),
        *((colour, kind, frames) for kind in ("PNG", "GIF", "WEBP", "TIFF")),
        (deep, "PNG", {}),
        (deep, "TIFF", {"compression": "tiff_lzw"}),
        (colour.quantize(9), "PNG", {"transparency": 1}),
        (colour.convert("LA"), "PNG", {"exif": exif}),
        (colour.convert("CMYK"), "JPEG", {"exif": exif}),
        (colour, "JPEG", {"progressive": True, "subsampling": 0}),
        (colour.convert("F"), "TIFF", {}),
        (colour.convert("LAB"), "TIFF", {"compression": "tiff_adobe_deflate"}),
        (colour.convert("RGBA"), "WEBP", {"lossless": True, "exif": exif}),
    ]
    made = []
    for image, kind, options in kinds:
        file = io.BytesIO()
        image.save(file, kind, **options)
        made.append(file.getvalue())
    return made


@st.composite
def large(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """An image in which one number of its header, or a later one, is another: a size, a count, a place."""
    data = bytearray(draw(st.sampled_from(whole)))
    order, length = draw(st.sampled_from(("big", "little"))), draw(st.sampled_from((2, 4)))
    number = draw(st.sampled_from((0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)) | st.integers(0, 2**32 - 1))
    place = draw(st.integers(0, min(200, len(data))) | st.integers(0, len(data)))
    data[place : place + length] = (number % 256**length).to_bytes(length, order)
    if data[:4] == b"\x89PNG" and draw(st.booleans()):  # so that its checksum does not tell
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def with_value_everywhere(value: object) -> bytes:
    """Return a params.yaml in which each parameter has this value."""
    values = yaml.safe_load((ROOT / "params.yaml").read_bytes())
    for section in values:
        for key in values[section]:
            values[section][key] = value
    return yaml.safe_dump(values).encode()


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5)
PARAMS = damaged([(ROOT / "params.yaml").read_bytes()]) | st.text().map(lambda text: text.encode("utf-8", "replace"))
TAR = damaged([gzip.decompress(archives.packed(archives.files(50, 10)))])
IMAGES = images()
INPUTS: dict[str, tuple[str, st.SearchStrategy[bytes]]] = {
    "archives, bytes changed": ("archives", TAR | TAR.map(lambda data: gzip.compress(data, 1))),
    "archives, other members": ("archives", archive().map(lambda data: gzip.compress(data, 1))),
    "checkpoints, bytes changed": ("checkpoints", damaged([good_checkpoint()])),
    "checkpoints, other values": ("checkpoints", values()),
    "params.yaml, bytes changed": ("parameters", PARAMS),
    "params.yaml, other values": ("parameters", VALUES.map(with_value_everywhere)),
    "images, bytes changed": ("images", damaged(IMAGES)),
    "images, other numbers": ("images", large(IMAGES)),
    "curves, bytes changed": (
        "curves",
        damaged([b"step\tloss\n1\t2.5\n2\t1e-05\n", b"timestamp\tstep\tloss\n1700000000000\t3\t0.5\n"]),
    ),
}
"""Of each attack, the kind of the input and what draws it."""


@pytest.mark.parametrize("attack", INPUTS)
def test_inputs(attack: str) -> None:
    kind, inputs = INPUTS[attack]

    @settings(
        max_examples=300 if MINUTES else 40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=not MINUTES,
        database=None,
    )
    @given(inputs)
    def some(data: bytes) -> None:
        try:
            tally(attack, attempt(kind, data))
        except Exception:
            tally(attack, "bad")
            if MINUTES:  # Hypothesis ends with the smallest input that fails
                (CASES / kind).mkdir(parents=True, exist_ok=True)
                (CASES / kind / "newest").write_bytes(data)
            raise

    end = time.monotonic() + 60 * MINUTES / len(INPUTS)
    some()
    while time.monotonic() < end:
        some()


@pytest.mark.parametrize("path", sorted(CASES.glob("*/*")), ids=lambda path: f"{path.parent.name}: {path.name}")
def test_inputs_that_failed(path: Path) -> None:
    attempt(path.parent.name, path.read_bytes())
