"""The same training step in PyTorch, which is no dependency of this project.

Run by a Python that has PyTorch and NumPy, so it imports nothing that needs MindSpore.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from alexnet import cifar10
from alexnet.model.alexnet_layers import CONVOLUTIONS, DROPOUT_LAYERS, HIDDEN_UNITS, POOL_SIZE, POOL_STRIDE, features
from alexnet.training.batches import Batches
from benchmarks import pictures
from benchmarks.measure import repeat, serve


class AlexNet(nn.Module):
    """AlexNet as in `alexnet.model.networks.alexnet`, with the same inputs, but without batch normalisation."""

    def __init__(self, num_classes: int, image_size: int, dropout_rate: float, channels_last: bool) -> None:
        super().__init__()
        self.image_size, self.dropout_rate = image_size, dropout_rate
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (cifar10.MEAN, cifar10.STD))
        self.scale, self.shift = 1 / (255 * std), -mean / std
        layers: list[nn.Module] = []
        in_channels = cifar10.CHANNELS
        for layer in CONVOLUTIONS:
            convolution = nn.Conv2d(
                in_channels, layer.out_channels, layer.kernel_size, layer.stride, padding=layer.pad_mode
            )
            layers += [convolution, nn.ReLU()]
            if layer.pooled:
                layers.append(nn.MaxPool2d(POOL_SIZE, POOL_STRIDE))
            in_channels = layer.out_channels
        self.convolutions = nn.Sequential(*layers)
        self.fc1 = nn.Linear(features(image_size, image_size), HIDDEN_UNITS)
        self.fc2 = nn.Linear(HIDDEN_UNITS, HIDDEN_UNITS)
        self.fc3 = nn.Linear(HIDDEN_UNITS, num_classes)
        self.to(memory_format=self.memory_format)

    def forward(self, images: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Return logits; see `alexnet.model.networks.alexnet.AlexNet.construct`."""
        x = images.float() * self.scale + self.shift
        x = functional.interpolate(x, (self.image_size, self.image_size), mode="bilinear", align_corners=False)
        x = self.convolutions(x.contiguous(memory_format=self.memory_format)).flatten(1)
        x = functional.relu(self.fc1(x)) * keep[:, 0] / (1 - self.dropout_rate)
        x = functional.relu(self.fc2(x)) * keep[:, 1] / (1 - self.dropout_rate)
        return self.fc3(x)


def step(
    image_size: int,
    batch_size: int,
    dropout_rate: float,
    learning_rate: float,
    momentum: float,
    threads: int,
    channels_last: bool,
    repetitions: int,
) -> dict[str, Any]:
    """Do float32 training steps and nothing else, the same work as in `benchmarks.cases.step`."""
    torch.set_num_threads(threads)
    network = AlexNet(cifar10.NUM_CLASSES, image_size, dropout_rate, channels_last)
    optimizer = torch.optim.SGD(network.parameters(), learning_rate, momentum)
    shape = DROPOUT_LAYERS, HIDDEN_UNITS
    batch = Batches(pictures.split(batch_size), 1, batch_size, dropout_rate, seed=1, dropout_shape=shape)[0]

    def train_step() -> np.ndarray:
        images, labels, keep = (torch.from_numpy(np.ascontiguousarray(part)) for part in batch)
        logits = network(images, keep)
        optimizer.zero_grad()
        functional.cross_entropy(logits, labels.long()).backward()
        optimizer.step()
        return logits.detach().numpy()

    return {"threads": torch.get_num_threads(), "seconds": repeat(train_step, repetitions)}


if __name__ == "__main__":
    serve(step)
