"""The layers of a network as MindSpore's own operators compute them, on any device."""

import mindspore as ms
from mindspore import nn, ops


class ConvolutionBlock(nn.Cell):
    """A convolution, batch normalisation if there is one, ReLU, and max-pooling if there is one.

    Takes and returns a tensor of shape (N, C, H, W).

    Args:
        convolution, norm, pool: the layers; the block shares their parameters. `norm` and `pool` may be None.
        data_type: what the convolution is computed in. Normalisation and pooling are float32 in any case.
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
        """Return the block's output."""
        return self.pool(ops.relu(self.norm(self.convolution(x))))


def dense(
    in_channels: int, out_channels: int, relu: bool, data_type: ms.Type = ms.float32, **settings: str
) -> nn.Dense:
    """Return a fully connected layer with a bias, and with a ReLU if wanted; `settings` are more of `nn.Dense`'s.

    data_type: what the layer is computed in.
    """
    layer = nn.Dense(in_channels, out_channels, activation="relu" if relu else None, **settings)
    return layer if data_type == ms.float32 else layer.to_float(data_type)
