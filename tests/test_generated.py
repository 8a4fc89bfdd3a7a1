from pathlib import Path

import numpy as np
import pytest

from alexnet import cifar10
from alexnet.archive import generated
from alexnet.archive.verify import verify


@pytest.fixture(scope="module")
def folder(module_path: Path) -> Path:
    """The verified folders of a generated archive, `train` and `test`."""
    generated.write_archive(module_path / "archive.tar.gz", 1000, 500)
    return module_path


def test_the_archive_passes_verify(folder: Path) -> None:
    report = verify(
        folder / "archive.tar.gz", folder / "train", folder / "test", md5=None, train_images=1000, test_images=500
    )
    assert report["generated"] is True
    assert report["train"]["images"] == 1000
    assert report["test"]["images"] == 500
    assert set(report["train"]["per_class"].values()) == {100}
    assert set(report["test"]["per_class"].values()) == {50}
    assert cifar10.read(folder / "train", cifar10.TRAIN_FILES).generated
    assert cifar10.read(folder / "test", cifar10.TEST_FILES).generated


def test_the_archive_is_the_same_bytes_each_time(folder: Path, tmp_path: Path) -> None:
    generated.write_archive(tmp_path / "other name.tar.gz", 1000, 500)
    assert (tmp_path / "other name.tar.gz").read_bytes() == (folder / "archive.tar.gz").read_bytes()


def test_counts_that_do_not_divide_among_the_files(tmp_path: Path) -> None:
    generated.write_archive(tmp_path / "a.tar.gz", 70, 10)
    report = verify(
        tmp_path / "a.tar.gz", tmp_path / "train", tmp_path / "test", md5=None, train_images=70, test_images=10
    )
    assert report["train"]["per_class"] == dict.fromkeys(cifar10.CLASS_NAMES, 7)


def test_a_linear_classifier_tells_the_kinds_apart() -> None:
    rng = np.random.default_rng(0)
    features, labels = [], []
    for _ in range(2):
        images = np.concatenate([generated.draw(kind, 60, rng) for kind in range(10)])
        assert images.shape == (600, 3, 32, 32)
        assert images.dtype == np.uint8
        features.append(images.reshape(600, -1) / 255)
        labels.append(np.repeat(np.arange(10), 60))
    means = np.stack([features[0][labels[0] == kind].mean(axis=0) for kind in range(10)])
    nearest = ((features[1][:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == labels[1]).mean() > 0.3  # a constant answer has 0.1


def test_images_of_a_kind_vary() -> None:
    images = generated.draw(4, 20, np.random.default_rng(0))
    assert len({image.tobytes() for image in images}) == 20
    assert images.astype(float).std(axis=0).mean() > 1.5 * generated.NOISE


def test_no_image_is_in_both_splits(folder: Path) -> None:
    report = verify(
        folder / "archive.tar.gz", folder / "train", folder / "test", md5=None, train_images=1000, test_images=500
    )
    assert report["generated"] is True
    train = {image.tobytes() for image in cifar10.read(folder / "train", cifar10.TRAIN_FILES).images}
    test = {image.tobytes() for image in cifar10.read(folder / "test", cifar10.TEST_FILES).images}
    assert len(train) == 1000
    assert len(test) == 500
    assert not train & test


def test_a_kind_without_a_picture_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="no picture of kind 10"):
        generated.draw(10, 1, np.random.default_rng(0))
