from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from alexnet.model.convolution import SMALL, Convolution
from alexnet.runtime import device


def gradients(layer: nn.Cell, x: ms.Tensor, towards: ms.Tensor) -> list[np.ndarray]:
    """The output of a layer in training, and the gradients of its input and of its parameters."""

    def forward(x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        out = layer(x)
        return (out * towards).sum(), out

    layer.set_train(True)
    (_, out), (of_x, of_parameters) = ms.value_and_grad(forward, 0, layer.trainable_params(), has_aux=True)(x)
    return [tensor.asnumpy() for tensor in (out, of_x, *of_parameters)]


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 3), (4, 6), (5, 6)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_same_output_and_gradients_as_mindspores(kernel_size: int, height: int, width: int, has_bias: bool) -> None:
    settings: dict[str, Any] = {"stride": 1, "pad_mode": "same", "has_bias": has_bias, "bias_init": "normal"}
    ours = Convolution(4, 6, kernel_size, **settings)
    theirs = nn.Conv2d(4, 6, kernel_size, **settings)
    ms.load_param_into_net(theirs, ours.parameters_dict(), strict_load=True)
    rng = np.random.default_rng(0)
    x, towards = (ms.Tensor(rng.standard_normal((3, count, height, width)), ms.float32) for count in (4, 6))

    for mine, expected in zip(gradients(ours, x, towards), gradients(theirs, x, towards), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "stride", "pad_mode", "target", "training", "expected"),
    [
        (5, 1, "same", "CPU", True, True),
        (6, 1, "same", "CPU", True, False),
        (5, 2, "same", "CPU", True, False),
        (5, 1, "valid", "CPU", True, False),
        (5, 1, "same", "GPU", True, False),
        (5, 1, "same", "CPU", False, False),
    ],
)
def test_is_a_product_where_that_is_faster(
    size: int, stride: int, pad_mode: str, target: str, training: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SMALL == 5 * 5
    monkeypatch.setattr(device, "current_target", lambda: target)
    layer = Convolution(2, 2, 3, stride=stride, pad_mode=pad_mode)
    layer.set_train(training)
    products = []
    layer.product.register_forward_pre_hook(lambda *_: products.append(1))
    layer(ms.ops.ones((1, 2, size, size)))
    assert bool(products) == expected


@pytest.mark.parametrize("setting", [{"group": 2}, {"dilation": 2}, {"kernel_size": 2}])
def test_what_the_product_cannot_do_is_left_to_mindspore(setting: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"kernel_size": 3, "stride": 1, "pad_mode": "same"} | setting
    ours, theirs = Convolution(4, 4, **settings), nn.Conv2d(4, 4, **settings)
    ms.load_param_into_net(theirs, ours.parameters_dict(), strict_load=True)
    ours.set_train(True)
    x = ms.Tensor(np.random.default_rng(0).standard_normal((2, 4, 5, 5)), ms.float32)
    np.testing.assert_array_equal(ours(x).asnumpy(), theirs(x).asnumpy())
