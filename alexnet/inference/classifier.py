"""The trained network as a classifier: from images in the usual layout to the probability of each class."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from alexnet.cifar10 import class_name
from alexnet.model.network import Network
from alexnet.runtime.errors import InputError


class Classifier(nn.Cell):
    """A trained network that takes images with the channels last, and returns probabilities.

    Args:
        network: the network with its trained weights.

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


def likeliest(classifier: Classifier, image: np.ndarray, count: int) -> dict[str, float]:
    """Return the likeliest classes of an image and their probabilities, the likeliest first.

    Args:
        classifier: the trained network.
        image: uint8 of shape (32, 32, 3).
        count: how many classes to return.

    Raises InputError when the probabilities are NaN.
    """
    probabilities = classifier(ms.Tensor(image[None])).asnumpy()[0]
    if not np.isfinite(probabilities).all():
        raise InputError("the network's output is NaN: its weights are too large, train it again")
    order = np.argsort(-probabilities, kind="stable")[:count]
    return {classifier.class_names[label]: float(probabilities[label]) for label in order}
