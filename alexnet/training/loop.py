"""Training: one loop over all steps, which can be stopped and resumed after any of them."""

import logging
import time
from collections.abc import Callable, Sequence

import mindspore as ms
import numpy as np
from mindspore.train import Callback, RunContext
from mindspore.train.callback import _CallbackManager, _InternalCallbackParam

from alexnet.cifar10 import Split
from alexnet.evaluation.evaluate import Infer, compiled, evaluate
from alexnet.model.network import Network
from alexnet.runtime.errors import InputError, Stopped
from alexnet.training.batches import Batches
from alexnet.training.history import History, measure
from alexnet.training.recipe import Recipe
from alexnet.training.schedule import learning_rates
from alexnet.training.state import States
from alexnet.training.step import Step
from alexnet.training.workers import ALONE, Worker

log = logging.getLogger(__name__)

CHECK_STEPS = 100
"""How many steps there are between two checks of all weights for NaN and infinity.

The loss is checked at every step. That is not enough: on the CPU, ReLU and max-pooling turn NaN into 0, so the loss can
be finite although the weights are not."""


def train(
    network: Network,
    batches: Batches,
    recipe: Recipe,
    *,
    validation: Split | None = None,
    dataset_sink_mode: bool = False,
    worker: Worker = ALONE,
    states: States | None = None,
    save_checkpoint_steps: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train the network in place on all batches, by stochastic gradient descent on the softmax cross entropy.

    Args:
        network: the network with its initial weights.
        batches: this worker's shard of each batch.
        recipe: how each step updates the weights.
        validation: images on which to evaluate the network after each epoch, or None.
        dataset_sink_mode: whether batches are made and sent to the device ahead of their steps, see `Step.sink`. The
            result is the same.
        worker: this process among all workers, over which the gradients are averaged.
        states: where worker 0, inside `states.locked()`, saves states; None saves none. If there is a state, the
            training resumes from it, and its result is the same as without the interruption, on the CPU bit for bit.
        save_checkpoint_steps: how many steps there are from one saved state to the next; None saves one after each
            epoch. The state after the last step is always saved.
        stop: whether to end early; it is called after each step.
        callbacks: callbacks of MindSpore. Their context has `epoch_num`, `batch_num` (steps per epoch), `batch_size`
            (of the global batch), `cur_epoch_num` and `cur_step_num` (counted from 1, the steps over all epochs; before
            the first step, those of the state from which the training resumes, or 0), `net_outputs` (the loss, a
            float32), `train_network`, `optimizer`, `history` (filled up to `cur_step_num`) and, at the end of an epoch
            with validation, `eval_results` with `loss` and `accuracy`.

    Returns the history of all steps and epochs.

    Raises Stopped when `stop` returns true in any worker, except after the last step; if there are `states`, the state
    is saved first. Raises InputError when the loss, a weight, a momentum or a logit of the validation becomes NaN or
    infinite, and when `Step` does. (A momentum becomes NaN when a gradient does.) Raises OSError when a state cannot be
    saved. The earlier states are kept in every case.
    """
    steps, steps_per_epoch = len(batches), batches.steps_per_epoch
    rates = learning_rates(recipe.lr_schedule, recipe.learning_rate, steps, recipe.warmup_ratio)
    history = History.empty(steps, batches.epoch_size)
    train_step = Step(network, recipe, worker)
    infer = compiled(network)
    first = _restore(states, train_step, history, worker)
    if first == steps:
        log.info("nothing is left to train: all %d steps were done before", steps)
    sunk_step = train_step.sink(batches, rates, first) if dataset_sink_mode and first < steps else None

    context = _InternalCallbackParam(
        epoch_num=batches.epoch_size,
        batch_num=steps_per_epoch,
        batch_size=batches.batch_size,
        train_network=network,
        optimizer=train_step.optimizer,
        history=history,
        cur_epoch_num=first // steps_per_epoch,
        cur_step_num=first,
    )
    run = RunContext(context)
    with _CallbackManager(list(callbacks)) as observers:
        observers.on_train_begin(run)
        for step in range(first, steps):
            start = time.perf_counter()
            logits = sunk_step() if sunk_step else train_step(batches[step], rates[step])
            measured = measure(logits, batches.labels(step))
            # The request to stop travels with the metrics, so that the workers communicate only once. A mean above 0
            # means that some worker wants to stop.
            *means, share_stopping = worker.mean([*measured.values(), stop()])
            stopping = share_stopping > 0
            history.record(step, dict(zip(measured, means, strict=True)) | {"learning_rate": rates[step]})
            history.seconds[step] = time.perf_counter() - start

            steps_done, last = step + 1, step + 1 == steps
            epoch, step_of_epoch = step // steps_per_epoch + 1, step % steps_per_epoch + 1
            if not np.isfinite(history.loss[step]):
                raise _failed(f"the loss is {history.loss[step]}", epoch, step_of_epoch, recipe)
            context.cur_epoch_num, context.cur_step_num = epoch, steps_done
            context.net_outputs = history.loss[step]
            observers.on_train_step_end(run)
            save_is_due = steps_done % (save_checkpoint_steps or steps_per_epoch) == 0 or last
            save = states is not None and (save_is_due or stopping)
            check_is_due = steps_done % CHECK_STEPS == 0 or last
            if (save or check_is_due) and (name := _not_finite(train_step)):
                raise _failed(f"{name} is NaN or infinite", epoch, step_of_epoch, recipe)
            if step_of_epoch == steps_per_epoch:
                if validation:
                    result = _validate(train_step, network, validation, batches.batch_size, infer)
                    history.record(epoch - 1, {f"validation_{name}": value for name, value in result.items()})
                    context.eval_results = result
                observers.on_train_epoch_end(run)

            if save and states and worker.rank == 0:
                start = time.perf_counter()
                _save(states, epoch, step_of_epoch, steps_done, train_step, history)
                history.save_seconds[step] = time.perf_counter() - start
            if stopping and not last:
                worker.wait_for_all()  # when a worker has ended, the launcher gives the others only seconds
                raise Stopped(f"stopped after epoch {epoch} step {step_of_epoch}" + (", state saved" if save else ""))
        observers.on_train_end(run)
    train_step.take_averages()
    return history


def _not_finite(train_step: Step) -> str | None:
    # Returns the name of a parameter that has a NaN or an infinite value, or None.
    for name, parameter in train_step.parameters.items():
        if not np.isfinite(parameter.asnumpy()).all():
            return name
    return None


def _validate(train_step: Step, network: Network, validation: Split, batch_size: int, infer: Infer) -> dict[str, float]:
    with train_step.averaged():
        result = evaluate(network, validation, batch_size, infer=infer)
    network.set_train(True)
    return {"loss": result.loss, "accuracy": result.accuracy}


def _failed(reason: str, epoch: int, step: int, recipe: Recipe) -> InputError:
    return InputError(f"{reason} in epoch {epoch} step {step}: try a learning_rate below {recipe.learning_rate}")


def _save(states: States, epoch: int, step: int, steps_done: int, train_step: Step, history: History) -> None:
    extra = {f"history.{name}": ms.Tensor(values) for name, values in vars(history).items()}
    states.save(epoch, step, train_step.parameters | extra | {"steps_done": ms.Tensor([steps_done])})


def _restore(states: States | None, train_step: Step, history: History, worker: Worker) -> int:
    # Restores the newest state and returns how many steps were done before it, or 0 if there is none. Worker 0 reads
    # the state and sends it to the others, which may be on machines that cannot see its disk. Without a state, it sends
    # its initial weights, because other machines may have computed them with other roundings.
    values = states.newest() if states and worker.rank == 0 else None
    steps_done = worker.broadcast_int(values["steps_done"][0] if values else 0)

    def received(name: str, like: np.ndarray) -> np.ndarray:
        return worker.broadcast(values[name] if values else like)

    if steps_done or worker.workers > 1:
        train_step.set({name: received(name, parameter.asnumpy()) for name, parameter in train_step.parameters.items()})
    if steps_done:
        for name, array in vars(history).items():
            array[:] = received(f"history.{name}", array)
    return steps_done
