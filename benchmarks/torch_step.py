"""The case that measures the same training step in PyTorch, which is not a dependency of this project.

It is run by a Python that has PyTorch and NumPy, so it imports nothing that needs MindSpore.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from alexnet import cifar10
from alexnet.model.alexnet_layers import CONVOLUTIONS, HIDDEN_UNITS, POOL_SIZE, POOL_STRIDE, fc1_inputs
from alexnet.training.batches import Batches
from benchmarks import dataset
from benchmarks.measure import repeat, serve


class AlexNet(nn.Module):
    """The network of `alexnet.model.networks.alexnet`, for the same images, without dropout."""

    def __init__(self, num_classes: int, image_size: int, batch_norm: bool, channels_last: bool) -> None:
        super().__init__()
        self.image_size = image_size
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (cifar10.MEAN, cifar10.STD))
        self.scale, self.shift = 1 / (255 * std), -mean / std
        layers: list[nn.Module] = []
        in_channels = cifar10.CHANNELS
        for layer in CONVOLUTIONS:
            convolution = nn.Conv2d(
                in_channels,
                layer.out_channels,
                layer.kernel_size,
                layer.stride,
                padding=layer.pad_mode,
                bias=not batch_norm,
            )
            layers += [convolution, *([nn.BatchNorm2d(layer.out_channels)] if batch_norm else []), nn.ReLU()]
            if layer.pooled:
                layers.append(nn.MaxPool2d(POOL_SIZE, POOL_STRIDE))
            in_channels = layer.out_channels
        self.convolutions = nn.Sequential(*layers)
        self.fc1 = nn.Linear(fc1_inputs(image_size, image_size), HIDDEN_UNITS)
        self.fc2 = nn.Linear(HIDDEN_UNITS, HIDDEN_UNITS)
        self.fc3 = nn.Linear(HIDDEN_UNITS, num_classes)
        self.to(memory_format=self.memory_format)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits, see `alexnet.model.networks.alexnet.AlexNet.construct`."""
        x = images.float() * self.scale + self.shift
        x = functional.interpolate(x, (self.image_size, self.image_size), mode="bilinear", align_corners=False)
        x = self.convolutions(x.contiguous(memory_format=self.memory_format)).flatten(1)
        return self.fc3(functional.relu(self.fc2(functional.relu(self.fc1(x)))))


def step(
    image_size: int,
    batch_size: int,
    batch_norm: bool,
    learning_rate: float,
    momentum: float,
    threads: int,
    amp_level: str,
    channels_last: bool,
    repetitions: int,
) -> dict[str, Any]:
    """Do training steps and nothing else, as `benchmarks.cases.step` does. O2 is autocast to bfloat16."""
    torch.set_num_threads(threads)
    network = AlexNet(cifar10.NUM_CLASSES, image_size, batch_norm, channels_last)
    optimizer = torch.optim.SGD(network.parameters(), learning_rate, momentum)
    batch = Batches(dataset.split(batch_size), 1, batch_size, 0.0, seed=1)[0]

    def train_step() -> np.ndarray:
        images, labels = (torch.from_numpy(np.ascontiguousarray(part)) for part in (batch.images, batch.labels))
        with torch.autocast("cpu", torch.bfloat16, enabled=amp_level == "O2"):
            logits = network(images).float()
        optimizer.zero_grad()
        functional.cross_entropy(logits, labels.long()).backward()
        optimizer.step()
        return logits.detach().numpy()

    return {"threads": torch.get_num_threads(), "seconds": repeat(train_step, repetitions)}


if __name__ == "__main__":
    serve(step)
