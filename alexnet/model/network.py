"""What the rest of the project asks of a network."""

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import nn

from alexnet.kernels.choice import MINDSPORE, Kernels

Setting = int | float | bool | str


class Network(nn.Cell):
    """The base of all networks.

    To add one, write a module in `alexnet/model/networks` with a subclass that it calls `NETWORK`. The subclass is
    made with keyword arguments: `num_classes`, `image_height`, `image_width`, `dropout_rate`, `batch_norm` (the section
    `model` of params.yaml, less the name), `kernels`, and in training `weight_init` and `seed`, of the initial weights.
    It may ignore those that mean nothing to it.

    Args:
        settings: the arguments that are needed to make the network again after it was trained. Checkpoints keep them.
            `num_classes` must be among them; each must be an int, a float, a bool or a str.
        kernels: the library and the precision in which the network is trained. Layers made by its
            `convolution_block` and `dense` compute with them; a network may also use any other layer of MindSpore.

    Attributes:
        settings: those given, and `name`, the name of the module.
        num_classes: how many outputs the network has.
    """

    dropout_shape: tuple[int, ...] = ()
    """The shape of the dropout masks of one image; () if the network has no dropout."""

    optional_parameters: frozenset[str] = frozenset()
    """The names of the parameters that a checkpoint may lack; they are then 0."""

    output_parameters: frozenset[str] = frozenset()
    """The names of the parameters whose shapes depend on `num_classes`. A training that starts from the weights of a
    network with another number of classes leaves these out."""

    def __init__(self, settings: Mapping[str, Setting], kernels: Kernels = MINDSPORE) -> None:
        super().__init__()
        name = type(self).__module__.rpartition(".")[2]
        self.settings: dict[str, Setting] = {"name": name, **settings}
        self.num_classes = int(settings["num_classes"])
        self.kernels = kernels

    def construct(self, images: ms.Tensor, keep: ms.Tensor | None = None) -> ms.Tensor:
        """Return logits, float32 of shape (N, num_classes).

        images: uint8 of shape (N, 3, 32, 32), RGB; resizing and normalising them is the network's work.
        keep: bool of shape (N, *dropout_shape), the values that dropout keeps; None keeps all.
        """
        raise NotImplementedError

    def filters(self) -> np.ndarray:
        """Return the weights that the report shows, those of the first convolution.

        They are float32 of shape (filters, 3, height, width).
        """
        raise NotImplementedError

    def training_pflop(self, images: int) -> float:
        """Return the cost of training on so many images, in 10^15 operations; an image counts in each epoch anew."""
        raise NotImplementedError

    @classmethod
    def settings_of(cls, values: Mapping[str, np.ndarray]) -> dict[str, Setting] | None:
        """Return the settings, less the image size, of a network whose checkpoint does not name them.

        None means that the checkpoint is not one of this network. Only AlexNet has such checkpoints, the model zoo's.

        values: the values of the checkpoint by their names.
        """
        return None
