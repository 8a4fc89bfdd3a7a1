"""Layers that MindSpore's own operators compute, on any device."""

from typing import Any

import mindspore as ms
from mindspore import nn, ops


class ConvolutionBlock(nn.Cell):
    """A convolution, batch normalisation, ReLU and max-pooling.

    `alexnet.kernels.choice.Kernels.convolution_block` describes the block and the layers that it is made of.
    Normalisation and pooling are computed in float32.

    Args:
        convolution: the convolution.
        norm: the batch normalisation, or None.
        pool: the max-pooling, or None.
        data_type: the type in which the convolution is computed.
    """

    def __init__(
        self,
        convolution: nn.Conv2d,
        norm: nn.BatchNorm2d | None,
        pool: nn.MaxPool2d | None,
        data_type: ms.Type = ms.float32,
    ) -> None:
        super().__init__(auto_prefix=False)  # the parameters keep their names
        self.convolution, self.norm, self.pool = convolution, norm or nn.Identity(), pool or nn.Identity()
        if data_type != ms.float32:
            self.convolution.to_float(data_type)
            self.norm.to_float(ms.float32)
            self.pool.to_float(ms.float32)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """Return the output of the block."""
        return self.pool(ops.relu(self.norm(self.convolution(x))))


def dense(
    in_channels: int, out_channels: int, relu: bool, data_type: ms.Type = ms.float32, **settings: Any
) -> nn.Dense:
    """Return a fully connected layer with a bias, which takes shape (N, in_channels) and returns (N, out_channels).

    Args:
        in_channels: the number of inputs.
        out_channels: the number of outputs.
        relu: whether a ReLU follows.
        data_type: the type in which the layer is computed. It is also the type of the output.
        settings: other arguments of `nn.Dense`, except for `has_bias` and `activation`.
    """
    layer = nn.Dense(in_channels, out_channels, activation="relu" if relu else None, **settings)
    return layer if data_type == ms.float32 else layer.to_float(data_type)
