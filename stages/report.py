"""Stage report: one page and its pictures on what a run came to, from what the stages before it left."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from alexnet import cifar10
from alexnet.model.checkpoint import read_checkpoint
from alexnet.report.curves import read_curve
from alexnet.report.page import Results, write_report
from alexnet.runtime.errors import InputError
from stages import params, paths

SECTIONS = ("data", "model", "train", "evaluate")
"""The parameters that the page shows: those that a result depends on."""


def main() -> None:
    given = params.read()
    curves = ["train/loss", "train/accuracy", "learning_rate"]
    if given.train.validation_images:  # without, the curve has no point
        curves.append("eval/accuracy")
    results = Results(
        split=cifar10.read(paths.TEST_FOLDER, cifar10.TEST_FILES),
        logits=read_logits(paths.LOGITS),
        filters=read_filters(paths.CHECKPOINT),
        curves={name: read_curve(paths.CURVES, name) for name in curves},
        train=read_json(paths.TRAIN_METRICS),
        evaluation=read_json(paths.EVAL_METRICS),
        per_class=read_json(paths.PER_CLASS),
        timing=read_json(paths.TIMING),
        data=read_json(paths.DATA_REPORT),
        params=given.model_dump(include=set(SECTIONS)),
        commit=commit(),
    )
    write_report(results, paths.REPORT)


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of metrics. Raises InputError when it is missing or broken."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; run the stages before this one, as dvc repro does") from None
    return values


def read_logits(path: Path) -> np.ndarray:
    """Read what `evaluate` left. Raises InputError when it is missing or broken."""
    try:
        logits: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read {path}: {error}; evaluate first") from None
    return logits


def read_filters(path: Path) -> np.ndarray:
    """Read the first convolution's weights from a checkpoint. Raises InputError when it has none."""
    values = read_checkpoint(path)
    if "conv1.weight" not in values:
        raise InputError(f"{path} has no parameter conv1.weight: it is a checkpoint of another network")
    return values["conv1.weight"]


def commit() -> str:
    """Return the commit of the code, and whether the code has changed since; `unknown` outside git."""
    code = ["stages", "alexnet"]
    try:
        name, changes = (
            subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
            for arguments in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", *code])
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}, with changes since" if changes else name
