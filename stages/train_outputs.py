"""The files that the stage train writes once the training has ended: checkpoint, metrics, and where it ran."""

import os
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from alexnet.kernels import onednn
from alexnet.model.checkpoint import save_weights
from alexnet.model.network import Network, Setting
from alexnet.runtime.choices import KernelLibrary
from alexnet.runtime.files import replacing, write_json, write_text
from alexnet.training.batches import Batches
from alexnet.training.history import History
from stages import paths

IMAGES_SHOWN = 12
"""The most images of the first batch that are kept for the report."""


def write(
    outputs: Path,
    network: Network,
    history: History,
    batches: Batches,
    resolved: dict[str, Any],
    code: str,
    generated: bool,
) -> None:
    """Write the checkpoint, the metrics and a few training images below the folder `outputs`.

    `resolved` has the parameters of the section train as they were used: the chosen value in place of each `auto`, and
    the MD5 of the checkpoint in place of its path in `initial_weights`. Raises OSError when a file cannot be written.
    """
    start = time.perf_counter()
    save_weights(network, outputs / paths.CHECKPOINT)
    save_seconds = time.perf_counter() - start
    mark = {"generated": True} if generated else {}
    write_json(outputs / paths.TRAIN_METRICS, metrics(network, history, batches) | mark)
    write_json(outputs / paths.TIMING, timing(network, history, batches, resolved, code, save_seconds))
    with replacing(outputs / paths.AUGMENTED) as new:  # here, so that the report shows what the network was given
        np.save(new, np.stack([images[:IMAGES_SHOWN] for images in (batches.originals(0), batches[0].images)]))
    for name in ("loss", "accuracy"):  # without validation, DVCLive writes no such files, but `dvc plots` needs them
        curve = outputs / paths.CURVES / "eval" / f"{name}.tsv"
        if not curve.exists():
            write_text(curve, f"step\t{name}\n")


def metrics(network: Network, history: History, batches: Batches) -> dict[str, int | float]:
    """Return the accuracy and loss (in nats) of the last epoch, and the size and cost (in PFLOP) of the training."""
    last_epoch = slice(-batches.steps_per_epoch, None)
    values = {
        "train_loss": float(history.loss[last_epoch].mean(dtype=np.float64)),
        "train_accuracy": float(history.accuracy[last_epoch].mean(dtype=np.float64)),
        "images": batches.image_count,
        "epochs": batches.epoch_size,
        "steps": len(batches),
        "parameters": sum(parameter.size for parameter in network.trainable_params()),
        "pflop": network.training_pflop(len(batches) * batches.batch_size),
    }
    if np.isfinite(history.validation_accuracy).all():
        values |= {
            "validation_loss": float(history.validation_loss[-1]),
            "validation_accuracy": float(history.validation_accuracy[-1]),
        }
    return values


def run_name() -> str:
    """Return the name of the experiment, or of the branch if there is no experiment; `unknown` outside git."""
    if name := os.environ.get("DVC_EXP_NAME"):  # https://dvc.org/doc/user-guide/env
        return name
    return git("rev-parse", "--abbrev-ref", "HEAD") or "unknown"


def commit() -> str:
    """Return the commit of the code, and whether the code has changed since then; `unknown` outside git."""
    name, changes = git("rev-parse", "--short", "HEAD"), git("status", "--porcelain", "--", "stages", paths.LIBRARY)
    if name is None or changes is None:
        return "unknown"
    return f"{name}, with changes since" if changes else name


def git(*arguments: str) -> str | None:
    """Return the output of a git command, or None if it fails or git is not installed."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def versions(kernels: KernelLibrary) -> dict[str, str]:
    """Return the versions of the packages that compute a training."""
    packages = {"MindSpore": ms.__version__, "NumPy": np.__version__}
    return packages | ({"oneDNN": onednn.version()} if kernels == "onednn" else {})


def image_size(network: Network) -> list[Setting] | None:
    """Return the height and width to which the network resizes images; None if they are no settings of it."""
    size = [network.settings[name] for name in ("image_height", "image_width") if name in network.settings]
    return size if len(size) == 2 else None


def timing(
    network: Network, history: History, batches: Batches, resolved: dict[str, Any], code: str, save_seconds: float
) -> dict[str, Any]:
    """Return how long the training took, and on what; `save_seconds` is the time to save the checkpoint."""
    train_seconds = float(history.seconds.sum(dtype=np.float64))
    return {
        "network": type(network).__name__,
        "description": network.description,
        "image_size": image_size(network),
        "device_target": resolved["device_target"],
        "workers": resolved["workers"],
        "threads": resolved["threads"],
        "kernels": resolved["kernels"],
        "amp_level": resolved["amp_level"],
        **({"initial_weights_md5": resolved["initial_weights"]} if resolved["initial_weights"] else {}),
        "images_per_second": len(batches) * batches.batch_size / train_seconds,
        "step_ms": 1000 * float(np.median(history.seconds)),
        "train_seconds": train_seconds,
        "save_seconds": save_seconds + float(history.save_seconds.sum()),
        "commit": code,
        "name": run_name(),
        "finished": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": versions(resolved["kernels"]),
    }
