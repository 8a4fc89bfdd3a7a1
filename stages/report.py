"""Stage report: write one page about the run, its charts and a model card, from the files of the stages before it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from alexnet import cifar10
from alexnet.report.curves import read_curve
from alexnet.report.page import Results, write_report
from alexnet.runtime.errors import InputError
from stages import params, paths

SECTIONS = ("data", "model", "train", "evaluate")
"""The sections of params.yaml that the page shows: those that can change a result."""


def main() -> None:
    config = params.read()
    curves = ["train/loss", "train/accuracy", "learning_rate"]
    if config.train.validation_images:  # otherwise this curve has no points
        curves.append("eval/accuracy")
    results = Results(
        split=cifar10.read(paths.TEST_FOLDER, cifar10.TEST_FILES),
        logits=read_array(paths.LOGITS),
        filters=read_array(paths.FILTERS),
        curves={name: read_curve(paths.CURVES, name) for name in curves},
        train=read_json(paths.TRAIN_METRICS),
        evaluation=read_json(paths.EVAL_METRICS),
        per_class=read_json(paths.PER_CLASS),
        timing=read_json(paths.TIMING),
        data=read_json(paths.DATA_REPORT),
        params=config.model_dump(include=set(SECTIONS)),
    )
    write_report(results, paths.REPORT)


def read_json(path: Path) -> dict[str, Any]:
    """Return the metrics in a JSON file. Raises InputError when it is missing or damaged."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; run dvc repro, which runs the stages before this one") from None
    return values


def read_array(path: Path) -> np.ndarray:
    """Return an array that the stage evaluate wrote. Raises InputError when it is missing or damaged."""
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read {path}: {error}; run dvc repro evaluate first") from None
    return array
