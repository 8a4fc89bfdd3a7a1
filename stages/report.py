"""Stage report: write one page about the run, its charts and a model card, from the files of the stages before it."""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from alexnet import cifar10
from alexnet.report.curves import read_curve
from alexnet.report.page import Results, write_report
from alexnet.runtime.choices import AmpLevel, KernelLibrary, Target
from alexnet.runtime.errors import InputError
from stages import params, paths

SECTIONS = ("data", "model", "train", "evaluate")
"""The sections of params.yaml that the page shows: those that can change a result."""


class _Metrics(BaseModel):
    # What a file of metrics must have at least. Anything else in it is accepted.
    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)


class _Images(_Metrics):
    images: int


class _Archive(_Metrics):
    md5: str


class DataReport(_Metrics):
    """What `verify` writes."""

    archive: _Archive
    generated: bool
    train: _Images
    test: _Images


class TrainMetrics(_Metrics):
    """What `train` writes of the training's result."""

    images: int
    epochs: int
    steps: int
    parameters: int
    pflop: float
    train_accuracy: float
    validation_accuracy: float = 0  # missing without validation images


class Timing(_Metrics):
    """What `train` writes of how it went."""

    network: str
    description: str
    image_size: tuple[int, int] | None
    device_target: Target
    workers: int
    threads: int | None
    kernels: KernelLibrary
    amp_level: AmpLevel
    train_seconds: float
    images_per_second: float
    commit: str
    name: str
    finished: str
    versions: dict[str, str]


class EvalMetrics(_Metrics):
    """What `evaluate` writes."""

    accuracy: float
    loss: float


PerClass = create_model(
    "PerClass",
    __base__=_Metrics,
    **dict.fromkeys(cifar10.CLASS_NAMES, (float, ...)),  # type: ignore[call-overload]
)
"""The accuracies that `evaluate` writes, by class."""


def main() -> None:
    config = params.read()
    curves = ["train/loss", "train/accuracy", "learning_rate"]
    if config.train.validation_images:  # otherwise this curve has no points
        curves.append("eval/accuracy")
    results = Results(
        split=cifar10.read(paths.TEST_FOLDER, cifar10.TEST_FILES),
        logits=read_array(paths.LOGITS),
        filters=read_array(paths.FILTERS),
        augmented=read_array(paths.AUGMENTED),
        curves={name: read_curve(paths.CURVES, name) for name in curves},
        train=read_json(paths.TRAIN_METRICS, TrainMetrics),
        evaluation=read_json(paths.EVAL_METRICS, EvalMetrics),
        per_class=read_json(paths.PER_CLASS, PerClass),
        timing=read_json(paths.TIMING, Timing),
        data=read_json(paths.DATA_REPORT, DataReport),
        params=config.model_dump(include=set(SECTIONS)),
    )
    write_report(results, paths.REPORT)


def read_json(path: Path, expected: type[BaseModel]) -> dict[str, Any]:
    """Return the metrics in a JSON file. Raises InputError when it is missing or damaged, or lacks what is expected."""
    try:
        return expected.model_validate_json(path.read_bytes()).model_dump(exclude_unset=True)
    except OSError as error:
        problem = str(error.strerror)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = ": ".join((".".join(map(str, first["loc"])), first["msg"])).removeprefix(": ")
    raise InputError(f"cannot read {path}: {problem}; run dvc repro, which runs the stages before this one")


def read_array(path: Path) -> np.ndarray:
    """Return an array that a stage wrote. Raises InputError when it is missing or damaged."""
    try:
        with path.open("rb") as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)  # type: ignore[no-untyped-call]
        if array.dtype.kind not in "fu":  # floating point, or bytes of images
            raise ValueError(f"it has the type {array.dtype}")
    except Exception as error:  # for damaged files, NumPy raises exceptions of any type
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())}; run dvc repro first") from None
    return array
