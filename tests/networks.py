"""A network whose outputs differ from image to image, and images for it."""

import mindspore as ms
import numpy as np
from numpy.typing import NDArray

from alexnet.archive.generated import draw
from alexnet.evaluation.evaluate import logits_of
from alexnet.model.networks.alexnet import AlexNet


def varied(num_classes: int, image_height: int, image_width: int) -> AlexNet:
    """Return a network whose weights are large enough for its outputs to differ, as after a training."""
    network, rng = AlexNet(num_classes, image_height, image_width, 0.5), np.random.default_rng(0)
    for name, parameter in network.parameters_and_names():
        deviation = np.sqrt(2 / np.prod(parameter.shape[1:])) if name.endswith("weight") else 0.1
        parameter.set_data(ms.Tensor(rng.normal(0, deviation, parameter.shape).astype(np.float32)))
    logits = logits_of(network, photographs(100), 100)  # each class's to mean 0 and deviation 1, lest one wins always
    scale, mean = logits.std(axis=0), logits.mean(axis=0)
    network.fc3.weight.set_data(ms.Tensor(network.fc3.weight.asnumpy() / scale[:, None]))
    network.fc3.bias.set_data(ms.Tensor((network.fc3.bias.asnumpy() - mean) / scale))
    return network


def photographs(count: int) -> NDArray[np.uint8]:
    """Return generated images of all ten kinds, uint8 of shape (count, 3, 32, 32)."""
    kinds = [draw(kind, -(-count // 10), np.random.default_rng(kind)) for kind in range(10)]
    images: NDArray[np.uint8] = np.stack(kinds, axis=1).reshape(-1, 3, 32, 32)[:count]
    return images
