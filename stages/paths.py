"""The paths of the files that the stages read and write, relative to the repository, as in dvc.yaml."""

import os
from pathlib import Path

import alexnet
from alexnet.runtime.errors import InputError

LIBRARY = alexnet.__name__
"""The name of the package with the library, which is also that of its folder and of its logger."""

ARCHIVE = Path("data/cifar-10-binary.tar.gz")
TRAIN_FOLDER = Path("data/cifar-10-batches-bin")
TEST_FOLDER = Path("data/cifar-10-verify-bin")
DATA_REPORT = Path("metrics/data.json")

CHECKPOINT = Path("models/alexnet.ckpt")
TRAIN_METRICS = Path("metrics/train.json")
TIMING = Path("metrics/timing.json")
LIVE = Path("dvclive")
CURVES = LIVE / "plots" / "metrics"
AUGMENTED = Path("plots/augmented.npy")

EVAL_METRICS = Path("metrics/eval.json")
LOGITS = Path("predictions/logits.npy")
FILTERS = Path("predictions/filters.npy")
PER_CLASS = Path("metrics/per_class.json")
CONFUSION = Path("plots/confusion.csv")

ONNX = Path("models/alexnet.onnx")
MINDIR = Path("models/alexnet.mindir")
REPORT = Path("report")
LOCK = Path("dvc.lock")
"""The file in which DVC records the outputs of all stages."""


def workspace() -> Path:
    """Return the user's workspace. An experiment may run in a copy of it: in that case DVC_ROOT names the original."""
    return Path(os.environ.get("DVC_ROOT", "."))


def initial_weights(name: str) -> Path:
    """Return the path of train.initial_weights; a relative one starts at the workspace.

    Raises InputError when there is no such file.
    """
    path = workspace() / name
    if not path.is_file():
        raise InputError(f"train.initial_weights is {name}, but there is no file {path}: give a checkpoint or null")
    return path


def states() -> Path:
    """Return the folder of the states of all trainings. It is in the workspace, in a place that DVC does not touch."""
    return workspace() / ".dvc" / "tmp" / LIBRARY
