"""Stage train: train the network, and write the checkpoint, metrics and curves.

With any of the model zoo's flags it does not touch DVC's outputs, and writes everything below --ckpt_path.
"""

import argparse
import hashlib
import logging
import os
import shutil
import sys
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from dvclive import Live
from mindspore.train import Callback

from alexnet import cifar10
from alexnet.kernels.choice import choose
from alexnet.model.checkpoint import InitialWeights, load_initial_weights
from alexnet.model.initialization import begin_with_identity, whiten
from alexnet.model.network import Network
from alexnet.model.registry import create
from alexnet.runtime import device
from alexnet.runtime.errors import InputError, Stopped
from alexnet.runtime.files import digest
from alexnet.runtime.stop import ParentWatch, StopRequest
from alexnet.training import launcher, loop, workers
from alexnet.training.batches import Batches, check_shards, hold_out
from alexnet.training.dvclive_callback import DVCLiveCallback
from alexnet.training.progress import Progress
from alexnet.training.recipe import Recipe
from alexnet.training.state import States, remove_recorded
from stages import params, paths, train_outputs

CURVE_POINTS = 1000
"""The most points of a curve: enough for a plot, and few enough to be stored in git."""

WHITENING_IMAGES = 500
"""From how many training images the whitening filters are computed. The images are in random order in CIFAR-10."""

log = logging.getLogger(f"{paths.LIBRARY}.stages.train")


def main(flags: argparse.Namespace, request: StopRequest, parent: ParentWatch) -> None:
    """Train in this process, or launch workers and wait for them."""
    config = params.read(flags.overrides)
    outputs = (flags.ckpt_path or Path("ckpt")) if flags.any_given else Path()
    if flags.any_given and outputs.resolve() == Path.cwd():
        raise InputError(f"--ckpt_path is {outputs}, the folder of DVC's own outputs: give another, such as ckpt")
    if not launcher.launched():
        request.when_asked = announce_stop
    try:
        if config.train.workers > 1 and not workers.started_by_msrun():
            check_shards(config.train.batch_size, config.train.workers)
            logs = paths.states() / f"workers-{os.getpid()}"
            try:
                launcher.launch(["-m", "stages", *sys.argv[1:]], config.train.workers, logs, request)
            except (InputError, Stopped):
                shutil.rmtree(logs)  # after a WorkerError, which names the logs, they stay
                raise
            shutil.rmtree(logs)
        else:
            with launcher.outcome_reported():
                train(config, flags.data_path or paths.TRAIN_FOLDER, outputs, request, parent)
    except Stopped as stopped:
        if not launcher.launched():  # the launcher logs this once for all workers
            log.info("%s: the same command resumes from there", stopped)
        sys.exit(0 if workers.started_by_msrun() else request.exit_code)


def announce_stop() -> None:
    log.info("stopping after this step, to save the state; a second Ctrl-C stops at once, without saving")


def train(
    parameters: params.Params, data_folder: Path, outputs: Path, request: StopRequest, parent: ParentWatch
) -> None:
    """Train as one worker. Worker 0 also writes the outputs, below the folder `outputs`.

    Raises Stopped when a signal asked for it or DVC is gone, and InputError when the images, the device, a value or
    another process does not allow the training.
    """
    config, model, run = parameters.train, parameters.model, parameters.run
    code = train_outputs.commit()  # before training, because somebody may edit the code in the meantime
    split, validation = hold_out(cifar10.read(data_folder, cifar10.TRAIN_FILES), config.validation_images, config.seed)
    target, threads = device.select(config.device_target, config.threads, config.workers)
    sink = device.sinks_data(run.dataset_sink_mode, target)
    worker = workers.join(config.workers)
    kernels = choose(config.kernels, config.amp_level, target, threads)
    network = create(**model.model_dump(), weight_init=config.weight_init, seed=config.seed, kernels=kernels)
    initial = None
    if config.initial_weights:
        initial = set_initial_weights(network, config.initial_weights, outputs)
    else:
        if config.identity_init:
            begin_with_identity(network)
        if config.whitening:
            whiten(network, split.images[:WHITENING_IMAGES])
    batches = make_batches(parameters, split, network.dropout_shape, worker)
    resolved = config.model_dump() | {
        "device_target": target,
        "threads": threads,
        "kernels": kernels.library,
        "amp_level": kernels.amp_level,
        "initial_weights": initial.md5 if initial else None,
    }
    states = States(paths.states(), identity(split, model.model_dump(), resolved), run.keep_checkpoint_max)

    if worker.rank == 0:
        remove_recorded(paths.states(), is_committed)
    with states.locked() if worker.rank == 0 else nullcontext(False) as waited:
        if finished_meanwhile(states, outputs, waited, worker):
            return
        if worker.rank == 0:
            had_result = states.result() is not None
            states.begin()
            log_start(resolved, initial)
        history = loop.train(
            network,
            batches,
            Recipe(**config.model_dump(include={field.name for field in fields(Recipe)})),
            validation=validation if len(validation) else None,
            dataset_sink_mode=sink,
            worker=worker,
            states=states,
            save_checkpoint_steps=None if run.save_checkpoint_steps == "epoch" else run.save_checkpoint_steps,
            stop=request,
            callbacks=make_callbacks(outputs, run.log_steps, len(batches)) if worker.rank == 0 else [],
        )
        # If DVC is gone, a new `dvc repro` may be running already, which will write the same files. If DVC is still
        # there, these outputs are written long before a new run can write its own.
        if parent.gone():
            raise Stopped("stopped before the outputs were written, because the DVC that started this is gone")
        if worker.rank == 0:
            train_outputs.write(outputs, network, history, batches, resolved, code, split.generated)
            if outputs == Path() or run.keep_state or had_result:
                states.finish(digest(outputs / paths.CHECKPOINT, "md5"), run.keep_state)
            else:  # DVC will not record these outputs
                states.clear()
            if outputs == Path() and Path.cwd() == paths.workspace().resolve():
                remove_recorded(paths.states(), is_in_workspace)  # the result that these outputs replace
        worker.wait_for_all()


def set_initial_weights(network: Network, name: str, outputs: Path) -> InitialWeights:
    """Set the network's weights from the checkpoint that train.initial_weights names.

    Raises InputError when there is none, it does not fit, or it is the one that the training writes.
    """
    path = paths.workspace() / name
    written = (outputs if outputs != Path() else paths.workspace()) / paths.CHECKPOINT
    if path.resolve() == written.resolve():
        raise InputError(
            f"train.initial_weights is {name}, the checkpoint that this training writes: copy it to another name, "
            "and give that"
        )
    path = paths.initial_weights(name)
    try:
        return load_initial_weights(network, path)
    except InputError as error:
        raise InputError(f"train.initial_weights: {error}") from None


def make_batches(
    parameters: params.Params, split: cifar10.Split, dropout_shape: tuple[int, ...], worker: workers.Worker
) -> Batches:
    """Return this worker's shard of each batch; `dropout_shape` is the network's.

    Raises InputError when the values of the parameters do not fit the images or the workers.
    """
    config = parameters.train
    return Batches(
        split,
        epoch_size=config.epoch_size,
        batch_size=config.batch_size,
        dropout_rate=parameters.model.dropout_rate,
        seed=config.seed,
        crop_padding=config.crop_padding,
        crop_padding_mode=config.crop_padding_mode,
        flip=config.flip,
        cutout_size=config.cutout_size,
        rank=worker.rank,
        workers=worker.workers,
        dropout_shape=dropout_shape,
    )


def finished_meanwhile(states: States, outputs: Path, waited: bool, worker: workers.Worker) -> bool:
    """Return, the same in every worker, whether another process finished this training while worker 0 waited for it.

    With the model zoo's flags, this is mostly False, because the states, which record the result, are removed at the
    end.
    """
    # Under DVC, this process always trains: DVC removes the outputs before it runs a stage, and may have done that
    # while the other process was writing them.
    finished = waited and "DVC_ROOT" not in os.environ and has_result(states, outputs)
    if finished:
        log.info("the other process has finished this training, see %s", outputs / paths.CHECKPOINT)
    return bool(worker.broadcast_int(finished))


def log_start(resolved: dict[str, Any], initial: InitialWeights | None) -> None:
    """Log the device, the kernels and the initial weights; `resolved` is as in `train_outputs.write`."""
    target, threads = resolved["device_target"], resolved["threads"]
    device_text = f"CPU, {threads} thread{'s' if threads != 1 else ''}" if target == "CPU" else target
    log.info("training on %s, kernels: %s, amp_level: %s", device_text, resolved["kernels"], resolved["amp_level"])
    if initial:
        left_out = " and ".join(initial.left_out)
        rest = f"; it has another number of classes, so {left_out} are left out" if left_out else ""
        log.info("starting from the weights of %s, MD5 %s%s", initial.path, initial.md5, rest)


def make_callbacks(outputs: Path, log_steps: int, steps: int) -> list[Callback]:
    """Return the callbacks that log the progress and write the curves, below the folder `outputs`."""
    live = Live(str(outputs / paths.LIVE), dvcyaml=None, report=None, save_dvc_exp=False)
    return [Progress(log_steps), DVCLiveCallback(live, -(-steps // CURVE_POINTS))]


def identity(split: cifar10.Split, model: dict[str, Any], train: dict[str, Any]) -> dict[str, Any]:
    """Return everything that decides the result of a training, including the code that this process has loaded."""
    code = {name: module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == paths.LIBRARY}
    data = hashlib.sha256(np.ascontiguousarray(split.images).data)
    data.update(np.ascontiguousarray(split.labels).data)
    return {
        "data": data.hexdigest(),
        "model": model,
        "train": train,
        "code": {name: digest(Path(str(file)), "sha256") for name, file in (code | {"stages.train": __file__}).items()},
        "packages": {name.lower(): version for name, version in train_outputs.versions(train["kernels"]).items()},
    }


def has_result(states: States, outputs: Path) -> bool:
    """Return whether the checkpoint in a folder is the stored result of the training."""
    checkpoint = outputs / paths.CHECKPOINT
    return checkpoint.is_file() and states.result() == digest(checkpoint, "md5")


def is_in_workspace(checkpoint: str) -> bool:
    """Return whether the workspace's dvc.lock has this MD5 of a checkpoint."""
    lock = paths.workspace() / paths.LOCK
    return lock.is_file() and checkpoint in lock.read_text(encoding="utf-8")


def is_committed(checkpoint: str) -> bool:
    """Return whether the dvc.lock of any commit or experiment has this MD5 of a checkpoint."""
    # An experiment in a copy of the workspace has a dvc.lock of its own, which DVC commits to this repository. Not
    # --all, because the commits of DVC's queue and of git's stash are temporary. -m, because a merge may have a result
    # of its own.
    refs = ["HEAD", "--branches", "--tags", "--remotes", "--glob=refs/exps/??/*"]
    search = ["log", *refs, "-m", "--full-history", "-1", "--format=%h", f"-S{checkpoint}", "--", str(paths.LOCK)]
    return bool(train_outputs.git("-C", str(paths.workspace()), *search))
