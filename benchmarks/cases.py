"""The cases that measure the network. Each function returns the seconds per call of each repetition."""

from pathlib import Path
from typing import Any

import numpy as np

from alexnet.evaluation.evaluate import evaluate
from alexnet.kernels.choice import MINDSPORE, choose
from alexnet.model.network import Network
from alexnet.model.registry import create
from alexnet.runtime import device
from alexnet.runtime.choices import ChosenAmpLevel, ChosenKernels
from alexnet.training.batches import Batches
from alexnet.training.recipe import Recipe
from alexnet.training.state import States
from alexnet.training.step import Step
from benchmarks import dataset
from benchmarks.measure import repeat, serve


def create_on_cpu(
    model: dict[str, Any], threads: int, kernels: ChosenKernels, amp_level: ChosenAmpLevel
) -> tuple[Network, int | None]:
    """Return a network on the CPU, and the number of threads that compute it."""
    target, thread_count = device.select("CPU", threads)
    return create(**model, kernels=choose(kernels, amp_level, target, thread_count)), thread_count


def step(
    model: dict[str, Any],
    recipe: dict[str, Any],
    batch_size: int,
    threads: int,
    kernels: ChosenKernels,
    amp_level: ChosenAmpLevel,
    repetitions: int,
) -> dict[str, Any]:
    """Do training steps and nothing else. `model` has the arguments of `create`, `recipe` those of Recipe."""
    network, thread_count = create_on_cpu(model, threads, kernels, amp_level)
    train_step, split = Step(network, Recipe(**recipe)), dataset.split(batch_size)
    batch = Batches(split, 1, batch_size, model["dropout_rate"], seed=1, dropout_shape=network.dropout_shape)[0]
    rate = np.float32(recipe["learning_rate"])
    return {"threads": thread_count, "seconds": repeat(lambda: train_step(batch, rate), repetitions)}


def evaluation(
    model: dict[str, Any],
    batch_size: int,
    images: int,
    threads: int,
    kernels: ChosenKernels,
    amp_level: ChosenAmpLevel,
    repetitions: int,
) -> dict[str, Any]:
    """Evaluate this many images as the stage does, including the compilation of the network."""
    network, thread_count = create_on_cpu(model, threads, kernels, amp_level)
    split = dataset.split(images)
    return {"threads": thread_count, "seconds": repeat(lambda: evaluate(network, split, batch_size), repetitions)}


def state(folder: str, model: dict[str, Any], recipe: dict[str, Any], repetitions: int) -> dict[str, Any]:
    """Save the state of a training in a folder, and load it again. The result also has its size in 10^6 bytes."""
    device.select("CPU")
    train_step = Step(create(**model, kernels=MINDSPORE), Recipe(**recipe))
    states = States(Path(folder), {}, keep_checkpoint_max=1)
    with states.locked():
        save_seconds = repeat(lambda: states.save(1, 1, train_step.parameters), repetitions)
        load_seconds = repeat(lambda: train_step.set(states.newest() or {}), repetitions)
        size = max(path.stat().st_size for path in states.folder.iterdir())
    return {"mb": size / 1e6, "save_seconds": save_seconds, "load_seconds": load_seconds}


if __name__ == "__main__":
    serve(step, evaluation, state)
