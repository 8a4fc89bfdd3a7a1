"""Reading the curves that DVCLive wrote during a training."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alexnet.runtime.errors import InputError


class Curve(NamedTuple):
    """Values over the steps of a training: int64 and float64, both of shape (points,), with at least one point."""

    steps: np.ndarray
    values: np.ndarray


def read_curve(folder: Path, name: str) -> Curve:
    """Read the curve of a metric, such as `train/loss`, from DVCLive's folder `plots/metrics`.

    The file is a table with tabs and a header (source: https://dvc.org/doc/dvclive/live/log_metric).

    Raises InputError when it is missing, not such a table, or has no points or a value that is NaN or infinite.
    """
    path = folder / f"{name}.tsv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", restval=""))
        curve = Curve(
            np.array([row["step"] for row in rows]).astype(np.int64),
            np.array([row[path.stem] for row in rows]).astype(np.float64),
        )
    except OSError as error:
        raise InputError(f"cannot read the curve {path}: {error.strerror}; train first") from None
    except (KeyError, ValueError, TypeError, OverflowError, csv.Error):
        raise InputError(f"{path} is not a curve: expected a table with the columns step and {path.stem}") from None
    if not len(curve.steps) or not np.isfinite(curve.values).all():
        raise InputError(f"{path} has no points, or a value that is NaN or infinite: train again")
    return curve
