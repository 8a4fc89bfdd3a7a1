"""Checking the archive member by member and record by record, and unpacking it into two folders."""

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from alexnet import cifar10
from alexnet.runtime.errors import InputError
from alexnet.runtime.files import digest, replacing

_TEXT_BYTES = 65_536
"""The largest size of a file in the archive that has no records."""
_HEADER_BYTES = 2 * _TEXT_BYTES
"""The largest size of all headers and padding."""


def unpacked_limit(train_images: int, test_images: int) -> int:
    """Return the most bytes that an archive of this many images can unpack to."""
    # Three text files, and the headers.
    return (train_images + test_images) * cifar10.RECORD_BYTES + 3 * _TEXT_BYTES + _HEADER_BYTES


def check_layout(path: Path, train_images: int, test_images: int, name: str) -> None:
    """Read an archive to its end and check that it has the files of CIFAR-10's binary version.

    Args:
        path: the archive.
        train_images: the most images that each training file may have.
        test_images: the most images that the test file may have.
        name: what an error message calls the archive.

    Raises InputError when it is not a .tar.gz file, is damaged, lacks a file, or has one that is too large, unknown or
    there twice; and OSError when it cannot be read.
    """
    with _explained(name), gzip.open(path) as stream:
        for _ in _members(stream, train_images, test_images):
            pass


@contextmanager
def _explained(name: str) -> Iterator[None]:
    # Turns every error about an archive into an InputError that names the archive.
    try:
        yield
    except InputError as error:
        raise InputError(f"{name} {error}") from None
    except RecursionError:
        raise InputError(f"{name} has too many headers before one file") from None
    except (tarfile.TarError, EOFError, ValueError, OverflowError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{name} is damaged, cut short or not a .tar.gz file: {error}") from None


def check_md5(path: Path, expected: str | None, name: str) -> str:
    """Return the MD5 of the archive at `path`, in hexadecimal.

    Args:
        path: the archive.
        expected: the MD5 that it must have; None accepts any.
        name: what an error message calls the archive.

    Raises InputError when it cannot be read or has another MD5.
    """
    try:
        found = digest(path, "md5")
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from None
    if expected not in (None, found):
        raise InputError(
            f"{name} has MD5 {found}, expected {expected}: it is damaged or a different archive; "
            "set md5 to the MD5 of the archive you mean, or to null to accept any"
        )
    return found


class _Bounded:
    # A stream that raises an error when a small file unpacks to more than the headers and the members accepted so far
    # can have, so that it cannot fill the memory, and millions of headers cannot take minutes.

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._left = _HEADER_BYTES

    def accept(self, size: int) -> None:
        self._left += size

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise InputError("unpacks to more bytes than CIFAR-10 with these image counts can have")
        return data


def _members(stream: gzip.GzipFile, train_images: int, test_images: int) -> Iterator[tuple[str, bytes]]:
    # Yields the name, without the folder, and the content of each file. Raises InputError for whatever does not belong
    # to the layout.
    limits = dict.fromkeys(cifar10.TRAIN_FILES, train_images * cifar10.RECORD_BYTES)
    limits |= dict.fromkeys(cifar10.TEST_FILES, test_images * cifar10.RECORD_BYTES)
    limits |= dict.fromkeys((cifar10.META_FILE, cifar10.README_FILE, cifar10.GENERATED_FILE), _TEXT_BYTES)
    seen = set()
    bounded = _Bounded(stream)
    with tarfile.open(fileobj=cast(BinaryIO, bounded), mode="r|") as tar:
        for member in tar:
            folder, _, name = member.name.partition("/")
            if member.isdir() and member.name == cifar10.ARCHIVE_FOLDER:
                continue
            if folder != cifar10.ARCHIVE_FOLDER or name not in limits:
                known = ", ".join(limits)
                raise InputError(f"has a member {member.name!r}, expected in {cifar10.ARCHIVE_FOLDER}/ only {known}")
            if not member.isreg() or member.issparse():
                raise InputError(f"has {member.name!r} as a link, a device or a folder, expected a plain file")
            if member.size > limits[name]:
                raise InputError(f"has {member.name!r} with {member.size} bytes, expected at most {limits[name]}")
            if name in seen:
                raise InputError(f"has {member.name!r} twice, expected each file once")
            seen.add(name)
            bounded.accept(member.size)
            yield name, cast(BinaryIO, tar.extractfile(member)).read()
    while bounded.read(1 << 20):  # gzip checks its checksum, which is at the end
        pass
    missing = [name for name in (*cifar10.TRAIN_FILES, *cifar10.TEST_FILES, cifar10.META_FILE) if name not in seen]
    if missing:
        raise InputError(f"has no {', '.join(missing)} in {cifar10.ARCHIVE_FOLDER}/, expected every file of CIFAR-10")


class _Tally:
    # Counts the classes and values of a split, one file at a time, so that only one file is in memory.

    def __init__(self) -> None:
        self._classes = np.zeros(cifar10.NUM_CLASSES, np.int64)
        self._values = np.zeros((cifar10.CHANNELS, 256), np.int64)

    def add(self, part: cifar10.Split) -> None:
        self._classes += np.bincount(part.labels, minlength=cifar10.NUM_CLASSES)
        for channel in range(cifar10.CHANNELS):
            self._values[channel] += np.bincount(part.images[:, channel].ravel(), minlength=256)

    @property
    def images(self) -> int:
        return int(self._classes.sum())

    def report(self, split: str) -> dict[str, Any]:
        # Returns the counts and statistics. Raises InputError unless there are equally many images of each class.
        expected = self.images // cifar10.NUM_CLASSES
        wrong = np.flatnonzero(self._classes != expected)
        if len(wrong):
            name, count = cifar10.CLASS_NAMES[wrong[0]], self._classes[wrong[0]]
            raise InputError(f"has {count} {split} images of class {name}, expected {expected} of every class")
        level = np.arange(256) / 255
        share = self._values / self._values.sum(axis=1, keepdims=True)
        mean = share @ level
        return {
            "images": self.images,
            "per_class": dict(zip(cifar10.CLASS_NAMES, self._classes.tolist(), strict=True)),
            "mean": mean.round(6).tolist(),
            "std": np.sqrt(share @ level**2 - mean**2).round(6).tolist(),
        }


def verify(
    path: Path,
    train_folder: Path,
    test_folder: Path,
    *,
    md5: str | None,
    train_images: int,
    test_images: int,
    allow_generated: bool = False,
) -> dict[str, Any]:
    """Check an archive of CIFAR-10's binary version completely, and write its files to two folders.

    The folders appear once everything has been checked. Both get `cifar10.GENERATED_FILE` when the archive has it.

    Args:
        path: the archive.
        train_folder: the folder for the five training files and the class names.
        test_folder: the folder for the test file.
        md5: the MD5 of the archive, in hexadecimal; None accepts any.
        train_images: how many training images there must be, equally many of each class.
        test_images: how many test images there must be, equally many of each class.
        allow_generated: whether an archive of generated images may have any MD5.

    Returns a report: `archive`, with its `md5` and `sha256`; `generated`, whether the images were generated by
    `alexnet.archive.generated`; and for `train` and `test` the number of `images`, the number `per_class`, and the
    `mean` and `std` of each channel on a scale of 0 to 1.

    Raises InputError, naming the archive, for the first thing that is wrong, and OSError when the file system does.
    """
    archive = f"the archive {path}"
    found_md5 = check_md5(path, None if allow_generated else md5, archive)
    with replacing(train_folder) as train, replacing(test_folder) as test:
        train.mkdir()
        test.mkdir()
        with _explained(archive), gzip.open(path) as stream:
            tallies, generated = _unpack(_members(stream, train_images, test_images), train, test)
            _check_counts(tallies["train"].images, tallies["test"].images, train_images, test_images)
            splits = {
                "train": tallies["train"].report("training"),
                "test": tallies["test"].report("test"),
            }
        if allow_generated and not generated:
            check_md5(path, md5, archive)
    return {
        "archive": {"md5": found_md5, "sha256": digest(path, "sha256")},
        "generated": generated,
        **splits,
    }


def _unpack(members: Iterator[tuple[str, bytes]], train: Path, test: Path) -> tuple[dict[str, _Tally], bool]:
    # Writes the files to the two folders. Returns the counts of both splits, and whether the images were generated.
    tallies = {"train": _Tally(), "test": _Tally()}
    contents: dict[bytes, str] = {}
    generated = False
    for name, content in members:
        if name in cifar10.TRAIN_FILES + cifar10.TEST_FILES:
            split, folder = ("test", test) if name in cifar10.TEST_FILES else ("train", train)
            first = contents.setdefault(hashlib.sha256(content).digest(), name)
            if first != name:
                raise InputError(f"has the same content in {first} and {name}, expected different images")
            tallies[split].add(cifar10.parse(content, f"has a file {name} that"))
            (folder / name).write_bytes(content)
        elif name == cifar10.META_FILE:
            _check_names(content)
            (train / name).write_bytes(content)
        elif name == cifar10.GENERATED_FILE:
            generated = True
            (train / name).write_bytes(content)
            (test / name).write_bytes(content)
    return tallies, generated


def _check_counts(train_images: int, test_images: int, expected_train_images: int, expected_test_images: int) -> None:
    if (train_images, test_images) != (expected_train_images, expected_test_images):
        raise InputError(
            f"has {train_images} training and {test_images} test images, expected {expected_train_images} and "
            f"{expected_test_images}: set train_images and test_images to what it has"
        )


def _check_names(content: bytes) -> None:
    names = tuple(filter(None, map(str.strip, content.decode("utf-8", "replace").splitlines())))
    if names != cifar10.CLASS_NAMES:
        raise InputError(f"has the class names {', '.join(names)!r}, expected {', '.join(cifar10.CLASS_NAMES)!r}")
