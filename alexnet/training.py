"""Training: one loop over all steps, readable from top to bottom, that can be stopped anywhere and gone on with."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.train import Callback, RunContext
from mindspore.train.callback import _CallbackManager, _InternalCallbackParam

from alexnet.cluster import ALONE, Worker
from alexnet.dataset import Batches
from alexnet.errors import InputError, Stopped
from alexnet.evaluation import cross_entropy
from alexnet.network import AlexNet
from alexnet.state import States

CHECK_STEPS = 100
"""Steps from one look for values that are not finite to the next. The loss is looked at in every step, but on the CPU
ReLU and max-pooling turn NaN into 0, so that it can stay finite while the weights are lost."""

LOSS_SCALE = 1024.0
"""Of mixed precision: gradients are computed this much larger, lest they vanish in float16; the zoo's is 1024."""


@dataclass(frozen=True)
class History:
    """What each step came to, in order: arrays of shape (steps,), float32.

    loss: the mean over the global batch, before the step's update.
    accuracy: of the global batch, before the step's update.
    learning_rate: of the step's update.
    seconds: how long the step took, the wait for its batch included.
    save_seconds: how long saving the state after the step took, 0 where it was not saved.
    """

    loss: np.ndarray
    accuracy: np.ndarray
    learning_rate: np.ndarray
    seconds: np.ndarray
    save_seconds: np.ndarray


def train(
    network: AlexNet,
    batches: Batches,
    *,
    learning_rate: float,
    momentum: float,
    amp_level: str = "O0",
    worker: Worker = ALONE,
    states: States | None = None,
    save_checkpoint_steps: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train the network in place on all batches: softmax cross entropy, stochastic gradient descent with momentum.

    Args:
        network: with its initial weights.
        batches: this worker's shard of each batch.
        learning_rate: of every step.
        momentum: share of the last update in the next, as `nn.Momentum`.
        amp_level: O0 computes in float32; O2 has the layers compute in float16, and keeps the weights, their updates,
            the resize and the loss in float32, as MindSpore's level of that name does.
        worker: which of how many this process is; their gradients are averaged.
        states: where the state is saved and found again; None saves none. A state found there is gone on from, and
            the result is the same, bit for bit on the CPU, as without the interruption.
        save_checkpoint_steps: steps from one saved state to the next; None saves after each epoch.
        stop: asked after each step whether to end early.
        callbacks: MindSpore's. The context they get has `epoch_num`, `batch_num` (steps an epoch), `batch_size` (the
            global one), `cur_epoch_num` and `cur_step_num` (both from 1, the latter over all epochs; 0 before the
            first step), `net_outputs` (the loss, a float32), `learning_rate`, `train_network` and `optimizer`.

    Raises Stopped, the state saved, when `stop` says so to any worker, and InputError, the states before kept, when
    the loss, a weight or a momentum becomes NaN or infinite (a gradient that does makes its momentum so).
    """
    steps, steps_per_epoch = len(batches), batches.steps_per_epoch
    history = History(*(np.zeros(steps, np.float32) for _ in range(5)))
    loss_scale = 1.0 if amp_level == "O0" else LOSS_SCALE
    optimizer = nn.Momentum(network.trainable_params(), learning_rate, momentum, loss_scale=loss_scale)
    parameters = dict(network.parameters_and_names()) | {
        parameter.name: parameter for parameter in optimizer.get_parameters()
    }
    first = _restore(states, parameters, history) if states else 0
    worker.wait_for_all()  # before one of them saves what another reads

    network.set_train(True)
    if amp_level != "O0":
        for layer in network.cells():
            layer.to_float(ms.float16)
    loss_function = nn.CrossEntropyLoss()

    def forward(images: ms.Tensor, labels: ms.Tensor, keep: ms.Tensor | None) -> tuple[ms.Tensor, ms.Tensor]:
        logits = network(images, keep).astype(ms.float32)
        return loss_function(logits, labels) * loss_scale, logits

    gradients_of = ms.value_and_grad(forward, None, optimizer.parameters, has_aux=True)
    average = worker.gradient_reducer(optimizer)

    @ms.jit
    def train_step(images: ms.Tensor, labels: ms.Tensor, keep: ms.Tensor | None, rate: ms.Tensor) -> ms.Tensor:
        (_, logits), gradients = gradients_of(images, labels, keep)
        ops.assign(optimizer.learning_rate, rate)
        optimizer(average(gradients))
        return logits

    context = _InternalCallbackParam(
        epoch_num=batches.epoch_size,
        batch_num=steps_per_epoch,
        batch_size=batches.batch_size,
        train_network=network,
        optimizer=optimizer,
        cur_step_num=first,
    )
    run = RunContext(context)
    with _CallbackManager(list(callbacks)) as observers:
        observers.on_train_begin(run)
        for step in range(first, steps):
            start = time.perf_counter()
            images, labels, keep = batches[step]
            history.learning_rate[step] = learning_rate
            logits = train_step(
                ms.Tensor(images),
                ms.Tensor(labels),
                None if keep is None else ms.Tensor(keep),
                ms.Tensor(history.learning_rate[step]),
            ).asnumpy()
            loss, accuracy = cross_entropy(logits, labels).mean(), (logits.argmax(axis=1) == labels).mean()
            history.loss[step], history.accuracy[step], asked = worker.mean(loss, accuracy, stop())
            history.seconds[step] = time.perf_counter() - start

            done = step + 1
            epoch, step_of_epoch = step // steps_per_epoch + 1, step % steps_per_epoch + 1
            if not np.isfinite(history.loss[step]):
                raise _failed(f"the loss is {history.loss[step]}", epoch, step_of_epoch, learning_rate)
            context.cur_epoch_num, context.cur_step_num = epoch, done
            context.net_outputs, context.learning_rate = history.loss[step], history.learning_rate[step]
            observers.on_train_step_end(run)
            if step_of_epoch == steps_per_epoch:
                observers.on_train_epoch_end(run)

            save = bool(states) and (bool(asked) or done % (save_checkpoint_steps or steps_per_epoch) == 0)
            if save or done % CHECK_STEPS == 0 or done == steps:
                for name, parameter in parameters.items():
                    if not np.isfinite(parameter.asnumpy()).all():
                        raise _failed(f"{name} is NaN or infinite", epoch, step_of_epoch, learning_rate)
            if save and states and worker.rank == 0:
                start = time.perf_counter()
                _save(states, epoch, step_of_epoch, done, parameters, history)
                history.save_seconds[step] = time.perf_counter() - start
            if asked and done < steps:
                raise Stopped(f"stopped after epoch {epoch} step {step_of_epoch}" + (", state saved" if save else ""))
        observers.on_train_end(run)
    return history


def _failed(what: str, epoch: int, step: int, learning_rate: float) -> InputError:
    return InputError(f"{what} in epoch {epoch} step {step}: try a learning_rate below {learning_rate}")


def _save(
    states: States, epoch: int, step: int, done: int, parameters: dict[str, ms.Parameter], history: History
) -> None:
    extra = {f"history.{name}": ms.Tensor(values[:done]) for name, values in vars(history).items()}
    states.save(epoch, step, parameters | extra)


def _restore(states: States, parameters: dict[str, ms.Parameter], history: History) -> int:
    # Returns how many steps are done.
    values = states.newest()
    if values is None:
        return 0
    for name, parameter in parameters.items():
        parameter.set_data(ms.Tensor(values[name]))
    done = len(values["history.loss"])
    for name, array in vars(history).items():
        array[:done] = values[f"history.{name}"]
    return done
