"""What a training records of each step and each epoch.

A new metric of a step is a field of `History` and an entry of `measure`; states, live metrics and averages over workers
follow from these.
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from typing import Annotated, NamedTuple, cast, get_args

import numpy as np

from alexnet.evaluation.evaluate import cross_entropy


class Each(NamedTuple):
    """Whether a field of `History` has a value for each `step` or each `epoch`, and the curve that shows it, if any."""

    unit: str
    curve: str = ""


@dataclass(frozen=True)
class History:
    """Float32 arrays of shape (steps,) or (epochs,), filled as far as the training has come.

    Those with the name of a curve are drawn while it trains.

    loss: the mean cross entropy over the global batch, before the step's update and without label smoothing.
    accuracy: of the global batch, before the step's update.
    learning_rate: of the step's update.
    seconds: how long the step took, the wait for its batch included.
    save_seconds: how long saving the state after the step took; 0 where it was not saved.
    validation_loss, validation_accuracy: after the epoch; NaN without validation images.
    """

    loss: Annotated[np.ndarray, Each("step", "train/loss")]
    accuracy: Annotated[np.ndarray, Each("step", "train/accuracy")]
    learning_rate: Annotated[np.ndarray, Each("step", "learning_rate")]
    seconds: Annotated[np.ndarray, Each("step")]
    save_seconds: Annotated[np.ndarray, Each("step")]
    validation_loss: Annotated[np.ndarray, Each("epoch", "eval/loss")]
    validation_accuracy: Annotated[np.ndarray, Each("epoch", "eval/accuracy")]

    @classmethod
    def empty(cls, steps: int, epochs: int) -> "History":
        """Return a history with 0 for every step and NaN for every epoch."""
        arrays = {}
        for field in fields(cls):
            per_step = _each(field).unit == "step"
            arrays[field.name] = np.zeros(steps, np.float32) if per_step else np.full(epochs, np.nan, np.float32)
        return cls(**arrays)

    def record(self, index: int, values: Mapping[str, float]) -> None:
        """Set values, by the names of the fields, of a step or an epoch, which count from 0."""
        for name, value in values.items():
            getattr(self, name)[index] = value

    def step(self, step: int) -> dict[str, float]:
        """Return a step's values by the names of their curves; steps count from 0."""
        return self._curves("step", step)

    def epoch(self, epoch: int) -> dict[str, float]:
        """Return an epoch's values, where it was validated, by the names of their curves; epochs count from 0."""
        return {name: value for name, value in self._curves("epoch", epoch).items() if np.isfinite(value)}

    def _curves(self, unit: str, index: int) -> dict[str, float]:
        kinds = {field.name: _each(field) for field in fields(self)}
        return {
            each.curve: float(getattr(self, name)[index])
            for name, each in kinds.items()
            if each.unit == unit and each.curve
        }


def _each(field: Field[np.ndarray]) -> Each:
    _, each = get_args(field.type)
    return cast(Each, each)


def measure(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the values that `History` records of a batch's logits, by the names of its fields.

    Each value is a mean over the images, so that the mean over the workers' shards is the mean over the global batch.

    Args:
        logits: float32 of shape (N, num_classes).
        labels: int32 of shape (N,).
    """
    return {
        "loss": float(cross_entropy(logits, labels).mean()),
        "accuracy": float((logits.argmax(axis=1) == labels).mean()),
    }
