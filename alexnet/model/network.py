"""The interface of a network: what the rest of the project needs from it."""

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import nn

from alexnet.kernels.choice import MINDSPORE, Kernels

Setting = int | float | bool | str


class Network(nn.Cell):
    """The base class of all networks.

    To add a network, write a module in `alexnet/model/networks` with a subclass of this class, and assign the subclass
    to `NETWORK` in that module. Its constructor is called with those of the following keyword arguments that are among
    its parameters, or with all of them if it takes `**kwargs`:

    - the parameters of the section `model` of params.yaml, except for `name`: `num_classes`, `image_height`,
      `image_width`, `dropout_rate`, `batch_norm`, and any that are added there for a network of one's own;
    - `kernels`;
    - when the network is to be trained, `weight_init` and `seed` for the initial weights; so these need defaults.

    Args:
        settings: the arguments that are needed to create the network again from a checkpoint, which stores them: all
            that the constructor has, except for `dropout_rate`, `kernels`, `weight_init` and `seed`. Each must be an
            int, a float, a bool or a str that is not empty, and `num_classes` must be among them.
        kernels: the library and the precision that compute the layers made by `kernels.convolution_block` and
            `kernels.dense`. A network may also use any other layer of MindSpore.

    Attributes:
        settings: the given settings, and `name`, the name of the module.
        num_classes: the number of outputs of the network.
        kernels: the given kernels.

    Raises KeyError when `num_classes` is not among the settings, and TypeError when a setting is of another type, or
    the subclass lacks one of the methods `construct`, `first_layers` and `training_pflop`.
    """

    description: str = ""
    """A sentence that says what kind of network this is, for the report and the model card. It may be empty."""

    dropout_shape: tuple[int, ...] = ()
    """The shape of the dropout masks of one image; () if the network has no dropout."""

    optional_parameters: frozenset[str] = frozenset()
    """The names of the parameters that a checkpoint may lack; those that it lacks are set to 0."""

    output_parameters: frozenset[str] = frozenset()
    """The names of the parameters whose shapes depend on `num_classes`. A training that starts from the weights of a
    network with another number of classes leaves these out."""

    def __init__(self, settings: Mapping[str, Setting], kernels: Kernels = MINDSPORE) -> None:
        super().__init__()
        for key, value in settings.items():
            if not isinstance(value, Setting) or value == "":
                raise TypeError(f"the setting {key} is {value!r}, expected an int, a float, a bool or some text")
        for method in ("construct", "first_layers", "training_pflop"):  # some are called only after the training
            if getattr(type(self), method) is getattr(Network, method):
                raise TypeError(f"the network {type(self).__name__} has no method {method}, see {Network.__module__}")
        name = type(self).__module__.rpartition(".")[2]
        self.settings: dict[str, Setting] = {"name": name, **settings}
        self.num_classes = int(settings["num_classes"])
        self.kernels = kernels

    def construct(self, images: ms.Tensor, keep: ms.Tensor | None = None) -> ms.Tensor:
        """Return logits of shape (N, num_classes): float32, or float16 where the kernels compute in that.

        Args:
            images: uint8 of shape (N, 3, 32, 32), RGB. The network itself resizes and normalises them.
            keep: bool of shape (N, *dropout_shape), the values that dropout keeps; None keeps all.
        """
        raise NotImplementedError

    def first_layers(self) -> tuple[nn.Cell, nn.Conv2d]:
        """Return what is done with raw images first, and the first convolution, which takes the result.

        The report shows the filters of this convolution, and whitening sets them.
        """
        raise NotImplementedError

    def training_pflop(self, images: int) -> float:
        """Return the cost of training on this many images, in 10^15 operations. An image counts once an epoch."""
        raise NotImplementedError

    @classmethod
    def settings_of(cls, values: Mapping[str, np.ndarray]) -> dict[str, Setting] | None:
        """Return the settings, except for the image size, of a checkpoint that does not store them.

        Only AlexNet has such checkpoints, those of the model zoo. The result is None when the checkpoint is not of this
        network.

        Args:
            values: the values in the checkpoint, by name.
        """
        return None
