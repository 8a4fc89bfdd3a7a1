"""The trained network as a classifier: from images in the usual layout to the probability of each class."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from alexnet.cifar10 import class_name
from alexnet.model.network import Network


class Classifier(nn.Cell):
    """A trained network that takes images with the channels last, and returns probabilities.

    Args:
        network: the network with its trained weights. At O2, MindSpore's kernels would make the probabilities float16.

    Attributes:
        class_names: the names of the outputs, in their order.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(auto_prefix=False)  # the parameters keep their names
        self.network = network
        self.class_names = [class_name(label) for label in range(network.num_classes)]
        self.set_train(False)

    def construct(self, images: ms.Tensor) -> ms.Tensor:
        """Return the probability of each class, float32 of shape (N, num_classes).

        Args:
            images: uint8 of shape (N, 32, 32, 3), channels in the order red, green, blue.
        """
        return ops.softmax(self.network(images.transpose((0, 3, 1, 2))), -1)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return the probability of each class, float32 of shape (N, num_classes).

        images: uint8 of shape (N, 32, 32, 3), channels red, green, blue.
        """
        answer: np.ndarray = self(ms.Tensor(images)).asnumpy()
        return answer
