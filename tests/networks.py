"""A network whose outputs differ from image to image, images for it, and a network that takes little space."""

from collections.abc import Iterator
from contextlib import contextmanager

import mindspore as ms
import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.archive.generated import draw
from alexnet.evaluation.evaluate import logits_of
from alexnet.model import alexnet_layers
from alexnet.model.networks.alexnet import AlexNet
from tests.workspaces import NARROWER


@contextmanager
def narrow() -> Iterator[None]:
    """Make each AlexNet of this process narrow, so that its checkpoint takes a few hundred kB instead of 90 MB."""
    convolutions = tuple(
        layer._replace(out_channels=layer.out_channels // NARROWER) for layer in alexnet_layers.CONVOLUTIONS
    )
    hidden_units = alexnet_layers.HIDDEN_UNITS // NARROWER**2
    with pytest.MonkeyPatch.context() as patch:
        for module in ("alexnet.model.alexnet_layers", "alexnet.model.networks.alexnet"):
            patch.setattr(f"{module}.CONVOLUTIONS", convolutions)
            patch.setattr(f"{module}.HIDDEN_UNITS", hidden_units)
        patch.setattr(AlexNet, "dropout_shape", (alexnet_layers.DROPOUT_LAYERS, hidden_units))
        yield


def varied(num_classes: int, image_height: int, image_width: int) -> AlexNet:
    """Return a network whose weights are large enough for its outputs to differ, as after a training."""
    network, rng = AlexNet(num_classes, image_height, image_width, 0.5), np.random.default_rng(0)
    for name, parameter in network.parameters_and_names():
        deviation = np.sqrt(2 / np.prod(parameter.shape[1:])) if name.endswith("weight") else 0.1
        parameter.set_data(ms.Tensor(rng.normal(0, deviation, parameter.shape).astype(np.float32)))
    logits = logits_of(network, drawings(100), 100)  # scaled to mean 0 and deviation 1, so that every class can win
    scale, mean = logits.std(axis=0), logits.mean(axis=0)
    network.fc3.weight.set_data(ms.Tensor(network.fc3.weight.asnumpy() / scale[:, None]))
    network.fc3.bias.set_data(ms.Tensor((network.fc3.bias.asnumpy() - mean) / scale))
    return network


def drawings(count: int) -> NDArray[np.uint8]:
    """Return generated images of all ten kinds, uint8 of shape (count, 3, 32, 32)."""
    kinds = [draw(kind, -(-count // 10), np.random.default_rng(kind)) for kind in range(10)]
    images: NDArray[np.uint8] = np.stack(kinds, axis=1).reshape(-1, 3, 32, 32)[:count]
    return images
