"""What a network does with raw images first: it normalises and resizes them."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from alexnet import cifar10


class Preprocessing(nn.Cell):
    """Normalises images with `MEAN` and `STD` of `alexnet/cifar10.py`, and resizes them bilinearly.

    It has no parameters, and can be exported to ONNX.

    Args:
        image_height: the height in pixels to which the 32x32 images are resized.
        image_width: the width in pixels to which they are resized.
    """

    def __init__(self, image_height: int, image_width: int) -> None:
        super().__init__()
        self.rows = ms.Tensor(interpolation(cifar10.HEIGHT, image_height))
        self.columns = ms.Tensor(np.ascontiguousarray(interpolation(cifar10.WIDTH, image_width).T))
        mean, std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (cifar10.MEAN, cifar10.STD))
        self.scale, self.shift = ms.Tensor(1 / (255 * std)), ms.Tensor(-mean / std)

    def construct(self, images: ms.Tensor) -> ms.Tensor:
        """Return the images as float32 of shape (N, 3, image_height, image_width).

        Args:
            images: uint8 of shape (N, 3, 32, 32), RGB.
        """
        # The images are normalised before they are resized: there are fewer pixels, and the result is the same, because
        # the weights of a bilinear interpolation sum to one.
        x = images.astype(ms.float32) * self.scale + self.shift
        return ops.matmul(self.rows, ops.matmul(x, self.columns))


def interpolation(size: int, image_size: int) -> np.ndarray:
    """Return the matrix that resizes one axis bilinearly from `size` to `image_size` pixels.

    It is float32 of shape (image_size, size). Pixels have their centres at halves, there is no antialiasing, and the
    pixels at the edges are repeated, as in OpenCV's INTER_LINEAR and `ops.interpolate(align_corners=False)`. A product
    with a constant matrix, unlike those, can be exported to ONNX.
    """
    centre = np.clip((np.arange(image_size) + 0.5) * size / image_size - 0.5, 0, size - 1)
    return np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(size))).astype(np.float32)
