"""Initial weights of networks, other than the layers' own."""

import mindspore as ms
import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.model.initialization import WHITENING_EPSILON, begin_with_identity, whiten, whitening_filters
from alexnet.model.networks.alexnet import AlexNet
from alexnet.runtime.errors import InputError
from tests.networks import drawings
from tests.numpy_layers import convolve


def test_the_first_filters_of_later_convolutions_pass_channels_on() -> None:
    network, plain = (AlexNet(10, 67, 67, 0, weight_init="HeNormal", seed=1) for _ in range(2))
    begin_with_identity(network)
    before = {name: parameter.asnumpy() for name, parameter in plain.parameters_and_names()}
    passing = {"conv2.weight": 96, "conv3.weight": 256, "conv4.weight": 384, "conv5.weight": 256}
    for name, parameter in network.parameters_and_names():
        count = passing.get(name, 0)
        np.testing.assert_array_equal(parameter.asnumpy()[count:], before[name][count:], err_msg=name)
        if count:
            x = np.random.default_rng(0).normal(size=(1, parameter.shape[1], 4, 5)).astype(np.float32)
            layer = getattr(network, name.partition(".")[0])
            out = layer(ms.Tensor(x)).asnumpy()
            np.testing.assert_allclose(out[:, :count], x[:, :count], rtol=0, atol=1e-6, err_msg=name)


def natural(channels: int, height: int, width: int) -> NDArray[np.float32]:
    """Return 20 images whose neighbouring pixels are alike."""
    noise = np.random.default_rng(0).normal(size=(20, channels, height, width))
    return noise.cumsum(axis=2).cumsum(axis=3).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "stride"), [((12, 2, 3, 3), (2, 2)), ((7, 3, 5, 4), (1, 3)), ((36, 2, 3, 3), (4, 1))]
)
def test_whitening_filters_give_uncorrelated_outputs(shape: tuple[int, int, int, int], stride: tuple[int, int]) -> None:
    number, channels, height, width = shape
    images = natural(channels, 14, 17)
    filters = whitening_filters(images, shape, stride)
    assert (filters.shape, filters.dtype) == (shape, np.float32)

    patches = np.array(
        [
            image[:, top : top + height, left : left + width].ravel()
            for image in images.astype(np.float64)
            for top in range(0, 14 - height + 1, stride[0])
            for left in range(0, 17 - width + 1, stride[1])
        ]
    )
    half = -(-number // 2)
    np.testing.assert_array_equal(filters[half:], -filters[: number - half])
    outputs = patches @ filters[:half].reshape(half, -1).T
    variances = np.sort(np.linalg.eigvalsh(patches.T @ patches / len(patches)))[::-1][:half]
    expected = np.diag(variances / (variances + WHITENING_EPSILON))
    np.testing.assert_allclose(outputs.T @ outputs / len(patches), expected, atol=1e-3)


def test_whitening_filters_of_images_of_one_colour_are_finite() -> None:
    assert np.isfinite(whitening_filters(np.ones((3, 3, 12, 12), np.float32), (96, 3, 11, 11), (4, 4))).all()


def test_more_filters_than_can_whiten_are_refused() -> None:
    images = natural(3, 14, 17)
    assert whitening_filters(images, (54, 3, 3, 3), (1, 1)).shape == (54, 3, 3, 3)
    with pytest.raises(InputError, match=r"whitening is true, .* 55 filters, and only 54 of 3x3x3 can .*: set it"):
        whitening_filters(images, (55, 3, 3, 3), (1, 1))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_whitening_sets_the_first_convolution_and_nothing_else(batch_norm: bool) -> None:
    images = drawings(50)
    network = AlexNet(10, 67, 99, 0, batch_norm, seed=1)
    before = {name: parameter.asnumpy().copy() for name, parameter in network.parameters_and_names()}
    whiten(network, images)
    after = {name: parameter.asnumpy() for name, parameter in network.parameters_and_names()}
    assert [name for name in before if not np.array_equal(before[name], after[name])] == ["conv1.weight"]

    preprocessed = network.preprocessing(ms.Tensor(images)).asnumpy()
    outputs, _ = convolve(preprocessed, after["conv1.weight"][:10], stride=4, padding=0)
    outputs = outputs.transpose(1, 0, 2, 3).reshape(10, -1)
    np.testing.assert_allclose(outputs @ outputs.T / outputs.shape[1], np.eye(10), atol=0.02)
