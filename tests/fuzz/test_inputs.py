"""What comes from outside: each input gives a right answer or one InputError of one line, and leaves nothing behind.

`make test` tries each kind for a few seconds, `make fuzz MINUTES=20` for as long as it is told. Hypothesis keeps inputs
that fail in `.hypothesis/`; copy one into an `@example`, and it is tried each time.
"""

import gzip
import io
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mindspore as ms
import numpy as np
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from alexnet.archive.verify import verify
from alexnet.inference.image_file import open_image
from alexnet.model.checkpoint import read_checkpoint
from alexnet.report.curves import read_curve
from alexnet.runtime.errors import InputError
from stages import params
from tests import archives
from tests.conftest import ROOT

MINUTES = float(os.environ.get("MINUTES", 0))
SECONDS, MEGABYTES = 10, 300
"""Bounds for one input, of time and of the memory that it adds to the most that this process has taken."""

fuzz = settings(
    max_examples=60 if not MINUTES else 1000 * 1000,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=not MINUTES,
)
START = time.monotonic()
KINDS = 5


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def attempt(data: bytes, name: str, read: Callable[[Path], object], turn: int) -> None:
    """Read an input from a file of its own and check what it left; for long runs, only in this kind's share of time."""
    if MINUTES and time.monotonic() - START > 60 * MINUTES * turn / KINDS:
        return
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        path = folder / "in" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        start, before = time.monotonic(), peak()
        left, told = set[str](), ""
        try:
            read(path)
            left = {"train", "test"}
        except InputError as error:
            told = str(error)
        assert "\n" not in told
        assert len(told) < 10_000
        assert time.monotonic() - start < SECONDS
        assert peak() - before < MEGABYTES
        assert {entry.name for entry in folder.iterdir()} == {"in"}
        assert {entry.name for entry in path.parent.iterdir()} - left == {path.name}
        assert path.read_bytes() == data


@st.composite
def damaged(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """Some bytes of a good input changed, cut out, doubled or put in."""
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


TAR = gzip.decompress(archives.packed(archives.files(50, 10)))


@fuzz
@given(damaged([TAR]), st.booleans())
def test_archives(data: bytes, packed: bool) -> None:
    def read(path: Path) -> None:
        verify(path, path.parent / "train", path.parent / "test", md5=None, train_images=50, test_images=10)

    attempt(gzip.compress(data, 1) if packed else data, "a.tar.gz", read, 1)


def checkpoint() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ckpt"
        values = {"fc3.bias": np.zeros(10, np.float32), "settings.num_classes": np.array(10), "x": np.zeros((2, 0, 3))}
        ms.save_checkpoint([{"name": name, "data": ms.Tensor(value)} for name, value in values.items()], str(path))
        return path.read_bytes()


@fuzz
@given(damaged([checkpoint()]))
@example(b"\n\x10\n\x01a\x12\x0b\x08\x7f\x12\x07Float32")
def test_checkpoints(data: bytes) -> None:
    attempt(data, "a.ckpt", read_checkpoint, 2)


@fuzz
@given(damaged([(ROOT / "params.yaml").read_bytes()]) | st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_parameters(data: bytes) -> None:
    def read(path: Path) -> None:
        before = Path.cwd()
        os.chdir(path.parent)
        try:
            params.read()
        finally:
            os.chdir(before)

    attempt(data, "params.yaml", read, 3)


@fuzz
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_parameters_of_any_value(value: object) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_bytes())
    for section in values:
        for key in values[section]:
            values[section][key] = value
    test_parameters.hypothesis.inner_test(yaml.safe_dump(values).encode())


def images() -> list[bytes]:
    made = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF"):
        file = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(file, kind)
        made.append(file.getvalue())
    return made


@fuzz
@given(damaged(images()))
def test_images(data: bytes) -> None:
    attempt(data, "a.png", lambda path: open_image(str(path)), 4)


@fuzz
@given(damaged([b"step\tloss\n1\t2.5\n2\t1e-05\n", b"timestamp\tstep\tloss\n1700000000000\t3\t0.5\n"]))
@example(b"step\tloss\n99999999999999999999999\t1\n")
def test_curves(data: bytes) -> None:
    attempt(data, "loss.tsv", lambda path: read_curve(path.parent, "loss"), 5)
