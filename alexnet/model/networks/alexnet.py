"""AlexNet: from raw 32x32 images to logits, including normalising and resizing the images."""

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.common.initializer import HeNormal

from alexnet import cifar10
from alexnet.kernels.choice import MINDSPORE, Kernels
from alexnet.model.alexnet_layers import (
    CONVOLUTIONS,
    DROPOUT_LAYERS,
    HIDDEN_UNITS,
    MINIMUM_SIZE,
    POOL_SIZE,
    POOL_STRIDE,
    features,
    training_pflop,
)
from alexnet.model.network import Network, Setting
from alexnet.runtime.choices import WeightInit
from alexnet.runtime.errors import InputError


def interpolation(size: int, image_size: int) -> np.ndarray:
    """Return the matrix that resizes one axis bilinearly from `size` to `image_size` pixels.

    It is float32 of shape (image_size, size). Pixels have their centres at halves, there is no antialiasing, and the
    pixels at the edges are repeated, as in OpenCV's INTER_LINEAR and `ops.interpolate(align_corners=False)`. A product
    with a constant matrix, unlike those, can be exported to ONNX.
    """
    centre = np.clip((np.arange(image_size) + 0.5) * size / image_size - 0.5, 0, size - 1)
    return np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(size))).astype(np.float32)


class AlexNet(Network):
    """AlexNet for raw CIFAR-10 images.

    Its parameters have the same names as the model zoo's, from conv1.weight to fc3.bias.

    Args:
        num_classes: the number of outputs of the last layer.
        image_height: the height in pixels to which the 32x32 images are resized, at least MINIMUM_SIZE.
        image_width: the width in pixels to which they are resized, at least MINIMUM_SIZE.
        dropout_rate: the probability that an output of fc1 or fc2 is dropped in training, at least 0 and below 1.
        batch_norm: whether to normalise the output of each convolution over the batch (S. Ioffe, C. Szegedy, arXiv
            1502.03167), with parameters from bn1.gamma to bn5.moving_variance. The convolutions have no biases then,
            because normalisation would cancel them.
        weight_init: how the weights are initialised: `default` as MindSpore's layers do it (as in the model zoo's later
            version), `HeNormal` as in K. He et al., arXiv 1502.01852, section 2.2, with biases of 0.
        seed: the seed of the initial weights.
        kernels: what computes the layers. It changes neither the parameters nor their initial values.

    Raises InputError when the image size is below MINIMUM_SIZE.
    """

    dropout_shape = (DROPOUT_LAYERS, HIDDEN_UNITS)
    # The model zoo's 2020 version has no biases in its convolutions.
    optional_parameters = frozenset(f"conv{number}.bias" for number in range(1, len(CONVOLUTIONS) + 1))
    output_parameters = frozenset({"fc3.weight", "fc3.bias"})

    def __init__(
        self,
        num_classes: int,
        image_height: int,
        image_width: int,
        dropout_rate: float,
        batch_norm: bool = False,
        weight_init: WeightInit = "default",
        seed: int = 0,
        kernels: Kernels = MINDSPORE,
    ) -> None:
        if min(image_height, image_width) < MINIMUM_SIZE:
            raise InputError(
                f"the image size is {image_height}x{image_width}, expected at least {MINIMUM_SIZE}x{MINIMUM_SIZE}: "
                "the last pooling of a smaller image has no output"
            )
        settings: dict[str, Setting] = {
            "num_classes": num_classes,
            "image_height": image_height,
            "image_width": image_width,
            "batch_norm": batch_norm,
        }
        super().__init__(settings, kernels)
        self.dropout_rate = dropout_rate
        self.rows = ms.Tensor(interpolation(cifar10.HEIGHT, image_height))
        self.columns = ms.Tensor(np.ascontiguousarray(interpolation(cifar10.WIDTH, image_width).T))
        mean, std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (cifar10.MEAN, cifar10.STD))
        self.scale, self.shift = ms.Tensor(1 / (255 * std)), ms.Tensor(-mean / std)

        ms.set_seed(seed)
        initial = (
            {"weight_init": HeNormal(nonlinearity="relu"), "bias_init": "zeros"} if weight_init == "HeNormal" else {}
        )
        inputs = (cifar10.CHANNELS, *(layer.out_channels for layer in CONVOLUTIONS))
        self.conv1, self.conv2, self.conv3, self.conv4, self.conv5 = convolutions = [
            nn.Conv2d(
                in_channels,
                layer.out_channels,
                layer.kernel_size,
                stride=layer.stride,
                pad_mode=layer.pad_mode,
                has_bias=not batch_norm,
                **initial,
            )
            for in_channels, layer in zip(inputs, CONVOLUTIONS, strict=False)
        ]
        self.bn1, self.bn2, self.bn3, self.bn4, self.bn5 = norms = [
            nn.BatchNorm2d(layer.out_channels) if batch_norm else None for layer in CONVOLUTIONS
        ]
        for number, (layer, convolution, norm) in enumerate(zip(CONVOLUTIONS, convolutions, norms, strict=True), 1):
            pool = nn.MaxPool2d(POOL_SIZE, stride=POOL_STRIDE) if layer.pooled else None
            block = kernels.convolution_block(convolution, norm, pool, first=number == 1)
            self.insert_child_to_cell(f"block{number}", block)  # an assignment would rename the parameters
        self.fc1 = kernels.dense(features(image_height, image_width), HIDDEN_UNITS, relu=True, **initial)
        self.fc2 = kernels.dense(HIDDEN_UNITS, HIDDEN_UNITS, relu=True, **initial)
        self.fc3 = kernels.dense(HIDDEN_UNITS, num_classes, relu=False, **initial)

    def construct(self, images: ms.Tensor, keep: ms.Tensor | None = None) -> ms.Tensor:
        """Return logits, float32 of shape (N, num_classes).

        Args:
            images: uint8 of shape (N, 3, 32, 32).
            keep: bool of shape (N, 2, 4096), the outputs of fc1 and of fc2 that dropout keeps. They are scaled by
                1 / (1 - dropout_rate), and the others are set to 0; None keeps all, unscaled. The mask is an input,
                because MindSpore's own dropout draws other values in every process.
        """
        # The images are normalised before they are resized: there are fewer pixels, and the result is the same, because
        # the weights of a bilinear interpolation sum to one.
        x = images.astype(ms.float32) * self.scale + self.shift
        x = ops.matmul(self.rows, ops.matmul(x, self.columns))
        x = self.block5(self.block4(self.block3(self.block2(self.block1(x)))))
        x = x.reshape(-1, self.fc1.in_channels)  # -1, so that an exported file takes batches of any size
        x = self.fc1(x)
        if keep is None:
            return self.fc3(self.fc2(x))
        first, second = ops.unstack(keep, 1)  # keep[:, 0] would take ten times as long on the CPU
        x = x * first / (1 - self.dropout_rate)
        x = self.fc2(x)
        x = x * second / (1 - self.dropout_rate)
        return self.fc3(x)

    def filters(self) -> np.ndarray:
        """Return the weights of conv1, float32 of shape (96, 3, 11, 11)."""
        weights: np.ndarray = self.conv1.weight.asnumpy()
        return weights

    def training_pflop(self, images: int) -> float:
        """Return the cost of training, see `alexnet.model.alexnet_layers.training_pflop`."""
        height, width = int(self.settings["image_height"]), int(self.settings["image_width"])
        return training_pflop(self.num_classes, height, width, images)

    @classmethod
    def settings_of(cls, values: Mapping[str, np.ndarray]) -> dict[str, Setting] | None:
        """Return the number of classes of a checkpoint from the model zoo."""
        bias = values.get("fc3.bias")
        return None if bias is None else {"num_classes": bias.size}


NETWORK = AlexNet
