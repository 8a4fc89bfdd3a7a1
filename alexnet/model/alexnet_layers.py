"""AlexNet's layers in numbers: their kernels, their sizes, and the cost of training them.

Sources: A. Krizhevsky, I. Sutskever, G. E. Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", NIPS 2012, sections 3.4 and 3.5; and the model zoo's alexnet.py of 2020, which has one group of kernels and
no local response normalisation:
https://github.com/mindspore-ai/mindspore/blob/1546d80/model_zoo/official/cv/alexnet/src/alexnet.py
"""

from typing import Literal, NamedTuple

from alexnet.cifar10 import CHANNELS


class ConvolutionShape(NamedTuple):
    """The sizes of a convolution, and whether max-pooling follows it."""

    out_channels: int
    kernel_size: int
    stride: int
    pad_mode: Literal["valid", "same"]
    pooled: bool


CONVOLUTIONS = (
    ConvolutionShape(96, 11, 4, "valid", True),
    ConvolutionShape(256, 5, 1, "same", True),
    ConvolutionShape(384, 3, 1, "same", False),
    ConvolutionShape(384, 3, 1, "same", False),
    ConvolutionShape(256, 3, 1, "same", True),
)
POOL_SIZE, POOL_STRIDE = 3, 2
HIDDEN_UNITS = 4096
"""The number of outputs of the first and of the second fully connected layer."""
DROPOUT_LAYERS = 2
"""How many fully connected layers, from the first, are followed by dropout (Krizhevsky et al., section 4.2)."""


def _valid(size: int, kernel_size: int, stride: int) -> int:
    return max(0, (size - kernel_size) // stride + 1)


def axis_sizes(image_size: int) -> tuple[list[int], int]:
    """Return the output size of each convolution along an axis of `image_size` pixels, and that of the last pooling.

    The last pooling's is 0 when the image is too small.
    """
    outputs, size = [], image_size
    for convolution in CONVOLUTIONS:
        if convolution.pad_mode == "valid":
            size = _valid(size, convolution.kernel_size, convolution.stride)
        outputs.append(size)
        if convolution.pooled:
            size = _valid(size, POOL_SIZE, POOL_STRIDE)
    return outputs, size


MINIMUM_SIZE = next(size for size in range(1, 1000) if axis_sizes(size)[1])
"""The smallest image height and width, in pixels, for which the last pooling has an output: 67."""


def fc1_inputs(image_height: int, image_width: int) -> int:
    """Return the number of inputs of the first fully connected layer for images of this size in pixels."""
    return CONVOLUTIONS[-1].out_channels * axis_sizes(image_height)[1] * axis_sizes(image_width)[1]


def training_pflop(num_classes: int, image_height: int, image_width: int, images: int) -> float:
    """Return the calculated cost of training, in 10^15 operations.

    For each image, a convolution takes out_height * out_width * out_channels * in_channels * kernel_size^2
    multiply-adds, and a fully connected layer inputs * outputs. Each is done three times: in the forward pass, for the
    gradient of the weights, and for the gradient of the inputs, which the first convolution does not need. A
    multiply-add is two operations. Resizing, pooling, activations and the optimizer are not counted. The zoo's recipe
    (227x227 pixels, 30 epochs of 1562 batches of 32 images) costs 9.9.

    Args:
        num_classes: the number of outputs of the last layer.
        image_height: in pixels.
        image_width: in pixels.
        images: how many images the network is trained on. An image counts once for every epoch.
    """
    heights, widths = axis_sizes(image_height)[0], axis_sizes(image_width)[0]
    in_channels, multiply_adds = CHANNELS, []
    for convolution, height, width in zip(CONVOLUTIONS, heights, widths, strict=True):
        multiply_adds.append(height * width * convolution.out_channels * in_channels * convolution.kernel_size**2)
        in_channels = convolution.out_channels
    multiply_adds.append(fc1_inputs(image_height, image_width) * HIDDEN_UNITS)
    multiply_adds.append(HIDDEN_UNITS * HIDDEN_UNITS)
    multiply_adds.append(HIDDEN_UNITS * num_classes)
    return 2 * (3 * sum(multiply_adds) - multiply_adds[0]) * images / 1e15
