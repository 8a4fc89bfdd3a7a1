"""One training step: the forward pass, the backward pass, and the update of the weights."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.dataset import GeneratorDataset

from alexnet.model.network import Network
from alexnet.runtime.errors import InputError
from alexnet.training.batches import Batch, Batches
from alexnet.training.recipe import Recipe
from alexnet.training.workers import ALONE, Worker


def make_optimizer(network: Network, recipe: Recipe) -> nn.Optimizer:
    """Return the optimizer for a recipe. Weights decay; biases and the parameters of batch normalisation do not."""
    trainable = network.trainable_params()
    decayed = [parameter for parameter in trainable if parameter.ndim > 1]
    others = [parameter for parameter in trainable if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": float(recipe.weight_decay)}] if decayed else []
    groups += [{"params": others}] if others else []  # MindSpore refuses an empty group
    rate, momentum, loss_scale = float(recipe.learning_rate), float(recipe.momentum), network.kernels.loss_scale
    # nn.Momentum has a parameter use_nesterov, but on the CPU it has no effect (MindSpore 2.8.0). nn.SGD is slower.
    if recipe.use_nesterov and recipe.momentum:
        return nn.SGD(groups, rate, momentum, nesterov=True, loss_scale=loss_scale)
    return nn.Momentum(groups, rate, momentum, loss_scale=loss_scale)


def _batch_norms(network: Network) -> list[nn.Cell]:
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    return [cell for _, cell in network.cells_and_names() if isinstance(cell, norms)]


def _learning_rate_factors(network: Network, recipe: Recipe, optimizer: nn.Optimizer) -> tuple[float, ...]:
    # Returns the factor of the learning rate for each parameter of the optimizer.
    biases = {id(norm.beta) for norm in _batch_norms(network)}
    factor = float(recipe.batch_norm_bias_lr_factor)
    if factor != 1 and not biases:
        raise InputError(
            f"batch_norm_bias_lr_factor is {factor:g}, expected 1, because the network has no batch normalisation"
        )
    return tuple(factor if id(parameter) in biases else 1.0 for parameter in optimizer.parameters)


class WeightAverage:
    """The exponential moving averages of weights.

    Args:
        weights: the parameters to average, by name. Their present values are the first averages.
        decay: the share of the old average in the new one, above 0 and below 1.

    Attributes:
        values: the averages, by the names of the weights. The names of these parameters begin with `average.`.
    """

    def __init__(self, weights: Mapping[str, ms.Parameter], decay: float) -> None:
        self.values: dict[str, ms.Parameter] = {
            name: ms.Parameter(weight.asnumpy().copy(), name=f"average.{name}", requires_grad=False)
            for name, weight in weights.items()
        }
        pairs = tuple((self.values[name], weight) for name, weight in weights.items())

        @ms.jit
        def update_averages() -> ms.Tensor:
            for average, weight in pairs:
                ops.assign(average, average * decay + weight * (1 - decay))
            return pairs[0][0]

        self._update_averages = update_averages

    def update(self) -> None:
        """Update the averages with the present weights."""
        self._update_averages()


class Step:
    """A training step. Call it with a batch and a learning rate.

    Args:
        network: the network, whose weights are updated in place.
        recipe: how the weights are updated. Its schedule is not used, because each call is given its learning rate.
        worker: this process among all workers. Gradients and batch normalisation's running statistics are averaged over
            them.

    Attributes:
        optimizer: the optimizer that updates the weights.

    Raises InputError when the recipe has a factor for the biases of batch normalisation, and the network has none.
    """

    def __init__(self, network: Network, recipe: Recipe, worker: Worker = ALONE) -> None:
        self._network, self._recipe, self._worker = network, recipe, worker
        loss_scale = network.kernels.loss_scale
        self.optimizer = optimizer = make_optimizer(network, recipe)
        weights = dict(network.parameters_and_names())
        running = {id(value) for norm in _batch_norms(network) for value in (norm.moving_mean, norm.moving_variance)}
        self._statistics = {name: weight for name, weight in weights.items() if id(weight) in running}
        self._average = WeightAverage(weights, recipe.ema_decay) if recipe.ema_decay else None
        averages = self._average.values.values() if self._average else ()
        self.parameters: dict[str, ms.Parameter] = weights | {
            parameter.name: parameter for parameter in (*optimizer.get_parameters(), *averages)
        }
        """All parameters that a saved state must have, by name: the network's, the optimizer's, and the averages."""

        network.set_train(True)
        loss_function = nn.CrossEntropyLoss(label_smoothing=float(recipe.label_smoothing))

        def forward(images: ms.Tensor, labels: ms.Tensor, keep: ms.Tensor | None) -> tuple[ms.Tensor, ms.Tensor]:
            logits = network(images, keep).astype(ms.float32)
            return loss_function(logits, labels) * loss_scale, logits

        gradients_of = ms.value_and_grad(forward, None, optimizer.parameters, has_aux=True)
        mean_over_workers = worker.gradient_reducer(optimizer)

        def backward(
            images: ms.Tensor, labels: ms.Tensor, keep: ms.Tensor | None
        ) -> tuple[ms.Tensor, tuple[ms.Tensor, ...]]:
            (_, logits), gradients = gradients_of(images, labels, keep)
            return logits, mean_over_workers(gradients)

        factors = _learning_rate_factors(network, recipe, optimizer)

        def apply(rate: ms.Tensor, *gradients: ms.Tensor) -> None:
            # Each gradient is an argument of its own, because a graph that takes a tuple is compiled for every tuple.
            ops.assign(optimizer.learning_rate, rate)
            # In SGD with momentum, this is the same as a larger rate, because these parameters do not decay.
            pairs = zip(gradients, factors)  # noqa: B905, because MindSpore cannot compile `strict`
            optimizer(tuple([gradient if factor == 1 else gradient * factor for gradient, factor in pairs]))

        # With oneDNN, a step is two graphs, which run one after the other. In one graph, MindSpore would update some
        # weights while oneDNN computes the gradients of others, and their threads would slow each other down.
        two_graphs = network.kernels.library == "onednn"
        run_backward, run_apply = (ms.jit(backward), ms.jit(apply)) if two_graphs else (backward, apply)

        def update(images: ms.Tensor, labels: ms.Tensor, rate: ms.Tensor, keep: ms.Tensor | None = None) -> ms.Tensor:
            logits, gradients = run_backward(images, labels, keep)
            run_apply(rate, *gradients)
            return logits

        self._update = update if two_graphs else ms.jit(update)

    def __call__(self, batch: Batch, rate: np.float32) -> np.ndarray:
        """Do one step; return the logits before its update, float32 of shape (N, num_classes)."""
        return self._finish(self._update(*map(ms.Tensor, _columns(batch, rate).values())))

    def sink(self, batches: Batches, rates: np.ndarray, first: int) -> Callable[[], np.ndarray]:
        """Return a function that does one step at each call, starting with step `first`.

        It returns the logits before the step's update, float32 of shape (N, num_classes).

        A thread makes the batches, and MindSpore sends them to the queue of the device before their steps begin. This
        data sinking works only on Ascend and GPU.

        Source: https://www.mindspore.cn/docs/en/master/api_python/mindspore/mindspore.data_sink.html
        """
        # The thread gets a copy of the batches, because they remember the order of an epoch, which is not thread-safe.
        rows = _Rows(copy(batches), rates, first)
        names = list(_columns(batches[first], rates[first]))
        dataset = GeneratorDataset(rows, names, num_parallel_workers=1, shuffle=False)
        update = ms.data_sink(self._update, dataset)
        return lambda: self._finish(update())

    def _finish(self, result: ms.Tensor) -> np.ndarray:
        logits = result.asnumpy()
        if self._worker.workers > 1 and self._statistics:
            means = self._worker.mean(np.concatenate([weight.asnumpy() for weight in self._statistics.values()]))
            ends = np.cumsum([weight.size for weight in self._statistics.values()])
            self.set(dict(zip(self._statistics, np.split(means, ends[:-1]), strict=True)))
        if self._average:
            self._average.update()
        return logits

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """In the body, the weights of the network are their averages, if the recipe has any."""
        names = self._average.values if self._average else ()
        weights = {name: self.parameters[name].asnumpy().copy() for name in names}
        self.take_averages()
        try:
            yield
        finally:
            self.set(weights)

    def take_averages(self) -> None:
        """Replace the weights of the network with their averages, if the recipe has any."""
        if self._average:
            self.set({name: average.asnumpy() for name, average in self._average.values.items()})

    def set(self, values: Mapping[str, np.ndarray]) -> None:
        """Set parameters, by name, to the given values."""
        # Not with `set_data`: after it, `asnumpy` does not see the updates by graphs that were compiled before.
        for name, value in values.items():
            ops.assign(self.parameters[name], ms.Tensor(value))


def _columns(batch: Batch, rate: np.float32) -> dict[str, np.ndarray]:
    # Returns the arguments of `update`, in their order.
    columns = {"images": batch.images, "labels": batch.labels, "rate": np.asarray(rate)}
    return columns if batch.keep is None else columns | {"keep": batch.keep}


class _Rows:
    # The rows that GeneratorDataset reads: the batches and learning rates from step `first` on.
    def __init__(self, batches: Batches, rates: np.ndarray, first: int) -> None:
        self._batches, self._rates, self._first = batches, rates, first

    def __len__(self) -> int:
        return len(self._batches) - self._first

    def __getitem__(self, row: int) -> tuple[np.ndarray, ...]:
        step = self._first + row
        return tuple(_columns(self._batches[step], self._rates[step]).values())
