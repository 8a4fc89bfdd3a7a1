"""The convolutions of small feature maps, made fast on the CPU."""

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from numpy.lib.stride_tricks import sliding_window_view

from alexnet.runtime import device

SMALL = 25
"""Pixels of a map up to which one product a batch is faster than one an image; at 10x10 it is not."""


class Convolution(nn.Conv2d):
    """`nn.Conv2d`, but for how the CPU trains on small maps (stride 1, odd kernel, pad_mode `same`).

    MindSpore 2.8's kernel does a matrix product an image (oneDNN's `gemm:jit`), of as many columns as the map has
    pixels. Of a map of 3x3 that are 9, and most of the time goes into reading the weights anew for each. Here it is one
    product for all images, the map's patches beside one another (im2col), and two more for the gradients.

    Takes and returns float of shape (N, C, H, W). Parameters and their initial values are those of `nn.Conv2d`.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, **settings: Any) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, **settings)
        self.product = _Product(kernel_size)
        plain = (self.stride, self.dilation, self.group, self.pad_mode) == ((1, 1), (1, 1), 1, "same")
        self.by_product = plain and kernel_size % 2 == 1 and device.current_target() == "CPU"

    def to_float(self, dst_type: Any) -> "Convolution":
        """Compute in another type, then by MindSpore's kernel alone: it would not cast a `bprop`'s gradients back."""
        self.by_product = self.by_product and dst_type == ms.float32
        super().to_float(dst_type)
        return self

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """Return the convolution of x."""
        if not (self.training and self.by_product and x.shape[2] * x.shape[3] <= SMALL):
            return super().construct(x)
        out = self.product(x, self.weight)
        return out + self.bias.reshape(1, -1, 1, 1) if self.has_bias else out


class _Product(nn.Cell):
    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size

    def construct(self, x: ms.Tensor, weight: ms.Tensor) -> ms.Tensor:
        return self.multiply(x, weight, False, (2, 3, 1, 0))

    def bprop(
        self, x: ms.Tensor, weight: ms.Tensor, out: ms.Tensor, gradient: ms.Tensor
    ) -> tuple[ms.Tensor, ms.Tensor]:
        # The gradient of x is the convolution of `gradient` with the kernels turned by 180 degrees.
        outputs, inputs, height, width = weight.shape
        of_weight = ops.matmul(self.patches(x, False).T, _pixels(gradient)).reshape(height, width, inputs, outputs)
        return self.multiply(gradient, weight, True, (2, 3, 0, 1)), ops.transpose(of_weight, (3, 2, 0, 1))

    def multiply(self, x: ms.Tensor, weight: ms.Tensor, turned: bool, order: tuple[int, ...]) -> ms.Tensor:
        images, _, height, width = x.shape
        matrix = ops.transpose(weight, order).reshape(-1, weight.shape[order[-1]])
        product = ops.matmul(self.patches(x, turned), matrix)
        return ops.transpose(product.reshape(images, height, width, -1), (0, 3, 1, 2))

    def patches(self, x: ms.Tensor, turned: bool) -> ms.Tensor:
        # Of shape (N * H * W, kernel_size^2 * C).
        images, channels, height, width = x.shape
        pixels = ops.concat((_pixels(x), ops.zeros((1, channels), x.dtype)))
        numbers = _neighbours(images, height, width, self.kernel_size, turned)
        return ops.gather(pixels, numbers, 0).reshape(images * height * width, -1)


def _pixels(x: ms.Tensor) -> ms.Tensor:
    # (N, C, H, W) to (N * H * W, C).
    return ops.transpose(x, (0, 2, 3, 1)).reshape(-1, x.shape[1])


@ms.constexpr
def _neighbours(images: int, height: int, width: int, kernel_size: int, turned: bool) -> ms.Tensor:
    # The numbers of the pixels below each place of the kernel; outside of an image, that of one more.
    count, pad = images * height * width, kernel_size // 2
    numbers = np.arange(count, dtype=np.int32).reshape(images, height, width)
    padded = np.pad(numbers, ((0, 0), (pad, pad), (pad, pad)), constant_values=count)
    windows = sliding_window_view(padded, (kernel_size, kernel_size), (1, 2))  # type: ignore[call-overload]
    windows = windows.reshape(count, kernel_size**2)
    return ms.Tensor(np.ascontiguousarray(windows[:, ::-1] if turned else windows).ravel())
