import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import ops
from numpy.typing import NDArray

from alexnet import cifar10
from alexnet.model.networks.alexnet import AlexNet
from alexnet.model.preprocessing import Preprocessing, interpolation
from alexnet.runtime.errors import InputError
from tests.conftest import one_line
from tests.numpy_layers import Array, convolve, pool

RATE = 0.25
"""The dropout rate of the fixture `network`."""


def shapes(features: int, classes: int) -> dict[str, tuple[int, ...]]:
    return {
        "conv1.weight": (96, 3, 11, 11),
        "conv1.bias": (96,),
        "conv2.weight": (256, 96, 5, 5),
        "conv2.bias": (256,),
        "conv3.weight": (384, 256, 3, 3),
        "conv3.bias": (384,),
        "conv4.weight": (384, 384, 3, 3),
        "conv4.bias": (384,),
        "conv5.weight": (256, 384, 3, 3),
        "conv5.bias": (256,),
        "fc1.weight": (4096, features),
        "fc1.bias": (4096,),
        "fc2.weight": (4096, 4096),
        "fc2.bias": (4096,),
        "fc3.weight": (classes, 4096),
        "fc3.bias": (classes,),
    }


def images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def masks(count: int) -> NDArray[np.bool_]:
    return np.random.default_rng(4).random((count, 2, 4096)) >= RATE


def values(network: Any) -> dict[str, Array]:
    return {name: parameter.asnumpy() for name, parameter in network.parameters_and_names()}


@contextmanager
def inputs_of(*layers: Any) -> Iterator[list[Array]]:
    """Collect the inputs of each layer."""
    seen: list[Array] = []
    handles = [layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].asnumpy())) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def resized_and_normalised(raw: NDArray[np.uint8], height: int, width: int) -> Array:
    mean, std = (np.array(numbers).reshape(3, 1, 1) for numbers in (cifar10.MEAN, cifar10.STD))
    normal = ((raw / 255 - mean) / std).astype(np.float32)
    resized = ops.interpolate(ms.Tensor(normal), size=(height, width), mode="bilinear", align_corners=False)
    result: Array = resized.asnumpy()
    return result


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def logits_by_numpy(network: Any, raw: NDArray[np.uint8], keep: NDArray[np.bool_] | None) -> Array:
    of = values(network)

    def convolution(x: Array, number: int, stride: int = 1, padding: int = 1) -> Array:
        convolved, _ = convolve(x, of[f"conv{number}.weight"], stride, padding)
        return relu(convolved + of[f"conv{number}.bias"][:, None, None])

    def dense(x: Array, number: int) -> Array:
        result: Array = x @ of[f"fc{number}.weight"].T + of[f"fc{number}.bias"]
        return result

    def drop(x: Array, layer: int) -> Array:
        return x if keep is None else x * keep[:, layer] / (1 - RATE)

    x = resized_and_normalised(raw, 67, 99)
    x, _ = pool(convolution(x, 1, stride=4, padding=0))
    x, _ = pool(convolution(x, 2, padding=2))
    x, _ = pool(convolution(convolution(convolution(x, 3), 4), 5))
    x = drop(relu(dense(x.reshape(len(x), -1), 1)), 0)
    x = drop(relu(dense(x, 2)), 1)
    return dense(x, 3)


def test_parameters_at_227_pixels() -> None:
    network = AlexNet(10, 227, 227, 0.5)
    found = {name: parameter.shape for name, parameter in network.parameters_and_names()}
    assert found == shapes(9216, 10)
    assert list(found) == list(shapes(9216, 10))
    assert sum(parameter.size for parameter in network.get_parameters()) == 58_322_314
    assert all(parameter.requires_grad for parameter in network.get_parameters())


def test_parameters_of_another_size_and_number_of_classes() -> None:
    network = AlexNet(17, 99, 67, 0.0)
    assert {name: parameter.shape for name, parameter in network.parameters_and_names()} == shapes(512, 17)
    assert network(ms.Tensor(images(2))).shape == (2, 17)


@pytest.mark.parametrize("image_size", [32, 67, 96, 227, 20])
def test_interpolation_is_mindspores_bilinear(image_size: int) -> None:
    weights = interpolation(32, image_size)
    assert (weights.shape, weights.dtype) == ((image_size, 32), np.float32)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    raw = np.random.default_rng(0).normal(size=(1, 2, 32, 32)).astype(np.float32)
    theirs = ops.interpolate(ms.Tensor(raw), size=(image_size, 41), mode="bilinear", align_corners=False).asnumpy()
    np.testing.assert_allclose(weights @ raw @ interpolation(32, 41).T, theirs, atol=3e-5)


def test_preprocessing_normalises_and_resizes() -> None:
    raw, cell = images(2), Preprocessing(40, 20)
    prepared = cell(ms.Tensor(raw)).asnumpy()
    assert (prepared.shape, prepared.dtype) == ((2, 3, 40, 20), np.float32)
    np.testing.assert_allclose(prepared, resized_and_normalised(raw, 40, 20), atol=2e-5)
    assert list(cell.get_parameters()) == []


def test_alexnet_preprocesses_its_images(network: Any) -> None:
    raw = images(2)
    with inputs_of(network.conv1) as seen:
        network(ms.Tensor(raw))
    assert seen[0].shape == (2, 3, 67, 99)
    np.testing.assert_allclose(seen[0], resized_and_normalised(raw, 67, 99), atol=2e-5)


@pytest.mark.parametrize("keep", [None, masks(2)], ids=["all kept", "dropout"])
def test_logits_agree_with_numpy(keep: NDArray[np.bool_] | None, network: Any) -> None:
    raw = images(2)
    before = {name: value.copy() for name, value in values(network).items()}
    rng = np.random.default_rng(9)
    try:
        for parameter in network.get_parameters():  # larger than MindSpore's, so that every layer counts
            fan_in = np.prod(parameter.shape[1:])
            value = (
                rng.normal(0, np.sqrt(2 / fan_in), parameter.shape) if fan_in > 1 else rng.normal(0, 1, parameter.shape)
            )
            parameter.set_data(ms.Tensor(value.astype(np.float32)))
        logits = network(ms.Tensor(raw), None if keep is None else ms.Tensor(keep)).asnumpy()
        expected = logits_by_numpy(network, raw, keep)
    finally:
        for name, parameter in network.parameters_and_names():
            parameter.set_data(ms.Tensor(before[name]))
    assert (logits.shape, logits.dtype) == ((2, 10), np.float32)
    np.testing.assert_allclose(logits, expected, atol=1e-3 * np.abs(expected).max())


def test_dropout_zeroes_what_is_not_kept_and_scales_the_rest(network: Any) -> None:
    raw, keep = images(2), masks(2)
    with inputs_of(network.fc2, network.fc3) as whole:
        network(ms.Tensor(raw))
    with inputs_of(network.fc2, network.fc3) as dropped:
        network(ms.Tensor(raw), ms.Tensor(keep))
    with inputs_of(network.fc3) as second:
        only_second = keep.copy()
        only_second[:, 0] = True
        network.dropout_rate, rate = 0.0, network.dropout_rate
        try:
            network(ms.Tensor(raw), ms.Tensor(only_second))
        finally:
            network.dropout_rate = rate
    assert (whole[0] > 0).mean() > 0.2
    assert not dropped[0][~keep[:, 0]].any()
    assert not dropped[1][~keep[:, 1]].any()
    np.testing.assert_allclose(dropped[0][keep[:, 0]], whole[0][keep[:, 0]] / 0.75, rtol=1e-5)
    np.testing.assert_allclose(second[0], whole[1] * keep[:, 1], rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(66, 227), (227, 66), (32, 32), (0, 99)])
def test_too_small_a_size_is_refused(height: int, width: int) -> None:
    with pytest.raises(InputError) as caught:
        AlexNet(10, height, width, 0.5)
    one_line(caught, f"{height}x{width}", "at least 67x67")


def test_the_seed_decides_the_weights(network: Any) -> None:
    first = values(network)
    again = values(AlexNet(10, 67, 99, 0.25, seed=1))
    other = values(AlexNet(10, 67, 99, 0.25, seed=2))
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value)
        assert not np.array_equal(other[name], value), name


def test_batch_normalisation_is_between_convolution_and_relu() -> None:
    normalised = AlexNet(10, 67, 67, 0, batch_norm=True, seed=1)
    expected = {name: shape for name, shape in shapes(256, 10).items() if not re.match(r"conv\d.bias", name)}
    for number, channels in enumerate((96, 256, 384, 384, 256), 1):
        expected |= {f"bn{number}.{of}": (channels,) for of in ("gamma", "beta", "moving_mean", "moving_variance")}
    assert {name: value.shape for name, value in values(normalised).items()} == expected
    assert list(values(normalised))[5] == "bn1.moving_mean", "convolutions, batch normalisation, fully connected layers"
    normalised.set_train(True)
    assert normalised.bn3 is not None
    with inputs_of(normalised.bn3) as before, inputs_of(normalised.conv4) as after:
        normalised(ms.Tensor(images(6)))
    x = before[0]
    standard = (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(after[0], relu(standard), rtol=1e-3, atol=1e-4)
    mean = normalised.bn3.moving_mean.asnumpy()
    np.testing.assert_allclose(mean, 0.1 * x.mean((0, 2, 3)), rtol=1e-3, atol=1e-6)


def test_he_initialisation() -> None:
    for name, value in values(AlexNet(10, 67, 67, 0, weight_init="HeNormal", seed=1)).items():
        if name.endswith(".bias"):
            assert not value.any()
        else:
            assert value.std() == pytest.approx(np.sqrt(2 / value[0].size), rel=0.03), name
            assert abs(value.mean()) < 0.05 * value.std()


def test_truncated_normal_initialisation() -> None:
    sigma = 0.8796 * 0.02  # a normal distribution that is cut off at two standard deviations has 0.8796 of them
    for name, value in values(AlexNet(10, 67, 67, 0, weight_init="TruncatedNormal", seed=1)).items():
        assert 0 < np.abs(value).max() <= 0.04, name
        if value.size > 10_000:
            assert value.std() == pytest.approx(sigma, rel=0.03), name
            assert abs(value.mean()) < 0.05 * value.std()
