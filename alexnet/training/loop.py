"""Training: one loop over all steps, readable from top to bottom, that can be stopped and resumed anywhere."""

import time
from collections.abc import Callable, Sequence

import mindspore as ms
import numpy as np
from mindspore.train import Callback, RunContext
from mindspore.train.callback import _CallbackManager, _InternalCallbackParam

from alexnet.cifar10 import Split
from alexnet.evaluation.evaluate import Evaluation, evaluate
from alexnet.model.network import Network
from alexnet.runtime.errors import InputError, Stopped
from alexnet.training.batches import Batches
from alexnet.training.history import History, measure
from alexnet.training.recipe import Recipe
from alexnet.training.schedule import learning_rates
from alexnet.training.state import States
from alexnet.training.step import Step
from alexnet.training.workers import ALONE, Worker

CHECK_STEPS = 100
"""How often all weights are checked for NaN and infinity. The loss is checked at every step, but on the CPU ReLU and
max-pooling turn NaN into 0, so that it can stay finite although the weights are not."""


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
    """Train the network in place on all batches: softmax cross entropy, stochastic gradient descent with momentum.

    Args:
        network: with its initial weights.
        batches: this worker's shard of each batch.
        recipe: how each step updates the weights.
        validation: images to evaluate the network on after each epoch.
        dataset_sink_mode: whether to make batches and send them to the device ahead of their steps, see `Step.sink`;
            the result is the same.
        worker: this process among all workers, whose gradients are averaged.
        states: where worker 0 saves states, or None to save none. The training resumes from a state found there, with
            the same result as without the interruption, bit for bit on the CPU.
        save_checkpoint_steps: steps from one saved state to the next; None saves after each epoch. The state after
            the last step is always saved.
        stop: asked after each step whether to end early.
        callbacks: MindSpore's. The context they get has `epoch_num`, `batch_num` (steps an epoch), `batch_size` (the
            global one), `cur_epoch_num` and `cur_step_num` (both from 1, the latter over all epochs; before the first
            step, those of the state that the training resumes from, or 0), `net_outputs` (the loss, a float32),
            `train_network`, `optimizer`, `history` (filled up to `cur_step_num`) and, at the end of an epoch with
            validation images, `eval_results` with their `loss` and `accuracy`.

    Raises Stopped, the state saved, when `stop` says so to any worker, and InputError, the states before kept, when
    the loss, a weight or a momentum becomes NaN or infinite (the momentum becomes so when a gradient does).
    """
    steps, steps_per_epoch = len(batches), batches.steps_per_epoch
    rates = learning_rates(recipe.lr_schedule, recipe.learning_rate, steps, recipe.warmup_ratio)
    history = History.empty(steps, batches.epoch_size)
    train_step = Step(network, recipe, worker)
    first = _restore(states, train_step, history, worker) if states else 0
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
            *means, asked = worker.mean(*measured.values(), stop())
            history.record(step, dict(zip(measured, means, strict=True)) | {"learning_rate": rates[step]})
            history.seconds[step] = time.perf_counter() - start

            done = step + 1
            epoch, step_of_epoch = step // steps_per_epoch + 1, step % steps_per_epoch + 1
            if not np.isfinite(history.loss[step]):
                raise _failed(f"the loss is {history.loss[step]}", epoch, step_of_epoch, recipe)
            context.cur_epoch_num, context.cur_step_num = epoch, done
            context.net_outputs = history.loss[step]
            observers.on_train_step_end(run)
            due = done % (save_checkpoint_steps or steps_per_epoch) == 0 or done == steps
            save = bool(states) and (bool(asked) or due)
            if save or done % CHECK_STEPS == 0 or done == steps:
                for name, parameter in train_step.parameters.items():
                    if not np.isfinite(parameter.asnumpy()).all():
                        raise _failed(f"{name} is NaN or infinite", epoch, step_of_epoch, recipe)
            if step_of_epoch == steps_per_epoch:
                if validation:
                    result = _validate(train_step, network, validation, batches.batch_size)
                    values = {"validation_loss": result.loss, "validation_accuracy": result.accuracy}
                    history.record(epoch - 1, values)
                    context.eval_results = {"loss": result.loss, "accuracy": result.accuracy}
                observers.on_train_epoch_end(run)

            if save and states and worker.rank == 0:
                start = time.perf_counter()
                _save(states, epoch, step_of_epoch, done, train_step, history)
                history.save_seconds[step] = time.perf_counter() - start
            if asked and done < steps:
                raise Stopped(f"stopped after epoch {epoch} step {step_of_epoch}" + (", state saved" if save else ""))
        observers.on_train_end(run)
    train_step.take_averages()
    return history


def _validate(train_step: Step, network: Network, validation: Split, batch_size: int) -> Evaluation:
    with train_step.averaged():
        result = evaluate(network, validation, batch_size)
    network.set_train(True)
    return result


def _failed(what: str, epoch: int, step: int, recipe: Recipe) -> InputError:
    return InputError(f"{what} in epoch {epoch} step {step}: try a learning_rate below {recipe.learning_rate}")


def _save(states: States, epoch: int, step: int, done: int, train_step: Step, history: History) -> None:
    extra = {f"history.{name}": ms.Tensor(values) for name, values in vars(history).items()}
    states.save(epoch, step, train_step.parameters | extra | {"steps_done": ms.Tensor([done])})


def _restore(states: States, train_step: Step, history: History, worker: Worker) -> int:
    # Returns how many steps are done. Worker 0 reads the state and sends it to the others, which may be on machines
    # without its disk.
    values = states.newest() if worker.rank == 0 else None
    done = int(worker.broadcast(np.array([values["steps_done"][0] if values else 0], np.int32))[0])

    def received(name: str, like: np.ndarray) -> np.ndarray:
        return worker.broadcast(values[name] if values else like)

    if done:
        train_step.set({name: received(name, parameter.asnumpy()) for name, parameter in train_step.parameters.items()})
        for name, array in vars(history).items():
            array[:] = received(f"history.{name}", array)
    return done
