import gzip
import hashlib
import io
import re
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet import cifar10
from alexnet.archive import generated
from alexnet.archive.verify import verify
from alexnet.runtime.errors import InputError
from alexnet.runtime.files import digest
from tests import archives
from tests.conftest import one_line

FOLDER = cifar10.ARCHIVE_FOLDER


def check(path: Path, **changes: Any) -> dict[str, Any]:
    """Verify an archive into the folders `train` and `test` beside it."""
    images = {"train_images": archives.TRAIN_IMAGES, "test_images": archives.TEST_IMAGES}
    given = {"md5": None} | images | changes
    return verify(path, path.parent / "train", path.parent / "test", **given)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(data)
    tar.addfile(info, io.BytesIO(data))


def packed(content: Mapping[str, bytes]) -> bytes:
    """Return an uncompressed tar file of these files."""
    return gzip.decompress(archives.packed(content))


def with_member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = ""
) -> Callable[[Path], None]:
    """Return a function that writes an archive with one more member, before the others."""

    def write(path: Path) -> None:
        with tarfile.open(path, "w:gz") as tar:
            add(tar, name, data, kind, target)
            for other, content in archives.files().items():
                if f"{FOLDER}/{other}" != name:
                    add(tar, f"{FOLDER}/{other}", content)

    return write


def with_files(change: Callable[[dict[str, bytes]], object]) -> Callable[[Path], None]:
    """Return a function that writes an archive with changed files."""

    def write(path: Path) -> None:
        content = archives.files()
        change(content)
        archives.write(path, content)

    return write


def with_labels(name: str, *labels: int) -> Callable[[Path], None]:
    """Return a function that writes an archive in which the first records of a file have these labels."""

    def change(content: dict[str, bytes]) -> None:
        data = bytearray(content[name])
        for record, label in enumerate(labels):
            data[record * cifar10.RECORD_BYTES] = label
        content[name] = bytes(data)

    return with_files(change)


def with_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return a function that writes an archive with changed compressed bytes."""
    return lambda path: _put(path, change(gzip.compress(packed(archives.files()), mtime=0)))


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def sparse(path: Path) -> None:
    content = archives.files()
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(f"{FOLDER}/{name}")
            info.size = len(data)
            info.pax_headers = {"GNU.sparse.map": "no number"}
            tar.addfile(info, io.BytesIO(data))


def doubled_member(path: Path) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in [*archives.files().items(), *archives.files().items()]:
            add(tar, f"{FOLDER}/{name}", data)


def bomb(path: Path) -> None:
    """Write a header of 200 MB for the next member, which tarfile reads into memory."""
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, 200_000_000
    path.write_bytes(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + bytes(200_000_000), 1, mtime=0))


def chained(kind: bytes) -> Callable[[Path], None]:
    """Return a function that writes 2,000 headers of a kind before one member, each of which describes the next."""

    def write(path: Path) -> None:
        content = b"30 path=cifar-10-batches-bin/\n" if kind == tarfile.XHDTYPE else b"cifar-10-batches-bin/\0"
        header = tarfile.TarInfo("header")
        header.type, header.size = kind, len(content)
        block = header.tobuf(tarfile.USTAR_FORMAT) + content.ljust(512, b"\0")
        path.write_bytes(gzip.compress(2000 * block + packed(archives.files()), mtime=0))

    return write


BAD: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "outside": (with_member(f"../{FOLDER}/x"), ("has a member '../", "expected in")),
    "outside, by a folder of the layout": (with_member(f"{FOLDER}/../x"), ("has a member", "/../x'")),
    "absolute": (with_member("/tmp/data_batch_1.bin"), ("has a member '/tmp/data_batch_1.bin'",)),  # noqa: S108
    "at the top": (with_member("data_batch_1.bin"), ("has a member 'data_batch_1.bin'",)),
    "unknown": (with_member(f"{FOLDER}/data_batch_6.bin"), ("data_batch_6.bin'", "only data_batch_1.bin")),
    "unknown folder": (with_member(f"{FOLDER}/more", kind=tarfile.DIRTYPE), ("/more'", "expected in")),
    "symbolic link": (
        with_member(f"{FOLDER}/data_batch_1.bin", kind=tarfile.SYMTYPE, target="/etc/passwd"),
        ("data_batch_1.bin' as a link", "plain file"),
    ),
    "folder as a link": (with_member(FOLDER, kind=tarfile.SYMTYPE, target="/"), (f"has a member '{FOLDER}'",)),
    "hard link": (
        with_member(f"{FOLDER}/readme.html", kind=tarfile.LNKTYPE, target=f"{FOLDER}/data_batch_1.bin"),
        ("readme.html' as a link", "plain file"),
    ),
    "device": (with_member(f"{FOLDER}/test_batch.bin", kind=tarfile.CHRTYPE), ("test_batch.bin' as a link, a device",)),
    "pipe": (with_member(f"{FOLDER}/test_batch.bin", kind=tarfile.FIFOTYPE), ("test_batch.bin' as a link, a device",)),
    "file as a folder": (with_member(f"{FOLDER}/readme.html", kind=tarfile.DIRTYPE), ("or a folder", "plain file")),
    "oversized records": (
        with_member(f"{FOLDER}/test_batch.bin", bytes(20 * 3073 + 1)),
        ("test_batch.bin' with 61461 bytes", "at most 61460"),
    ),
    "oversized text": (with_member(f"{FOLDER}/readme.html", bytes(65_537)), ("readme.html' with 65537 bytes",)),
    "missing file": (with_files(lambda content: content.pop("data_batch_4.bin")), ("has no data_batch_4.bin",)),
    "missing test file": (with_files(lambda content: content.pop("test_batch.bin")), ("has no test_batch.bin",)),
    "missing names": (with_files(lambda content: content.pop("batches.meta.txt")), ("has no batches.meta.txt",)),
    "doubled member": (doubled_member, ("batches.meta.txt' twice", "each file once")),
    "doubled content": (
        with_files(lambda content: content.update({"data_batch_5.bin": content["data_batch_2.bin"]})),
        ("same content in data_batch_2.bin and data_batch_5.bin",),
    ),
    "label 10": (with_labels("data_batch_3.bin", 0, 1, 10), ("data_batch_3.bin", "label 10 in record 2", "0 to 9")),
    "record cut short": (
        with_files(lambda content: content.update({"data_batch_3.bin": content["data_batch_3.bin"][:-1]})),
        ("data_batch_3.bin", "61459 bytes", "records of 3073"),
    ),
    "empty file": (
        with_files(lambda content: content.update({"data_batch_3.bin": b""})),
        ("data_batch_3.bin", "0 bytes"),
    ),
    "too few training images": (
        with_files(lambda content: content.update({"data_batch_3.bin": content["data_batch_3.bin"][: 10 * 3073]})),
        ("has 90 training and 20 test images, expected 100 and 20", "set train_images and test_images"),
    ),
    "too few test images": (
        with_files(lambda content: content.update({"test_batch.bin": content["test_batch.bin"][: 10 * 3073]})),
        ("has 100 training and 10 test images, expected 100 and 20", "set train_images and test_images"),
    ),
    "training classes unequal": (
        with_labels("data_batch_2.bin", 1),
        ("has 9 training images of class airplane, expected 10",),
    ),
    "test classes unequal": (with_labels("test_batch.bin", 0, 0), ("has 3 test images of class airplane, expected 2",)),
    "wrong class names": (
        with_files(lambda content: content.update({"batches.meta.txt": b"airplane\ncar\n"})),
        ("class names 'airplane, car'", "expected 'airplane, automobile, bird"),
    ),
    "class names that are not one on each line": (
        with_files(lambda content: content.update({"batches.meta.txt": "traffic light\n\n车\n".encode()})),
        ("class names 'traffic light, 车'",),
    ),
    "class names that are no text": (
        with_files(lambda content: content.update({"batches.meta.txt": bytes(range(256))})),
        ("class names",),
    ),
    "half of the gzip": (with_bytes(lambda data: data[: len(data) // 2]), ("damaged, cut short",)),
    "gzip without its end": (with_bytes(lambda data: data[:-4]), ("damaged, cut short",)),
    "wrong checksum in the gzip": (
        with_bytes(lambda data: data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]),
        ("damaged, cut short",),
    ),
    "changed in the middle": (
        with_bytes(lambda data: data[:5000] + bytes([data[5000] ^ 255]) + data[5001:]),
        ("damaged, cut short",),
    ),
    "a tar, not compressed": (lambda path: _put(path, packed(archives.files())), ("cut short or not a .tar.gz",)),
    "a page": (lambda path: _put(path, b"<html>not found</html>"), ("damaged, cut short or not a .tar.gz",)),
    "compressed, but no tar": (lambda path: _put(path, gzip.compress(b"text" * 999)), ("not a .tar.gz",)),
    "nothing": (lambda path: _put(path, b""), ("damaged, cut short or not a .tar.gz",)),
    "a header that is no number": (sparse, ("damaged, cut short or not a .tar.gz",)),
    "gzip bomb": (bomb, ("more bytes than CIFAR-10",)),
    "gzip bomb after the end of the tar": (
        lambda path: _put(path, gzip.compress(packed(archives.files()) + bytes(50_000_000), 1)),
        ("more bytes than CIFAR-10",),
    ),
}


def test_a_good_archive_is_unpacked(archive: Path) -> None:
    check(archive)
    content = archives.files()
    test_file = {"test_batch.bin": content.pop("test_batch.bin")}
    assert files_in(archive.parent / "train") == content
    assert files_in(archive.parent / "test") == test_file
    assert {path.name for path in archive.parent.iterdir()} == {archive.name, "train", "test"}


def test_the_report_agrees_with_numpy(archive: Path) -> None:
    report = check(archive, md5=digest(archive, "md5"))
    assert report["archive"] == {
        "md5": hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
    }
    assert report["generated"] is False
    content = archives.files()
    for split, names, images in (("train", cifar10.TRAIN_FILES, 100), ("test", cifar10.TEST_FILES, 20)):
        rows = np.frombuffer(b"".join(content[name] for name in names), np.uint8).reshape(-1, 3073)
        channels = rows[:, 1:].reshape(-1, 3, 1024).transpose(1, 0, 2).reshape(3, -1) / 255
        assert report[split]["images"] == images
        assert report[split]["per_class"] == dict.fromkeys(cifar10.CLASS_NAMES, images // 10)
        np.testing.assert_allclose(report[split]["mean"], channels.mean(axis=1), atol=1e-6)
        np.testing.assert_allclose(report[split]["std"], channels.std(axis=1), atol=1e-6)


def test_other_files_of_the_official_archive_are_accepted(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        add(tar, f"{FOLDER}/", kind=tarfile.DIRTYPE)
        for name, data in {"readme.html": b"<html></html>", **archives.files()}.items():
            add(tar, f"{FOLDER}/{name}", data)
    check(tmp_path / "a.tar.gz")
    assert "readme.html" not in {path.name for path in (tmp_path / "train").iterdir()}
    assert "data_batch_5.bin" in {path.name for path in (tmp_path / "train").iterdir()}


def test_old_folders_are_replaced_completely(archive: Path) -> None:
    for name in ("train", "test"):
        (archive.parent / name).mkdir()
        (archive.parent / name / "data_batch_1.bin").write_bytes(b"old")
        (archive.parent / name / "generated.txt").write_bytes(b"old")
    check(archive)
    assert "generated.txt" not in files_in(archive.parent / "train")
    assert files_in(archive.parent / "train")["data_batch_1.bin"] == archives.files()["data_batch_1.bin"]
    assert set(files_in(archive.parent / "test")) == {"test_batch.bin"}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_archive_is_refused(kind: str, tmp_path: Path) -> None:
    write, parts = BAD[kind]
    path = tmp_path / "bad.tar.gz"
    write(path)
    with pytest.raises(InputError) as caught:
        check(path)
    one_line(caught, str(path), *parts)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar.gz"]


@pytest.mark.parametrize("kind", ["missing file", "label 10", "test classes unequal", "half of the gzip"])
def test_a_bad_archive_leaves_old_folders_as_they_were(kind: str, archive: Path) -> None:
    check(archive)
    before = files_in(archive.parent / "train"), files_in(archive.parent / "test")
    BAD[kind][0](archive)
    with pytest.raises(InputError):
        check(archive)
    assert (files_in(archive.parent / "train"), files_in(archive.parent / "test")) == before
    assert {path.name for path in archive.parent.iterdir()} == {archive.name, "train", "test"}


def repeated(count: int, name: str, kind: bytes, content: bytes = b"") -> Callable[[Path], None]:
    """Return a function that writes an archive with `count` equal members before the others."""

    def write(path: Path) -> None:
        header = tarfile.TarInfo(name)
        header.type, header.size = kind, len(content)
        block = header.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)
        path.write_bytes(gzip.compress(count * block + packed(archives.files()), 1, mtime=0))

    return write


def sparse_chain(path: Path) -> None:
    """GNU's old header of a sparse file, which goes on in 300,000 blocks more, each of 21 holes."""
    header = tarfile.TarInfo(f"{FOLDER}/readme.html")
    header.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    more = 42 * b"00000000001\0" + b"\1" + bytes(7)
    path.write_bytes(gzip.compress(bytes(block) + 300_000 * more + packed(archives.files()), 1, mtime=0))


HEADERS: dict[str, Callable[[Path], None]] = {
    "chained PAX headers": chained(tarfile.XHDTYPE),
    "chained long names": chained(tarfile.GNUTYPE_LONGNAME),
    "folders": repeated(300_000, FOLDER, tarfile.DIRTYPE),
    "PAX headers for all": repeated(150_000, "x", tarfile.XGLTYPE, b"11 comm=ab\n"),
    "fields": repeated(1, "x", tarfile.XHDTYPE, b"".join(b"16 k%09d=v\n" % number for number in range(2_000_000))),
    "a sparse file": sparse_chain,
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_without_end_are_refused_soon(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.tar.gz"
    HEADERS[kind](path)
    limit, start = sys.getrecursionlimit(), time.process_time()
    sys.setrecursionlimit(1000)  # Python's own, which the stage has; MindSpore, which this process has, raises it
    try:
        with pytest.raises(InputError) as caught:
            check(path, train_images=50_000, test_images=10_000)
    finally:
        sys.setrecursionlimit(limit)
    assert time.process_time() - start < 5
    assert re.search("has too many headers before one file|unpacks to more bytes than", str(caught.value))
    one_line(caught, str(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.tar.gz"]


def test_a_wrong_md5_is_refused(archive: Path) -> None:
    with pytest.raises(InputError) as caught:
        check(archive, md5="0" * 32)
    one_line(caught, str(archive), f"MD5 {digest(archive, 'md5')}, expected {'0' * 32}", "set md5")
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


def test_a_missing_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        check(tmp_path / "none.tar.gz")
    one_line(caught, str(tmp_path / "none.tar.gz"), "No such file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("changes", "accepted"), [
    ({"allow_generated": True, "md5": "0" * 32}, True),
    ({"allow_generated": False, "md5": "0" * 32}, False),
    ({"allow_generated": False, "md5": None}, True),
])  # fmt: skip
def test_generated_images_need_no_md5_where_they_are_allowed(
    changes: dict[str, Any], accepted: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.tar.gz"
    generated.write_archive(path, 100, 20)
    if accepted:
        assert check(path, **changes)["generated"] is True
        assert files_in(tmp_path / "train")["generated.txt"] == files_in(tmp_path / "test")["generated.txt"] != b""
    else:
        with pytest.raises(InputError, match="MD5"):
            check(path, **changes)
        assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_other_images_need_their_md5_where_generated_ones_are_allowed(archive: Path) -> None:
    with pytest.raises(InputError, match="MD5"):
        check(archive, md5="0" * 32, allow_generated=True)
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]
    assert check(archive, md5=digest(archive, "md5"), allow_generated=True)["generated"] is False


def test_a_missing_file_of_a_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(archives.files()["data_batch_1.bin"])
    with pytest.raises(InputError) as caught:
        cifar10.read(tmp_path, cifar10.TRAIN_FILES)
    one_line(caught, str(tmp_path / "data_batch_2.bin"), "No such file", "data_batch_5.bin in this folder", "unpack")
