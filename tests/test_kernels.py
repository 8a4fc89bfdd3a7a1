"""The layers of both kinds of kernels, compared with NumPy in float64 and with each other."""

from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from alexnet.kernels import choice, mindspore_layers, onednn, onednn_layers
from alexnet.kernels.choice import MINDSPORE, Kernels, choose
from alexnet.model.networks.alexnet import AlexNet
from alexnet.runtime.errors import InputError
from alexnet.training.batches import Batch
from alexnet.training.recipe import Recipe
from alexnet.training.step import Step
from tests.conftest import needs_onednn, one_line
from tests.numpy_layers import convolve, pool

needs_bfloat16 = pytest.mark.skipif(not onednn.computes_bfloat16(), reason="this CPU has no bfloat16 instructions")
DATA_TYPES = [
    pytest.param("f32", marks=needs_onednn),
    pytest.param("bf16", marks=needs_bfloat16),
]
ONEDNN = Kernels("onednn")
WHOLE = [pytest.param(ONEDNN, marks=needs_onednn), pytest.param(Kernels("onednn", "O2"), marks=needs_bfloat16)]

EPSILON = 1e-5
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_values_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "RNG", np.random.default_rng(0))


def drawn_shapes(count: int) -> list[tuple[int, ...]]:
    """Return images, input and output channels, kernel size, stride, height and width: random and unusual ones."""
    drawn = []
    for _ in range(count):
        kernel_size = int(RNG.choice([1, 3, 5]))
        height, width = RNG.integers(3, 12, 2)
        drawn.append((*map(int, RNG.integers(1, 40, 3)), kernel_size, 1, int(height), int(width)))
    return [
        *drawn,
        (1, 1, 1, 3, 1, 3, 3),  # one image, one channel
        (3, 16, 32, 3, 1, 4, 5),
        (5, 7, 9, 1, 1, 3, 3),
        (2, 3, 96, 11, 4, 67, 71),  # AlexNet's first
    ]


SHAPES = drawn_shapes(6)


def convolve_back(
    gradient: np.ndarray, windows: np.ndarray, x: np.ndarray, weight: np.ndarray, stride: int, padding: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients of x and of the weight."""
    height, width = gradient.shape[2:]
    padded = np.zeros((*x.shape[:2], x.shape[2] + 2 * padding, x.shape[3] + 2 * padding))
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            part = np.einsum("nohw,oc->nchw", gradient, weight[:, :, i, j])
            padded[:, :, i : i + height * stride : stride, j : j + width * stride : stride] += part
    inside = (slice(None), slice(None), slice(padding, padding + x.shape[2]), slice(padding, padding + x.shape[3]))
    return padded[inside], np.einsum("nchwij,nohw->ocij", windows, gradient)


def gradients(net: nn.Cell, x: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the output of a layer in training, and the gradients of x and of the parameters."""
    net.set_train(True)
    weights = net.trainable_params()

    def product(x: ms.Tensor, gradient: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        out = net(x)
        return (out * gradient).sum(), out

    differentiated = ms.value_and_grad(product, 0, weights, has_aux=True)

    @ms.jit
    def run(x: ms.Tensor, gradient: ms.Tensor) -> Any:
        return differentiated(x, gradient)

    (_, out), (of_x, of_weights) = run(ms.Tensor(x), ms.Tensor(gradient))
    return out.asnumpy(), [of_x.asnumpy(), *(each.asnumpy() for each in of_weights)]


def stored(values: np.ndarray, data_type: str) -> np.ndarray:
    """Return the values as the kernels keep them: in bfloat16 rounded to the nearest one, or to the even one of two."""
    if data_type == "f32":
        return values.astype(np.float64)
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)


def assert_close(found: np.ndarray, expected: np.ndarray, data_type: str, what: str) -> None:
    """Assert equality: in float32 within 1e-5 of the largest value, in bfloat16, which has eight bits, more loosely."""
    bound = 1e-5 if data_type == "f32" else 2**-6
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound * max(np.abs(expected).max(), 1e-6), err_msg=what)


def block_of(
    shape: tuple[int, ...], norm: bool, pooled: bool, data_type: str, first: bool = False
) -> onednn_layers.ConvolutionBlock:
    """Return a block with random parameters."""
    _, channels_in, channels_out, kernel_size, stride, *_ = shape
    convolution = nn.Conv2d(
        channels_in, channels_out, kernel_size, stride, "same" if stride == 1 else "valid", has_bias=not norm
    )
    norm_layer = nn.BatchNorm2d(channels_out, eps=EPSILON) if norm else None
    max_pool = nn.MaxPool2d(3, 2) if pooled else None
    block = onednn_layers.ConvolutionBlock(convolution, norm_layer, max_pool, data_type, first)  # type: ignore[arg-type]
    for parameter in block.get_parameters():
        values = RNG.normal(0, 1, parameter.shape) if parameter.ndim > 1 else RNG.uniform(0.5, 1.5, parameter.shape)
        parameter.set_data(ms.Tensor(values.astype(np.float32)))
    return block


@pytest.mark.parametrize("data_type", DATA_TYPES)
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_convolution_block_forward_and_backward(shape: tuple[int, ...], norm: bool, data_type: str) -> None:
    images, channels_in, _, kernel_size, stride, height, width = shape
    padding = kernel_size // 2 if stride == 1 else 0
    pooled = min(height, width) > 4
    block = block_of(shape, norm, pooled, data_type)
    x = RNG.normal(0, 1, (images, channels_in, height, width)).astype(np.float32)
    # Values are rounded here wherever the kernels round theirs. Otherwise, a rounded value could be on the other side
    # of ReLU's zero, or another value of a pooling window could be the largest, and whole gradients would move.
    inputs, weight = stored(x, data_type), stored(block.convolution.weight.asnumpy(), data_type)
    convolved, windows = convolve(inputs, weight, stride, padding)
    if block.norm is not None:
        convolved = stored(convolved, data_type)
        mean, variance = convolved.mean((0, 2, 3)), convolved.var((0, 2, 3))
        gamma, beta = block.norm.gamma.asnumpy().astype(np.float64), block.norm.beta.asnumpy().astype(np.float64)
        running = block.norm.moving_mean.asnumpy().copy(), block.norm.moving_variance.asnumpy().copy()
        deviation = np.sqrt(variance + EPSILON)
        standard = (convolved - mean[:, None, None]) / deviation[:, None, None]
        before = standard * gamma[:, None, None] + beta[:, None, None]
    else:
        before = convolved + block.convolution.bias.asnumpy()[:, None, None]
    activated = stored(np.maximum(before, 0), data_type)
    expected, unpool = pool(activated) if pooled else (activated, lambda gradient: gradient)
    gradient = RNG.normal(0, 1, expected.shape).astype(np.float32)

    out, found = gradients(block, x, gradient)
    assert_close(out, expected, data_type, "output")
    terms = back = stored(unpool(stored(gradient, data_type)), data_type) * (before > 0)
    vectors = [back.sum((0, 2, 3))]
    if norm:
        vectors = [(back * standard).sum((0, 2, 3)), back.sum((0, 2, 3))]
        values = images * convolved.shape[2] * convolved.shape[3]
        centred = back - vectors[1][:, None, None] / values - standard * vectors[0][:, None, None] / values
        back = stored(centred * (gamma / deviation)[:, None, None], data_type)
        share = 0.1  # 1 less MindSpore's momentum
        unbiased = variance * values / max(1, values - 1)
        for name, statistic, old in zip(("mean", "variance"), (mean, unbiased), running, strict=True):
            moved = getattr(block.norm, f"moving_{name}").asnumpy()
            assert_close(moved, old * (1 - share) + statistic * share, data_type, name)
    of_x, of_weight = convolve_back(back, windows, inputs, weight, stride, padding)
    for what, one, other in zip(("x", "weight", "1", "2"), found, (of_x, of_weight, *vectors), strict=False):
        if data_type == "f32":
            scale = np.abs(of_x if what == "x" else of_weight).max() if images == 1 else 0
            np.testing.assert_allclose(one, other, rtol=0, atol=3e-5 * max(np.abs(other).max(), scale, 1), err_msg=what)
        else:
            # The mean of the errors, because float32 sums in another order can round to another number in bfloat16, and
            # then the gradient of a window goes to another value of about the same size.
            scale = np.abs(other).mean() if what in ("x", "weight") else np.sqrt((terms**2).sum((0, 2, 3))).mean()
            assert np.abs(one - other).mean() <= 2**-6 * max(scale, 1), what


@pytest.mark.parametrize("data_type", DATA_TYPES)
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_convolution_block_outside_of_training(shape: tuple[int, ...], norm: bool, data_type: str) -> None:
    images, channels_in, _, _, _, height, width = shape
    block = block_of(shape, norm, min(height, width) > 4, data_type)
    reference = mindspore_layers.ConvolutionBlock(
        block.convolution, block.norm, nn.MaxPool2d(3, 2) if min(height, width) > 4 else None
    )
    before = {name: value.asnumpy().copy() for name, value in block.parameters_and_names()}
    block.set_train(False)
    reference.set_train(False)
    x = ms.Tensor(RNG.normal(0, 1, (images, channels_in, height, width)).astype(np.float32))
    assert_close(block(x).asnumpy(), reference(x).asnumpy(), data_type, "output")
    for name, value in block.parameters_and_names():
        np.testing.assert_array_equal(value.asnumpy(), before[name], err_msg=name)


@pytest.mark.parametrize("data_type", DATA_TYPES)
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 33, 17), (5, 256, 10), (2, 70, 130)])
def test_a_fully_connected_layer(shape: tuple[int, int, int], relu: bool, data_type: str) -> None:
    images, channels_in, channels_out = shape
    layer = onednn_layers.Dense(channels_in, channels_out, relu, data_type)  # type: ignore[arg-type]
    for parameter in layer.get_parameters():
        parameter.set_data(ms.Tensor(RNG.normal(0, 1, parameter.shape).astype(np.float32)))
    x = RNG.normal(0, 1, (images, channels_in)).astype(np.float32)
    gradient = RNG.normal(0, 1, (images, channels_out)).astype(np.float32)
    # Factors are rounded as the kernels round them, so that the same outputs are above 0.
    inputs, weight = stored(x, data_type), stored(layer.weight.asnumpy(), data_type)
    before = inputs @ weight.T + layer.bias.asnumpy()
    out, found = gradients(layer, x, gradient)
    expected = np.maximum(before, 0) if relu else before
    assert_close(out, expected, data_type, "output")
    back = stored(gradient, data_type) * (before > 0 if relu else 1)
    expected_gradients = (back @ weight, back.T @ inputs, back.sum(0))
    for what, one, other in zip(("x", "weight", "bias"), found, expected_gradients, strict=True):
        assert_close(one, other, data_type, what)
    layer.set_train(False)
    assert_close(layer(ms.Tensor(x)).asnumpy(), expected, data_type, "output outside of training")


@needs_onednn
def test_the_first_block_computes_no_gradient_of_its_input() -> None:
    block = block_of((2, 3, 8, 3, 1, 6, 6), True, False, "f32", first=True)
    x = RNG.normal(0, 1, (2, 3, 6, 6)).astype(np.float32)
    _, (of_x, of_weight, *_) = gradients(block, x, np.ones((2, 8, 6, 6), np.float32) + x[:, :1])
    assert not of_x.any()
    assert of_weight.any()


@pytest.mark.parametrize(
    ("convolution", "pool", "expected"),
    [
        ({"kernel_size": (3, 5)}, {}, "a square kernel"),
        ({"stride": (1, 2), "pad_mode": "valid"}, {}, "the same stride along both axes"),
        ({"stride": 2}, {}, "pad_mode valid, or same with stride 1 and an odd kernel size"),
        ({"kernel_size": 2}, {}, "pad_mode valid, or same with stride 1 and an odd kernel size"),
        ({"pad_mode": "pad", "padding": 1}, {}, "pad_mode valid, or same with stride 1 and an odd kernel size"),
        ({"dilation": 2}, {}, "no dilation"),
        ({"group": 4}, {}, "one group"),
        ({"has_bias": True}, {}, "a bias exactly if there is no batch normalisation"),
        ({}, {"pad_mode": "same"}, "max-pooling with pad_mode valid, a square window and one stride"),
        ({}, {"kernel_size": (2, 2)}, "max-pooling with pad_mode valid, a square window and one stride"),
    ],
)
def test_layers_that_a_block_cannot_compute_are_refused(
    convolution: dict[str, Any], pool: dict[str, Any], expected: str
) -> None:
    layer = nn.Conv2d(4, 8, **({"kernel_size": 3} | convolution))
    max_pool = nn.MaxPool2d(**({"kernel_size": 3, "stride": 2} | pool))
    with pytest.raises(ValueError, match=f"^a convolution block needs {expected}: "):
        MINDSPORE.convolution_block(layer, nn.BatchNorm2d(8), max_pool, first=False)


def test_a_block_refuses_batch_normalisation_with_the_same_statistics_always() -> None:
    norm = nn.BatchNorm2d(8, use_batch_statistics=True)
    with pytest.raises(ValueError, match="the statistics of the batch in training only"):
        MINDSPORE.convolution_block(nn.Conv2d(4, 8, 3), norm, None, first=False)


def whole(kernels: Kernels, batch_norm: bool, dropout_rate: float = 0.25) -> AlexNet:
    return AlexNet(10, 67, 99, dropout_rate, batch_norm=batch_norm, weight_init="HeNormal", seed=1, kernels=kernels)


def a_batch(count: int) -> Batch:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    return Batch(images, np.arange(count, dtype=np.int32) % 10, rng.random((count, 2, 4096)) >= 0.25)


@pytest.mark.parametrize("kernels", WHOLE)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_step_is_the_same_with_either_kernels(kernels: Kernels, batch_norm: bool) -> None:
    networks = [whole(kind, batch_norm) for kind in (MINDSPORE, kernels)]
    names = [[name for name, _ in network.parameters_and_names()] for network in networks]
    assert names[0] == names[1]
    before = {name: value.asnumpy().copy() for name, value in networks[0].parameters_and_names()}
    for name, value in networks[1].parameters_and_names():
        np.testing.assert_array_equal(value.asnumpy(), before[name], err_msg=name)
        assert value.name == name
    logits = [Step(each, Recipe(0.1, 0.9, weight_decay=0.01))(a_batch(6), np.float32(0.1)) for each in networks]
    bound = 1e-4 if kernels.amp_level == "O0" else 0.1
    np.testing.assert_allclose(logits[1], logits[0], rtol=0, atol=bound * np.abs(logits[0]).max())
    found = [{name: value.asnumpy() for name, value in each.parameters_and_names()} for each in networks]
    for name in names[0]:
        moved = np.abs(found[0][name] - before[name])
        np.testing.assert_allclose(
            found[1][name], found[0][name], rtol=0, atol=10 * bound * max(moved.max(), 1e-3), err_msg=name
        )


@pytest.mark.parametrize("kernels", WHOLE)
def test_the_same_bytes_twice(kernels: Kernels) -> None:
    def trained() -> list[bytes]:
        network = whole(kernels, True)
        step = Step(network, Recipe(0.1, 0.9))
        for _ in range(2):
            step(a_batch(6), np.float32(0.1))
        return [value.asnumpy().tobytes() for value in network.get_parameters()]

    assert trained() == trained()


@needs_onednn
def test_a_graph_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []
    real = onednn_layers._TrainingBlock

    def make(*shapes: Any, **settings: Any) -> Any:
        made.append(shapes)
        return real(*shapes, **settings)

    monkeypatch.setattr(onednn_layers, "_TrainingBlock", make)
    step = Step(whole(ONEDNN, True), Recipe(0.1, 0.9))
    for _ in range(3):
        step(a_batch(6), np.float32(0.1))
    assert len(made) == 5, "one for each block"


@pytest.mark.parametrize(
    ("asked", "target", "bfloat16", "expected"),
    [
        (("auto", "auto"), "CPU", True, Kernels("onednn", "O2")),
        (("auto", "auto"), "CPU", False, Kernels("onednn", "O0")),
        (("auto", "O0"), "CPU", True, Kernels("onednn", "O0")),
        (("mindspore", "auto"), "CPU", True, Kernels("mindspore", "O0")),
        (("mindspore", "O2"), "CPU", False, Kernels("mindspore", "O2")),
        (("onednn", "O2"), "CPU", True, Kernels("onednn", "O2")),
        (("auto", "auto"), "GPU", True, Kernels("mindspore", "O2")),
        (("auto", "O0"), "Ascend", True, Kernels("mindspore", "O0")),
    ],
)
def test_the_choice_of_kernels(
    asked: tuple[Any, Any], target: str, bfloat16: bool, expected: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "available", lambda: True)
    monkeypatch.setattr(onednn, "computes_bfloat16", lambda: bfloat16)
    monkeypatch.setattr(onednn, "_threads", None)
    assert choose(*asked, target, 3) == expected
    assert onednn._threads == (3 if expected.library == "onednn" else None)


@pytest.mark.parametrize("target", ["CPU", "GPU"])
def test_without_onednn_mindspores_kernels_are_used(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "available", lambda: False)
    assert choose("auto", "auto", target, 2).library == "mindspore"


@pytest.mark.parametrize(
    ("asked", "target", "there", "parts"),
    [
        (("onednn", "O0"), "CPU", False, ("kernels is onednn", "pip install", "auto")),
        (("onednn", "O0"), "GPU", True, ("kernels is onednn", "GPU", "auto")),
        (("onednn", "O2"), "CPU", True, ("amp_level is O2", "AVX512_BF16", "O0")),
    ],
)
def test_unavailable_kernels_are_one_line(
    asked: tuple[Any, Any], target: str, there: bool, parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "available", lambda: there)
    monkeypatch.setattr(onednn, "computes_bfloat16", lambda: False)
    with pytest.raises(InputError) as caught:
        choose(*asked, target, 2)
    one_line(caught, *parts)


def test_the_loss_is_scaled_only_in_float16() -> None:
    kinds = (MINDSPORE, Kernels("onednn", "O2"), Kernels("mindspore", "O2"))
    assert [kernels.loss_scale for kernels in kinds] == [1, 1, choice.FLOAT16_LOSS_SCALE]
