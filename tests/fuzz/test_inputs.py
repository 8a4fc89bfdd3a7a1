"""What comes from outside: each input gives a right answer or one InputError of one line, and leaves nothing behind.

`make test` tries a few inputs of each kind, always the same; `make fuzz MINUTES=20` tries new ones for so long. The
smallest input that failed is left as `tests/fuzz/cases/KIND/newest`. Give it a name that says what is wrong and commit
it: all files in these folders are tried each time.
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
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
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
"""Limits for one input: of the time, and of how much it may raise the peak memory of this process."""
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
    "checkpoints": ("a.ckpt", read_checkpoint),
    "parameters": ("params.yaml", read_parameters),
    "images": ("a.png", lambda path: open_image(str(path))),
    "curves": ("loss.tsv", lambda path: read_curve(path.parent, "loss")),
}
"""For each kind of input, the name of the file and the function that reads it."""


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def attempt(kind: str, data: bytes) -> None:
    """Read an input from a file of its own, and check what is left behind."""
    name, read = READERS[kind]
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        path = folder / "in" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        start, before = time.monotonic(), peak()
        created, message = set[str](), ""
        try:
            read(path)
            created = {"train", "test"}
        except InputError as error:
            message = str(error)
        assert "\n" not in message
        assert len(message) < 10_000
        assert time.monotonic() - start < SECONDS
        assert peak() - before < MEGABYTES
        assert {entry.name for entry in folder.iterdir()} == {"in"}
        assert {entry.name for entry in path.parent.iterdir()} - created == {path.name}
        assert path.read_bytes() == data


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


def checkpoint() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ckpt"
        values = {"fc3.bias": np.zeros(10, np.float32), "settings.num_classes": np.array(10), "x": np.zeros((2, 0, 3))}
        ms.save_checkpoint([{"name": name, "data": ms.Tensor(value)} for name, value in values.items()], str(path))
        return path.read_bytes()


def images() -> list[bytes]:
    made = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF"):
        file = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(file, kind)
        made.append(file.getvalue())
    return made


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
INPUTS: list[tuple[str, st.SearchStrategy[bytes]]] = [
    ("archives", TAR | TAR.map(lambda data: gzip.compress(data, 1))),
    ("checkpoints", damaged([checkpoint()])),
    ("parameters", PARAMS),
    ("parameters", VALUES.map(with_value_everywhere)),
    ("images", damaged(images())),
    ("curves", damaged([b"step\tloss\n1\t2.5\n2\t1e-05\n", b"timestamp\tstep\tloss\n1700000000000\t3\t0.5\n"])),
]


@pytest.mark.parametrize(("kind", "inputs"), INPUTS)
def test_inputs(kind: str, inputs: st.SearchStrategy[bytes]) -> None:
    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=not MINUTES,
        database=None,
    )
    @given(inputs)
    def some(data: bytes) -> None:
        try:
            attempt(kind, data)
        except Exception:
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
