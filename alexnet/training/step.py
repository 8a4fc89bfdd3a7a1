"""One training step: forward, backward, update."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.dataset import GeneratorDataset

from alexnet.model.network import Network
from alexnet.training.batches import Batch, Batches
from alexnet.training.recipe import Recipe
from alexnet.training.workers import ALONE, Worker


class Step:
    """The steps of a training; call it with a batch and a learning rate.

    Args:
        network: updated in place.
        recipe: its momentum, weight decay, label smoothing and average.
        worker: which of how many this process is; gradients and batch normalisation's running statistics are averaged.
    """

    def __init__(self, network: Network, recipe: Recipe, worker: Worker = ALONE) -> None:
        self._network, self._recipe, self._worker = network, recipe, worker
        loss_scale = network.kernels.loss_scale
        trained = network.trainable_params()
        decayed = [parameter for parameter in trained if parameter.ndim > 1]
        others = [parameter for parameter in trained if parameter.ndim == 1]
        groups = [{"params": decayed, "weight_decay": float(recipe.weight_decay)}, {"params": others}]
        values = float(recipe.learning_rate), float(recipe.momentum)
        # nn.Momentum takes use_nesterov too, but on the CPU it changes nothing (2.8.0); nn.SGD is slower.
        self.optimizer = optimizer = (
            nn.SGD(groups, *values, nesterov=True, loss_scale=loss_scale)
            if recipe.use_nesterov and recipe.momentum
            else nn.Momentum(groups, *values, loss_scale=loss_scale)
        )
        weights = dict(network.parameters_and_names())
        self._statistics = {name: weight for name, weight in weights.items() if not weight.requires_grad}
        self._averages = {
            name: ms.Parameter(weight.asnumpy().copy(), name=f"average.{name}", requires_grad=False)
            for name, weight in weights.items()
            if recipe.ema_decay
        }
        self.parameters: dict[str, ms.Parameter] = weights | {
            parameter.name: parameter for parameter in (*optimizer.get_parameters(), *self._averages.values())
        }
        """All that a state must have, by name: weights, momentum, averages."""

        network.set_train(True)
        loss_function = nn.CrossEntropyLoss(label_smoothing=float(recipe.label_smoothing))

        def forward(images: ms.Tensor, labels: ms.Tensor, keep: ms.Tensor | None) -> tuple[ms.Tensor, ms.Tensor]:
            logits = network(images, keep).astype(ms.float32)
            return loss_function(logits, labels) * loss_scale, logits

        gradients_of = ms.value_and_grad(forward, None, optimizer.parameters, has_aux=True)
        average = worker.gradient_reducer(optimizer)

        def backward(
            images: ms.Tensor, labels: ms.Tensor, keep: ms.Tensor | None
        ) -> tuple[ms.Tensor, tuple[ms.Tensor, ...]]:
            (_, logits), gradients = gradients_of(images, labels, keep)
            return logits, average(gradients)

        def move(rate: ms.Tensor, *gradients: ms.Tensor) -> None:
            ops.assign(optimizer.learning_rate, rate)
            optimizer(gradients)

        def update(images: ms.Tensor, labels: ms.Tensor, rate: ms.Tensor, keep: ms.Tensor | None = None) -> ms.Tensor:
            logits, gradients = backward(images, labels, keep)
            move(rate, *gradients)
            return logits

        # Gradients are arguments of their own: a graph that takes a tuple is compiled anew for every new tuple.
        if network.kernels.library == "onednn":
            # In a graph with the layers, MindSpore updates some weights while oneDNN computes the gradients of others,
            # and their threads get in each other's way. In graphs of their own they take turns.
            backward, move = ms.jit(backward), ms.jit(move)
        else:
            update = ms.jit(update)

        pairs = tuple((self._averages[name], weights[name]) for name in self._averages)
        decay = recipe.ema_decay

        @ms.jit
        def follow() -> ms.Tensor:
            for averaged, weight in pairs:
                ops.assign(averaged, averaged * decay + weight * (1 - decay))
            return pairs[0][0]

        self._update, self._follow = update, follow

    def __call__(self, batch: Batch, rate: np.float32) -> np.ndarray:
        """Do one step; return the logits before it, float32 of shape (N, num_classes)."""
        return self._finish(self._update(*map(ms.Tensor, _columns(batch, rate).values())))

    def sink(self, batches: Batches, rates: np.ndarray, first: int) -> Callable[[], np.ndarray]:
        """Return what does the steps from `first` on, one a call, and returns what a call of this does.

        A thread of its own makes the batches, and MindSpore sends them to the device's queue ahead of their steps
        (data sinking: https://www.mindspore.cn/docs/en/master/api_python/mindspore/mindspore.data_sink.html).
        Ascend and GPU only.
        """
        rows = _Rows(copy(batches), rates, first)  # a copy, for what it keeps of an epoch belongs to one thread
        names = list(_columns(batches[first], rates[first]))
        dataset = GeneratorDataset(rows, names, num_parallel_workers=1, shuffle=False)
        update = ms.data_sink(self._update, dataset)
        return lambda: self._finish(update())

    def _finish(self, result: ms.Tensor) -> np.ndarray:
        logits = result.asnumpy()
        if self._worker.workers > 1 and self._statistics:
            means = self._worker.mean(*np.concatenate([weight.asnumpy() for weight in self._statistics.values()]))
            ends = np.cumsum([weight.size for weight in self._statistics.values()])
            self.set(dict(zip(self._statistics, np.split(means, ends[:-1]), strict=True)))
        if self._averages:
            self._follow()
        return logits

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the network hold the averages, if the recipe has any, while the context lasts."""
        trained = {name: self.parameters[name].asnumpy().copy() for name in self._averages}
        self.take_averages()
        try:
            yield
        finally:
            self.set(trained)

    def take_averages(self) -> None:
        """Put the averages, if the recipe has any, in the place of the network's weights."""
        self.set({name: average.asnumpy() for name, average in self._averages.items()})

    def set(self, values: Mapping[str, np.ndarray]) -> None:
        """Set parameters, by name.

        Not by `set_data`: after it, `asnumpy` no longer sees what a graph compiled before it does to the parameter.
        """
        for name, value in values.items():
            ops.assign(self.parameters[name], ms.Tensor(value))


def _columns(batch: Batch, rate: np.float32) -> dict[str, np.ndarray]:
    # What the compiled update takes, in its order.
    columns = {"images": batch.images, "labels": batch.labels, "rate": np.asarray(rate)}
    return columns if batch.keep is None else columns | {"keep": batch.keep}


class _Rows:
    # What GeneratorDataset reads: the batches and rates from step `first` on.
    def __init__(self, batches: Batches, rates: np.ndarray, first: int) -> None:
        self._batches, self._rates, self._first = batches, rates, first

    def __len__(self) -> int:
        return len(self._batches) - self._first

    def __getitem__(self, row: int) -> tuple[np.ndarray, ...]:
        step = self._first + row
        return tuple(_columns(self._batches[step], self._rates[step]).values())
