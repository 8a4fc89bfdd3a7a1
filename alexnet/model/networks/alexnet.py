"""AlexNet: from raw 32x32 images to logits."""

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from alexnet.cifar10 import CHANNELS
from alexnet.kernels.choice import MINDSPORE, Kernels
from alexnet.model.alexnet_layers import (
    CONVOLUTIONS,
    DROPOUT_LAYERS,
    HIDDEN_UNITS,
    MINIMUM_SIZE,
    POOL_SIZE,
    POOL_STRIDE,
    fc1_inputs,
    training_pflop,
)
from alexnet.model.initialization import initializers
from alexnet.model.network import Network, Setting
from alexnet.model.preprocessing import Preprocessing
from alexnet.runtime.choices import WeightInit
from alexnet.runtime.errors import InputError


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
        weight_init: how the weights are initialised, see `alexnet.model.initialization.initializers`.
        seed: the seed of the initial weights.
        kernels: the library that runs the layers. It changes neither the parameters nor their initial values.

    Raises InputError when the image size is below MINIMUM_SIZE.
    """

    description = "A convolutional network after Krizhevsky, Sutskever and Hinton (2012)."
    dropout_shape = (DROPOUT_LAYERS, HIDDEN_UNITS)
    # The model zoo's network has no biases in its convolutions.
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
        self.preprocessing = Preprocessing(image_height, image_width)

        ms.set_seed(seed)
        initial = initializers(weight_init)
        inputs = (CHANNELS, *(layer.out_channels for layer in CONVOLUTIONS))
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
        self.fc1 = kernels.dense(fc1_inputs(image_height, image_width), HIDDEN_UNITS, relu=True, **initial)
        self.fc2 = kernels.dense(HIDDEN_UNITS, HIDDEN_UNITS, relu=True, **initial)
        self.fc3 = kernels.dense(HIDDEN_UNITS, num_classes, relu=False, **initial)

    def construct(self, images: ms.Tensor, keep: ms.Tensor | None = None) -> ms.Tensor:
        """Return logits of shape (N, num_classes): float32, or float16 with MindSpore's kernels at O2.

        Args:
            images: uint8 of shape (N, 3, 32, 32).
            keep: bool of shape (N, 2, 4096), the outputs of fc1 and of fc2 that dropout keeps. They are scaled by
                1 / (1 - dropout_rate), and the others are set to 0; None keeps all, unscaled. The mask is an input,
                because MindSpore's own dropout draws other values in every process.
        """
        x = self.preprocessing(images)
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

    def first_layers(self) -> tuple[nn.Cell, nn.Conv2d]:
        """Return the preprocessing and conv1."""
        return self.preprocessing, self.conv1

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
