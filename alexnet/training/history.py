"""The metrics that a training records at each step and after each epoch.

To add a metric of each step, add a field to `History` and an entry to the result of `measure`. The saved states, the
live metrics and the averages over workers are made from these two.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from alexnet.evaluation.evaluate import cross_entropy


@dataclass(frozen=True)
class History:
    """Float32 arrays of shape (steps,) or (epochs,), filled as far as the training has got.

    loss: the mean cross entropy of the global batch in nats, before the step's update and without label smoothing.
    accuracy: the accuracy on the global batch, before the step's update.
    learning_rate: the learning rate of the step's update.
    seconds: how long the step took, including the wait for its batch.
    save_seconds: how long it took to save the state after the step; 0 if none was saved, or if the training resumed
        from that state, which cannot contain the time of its own saving.
    validation_loss: the mean cross entropy after the epoch in nats; NaN without validation images.
    validation_accuracy: the accuracy after the epoch; NaN without validation images.

    The metadata of a field has its `unit`, which is `step` or `epoch`, and the name of its `curve` in DVCLive if it has
    one.
    """

    loss: np.ndarray = field(metadata={"unit": "step", "curve": "train/loss"})
    accuracy: np.ndarray = field(metadata={"unit": "step", "curve": "train/accuracy"})
    learning_rate: np.ndarray = field(metadata={"unit": "step", "curve": "learning_rate"})
    seconds: np.ndarray = field(metadata={"unit": "step"})
    save_seconds: np.ndarray = field(metadata={"unit": "step"})
    validation_loss: np.ndarray = field(metadata={"unit": "epoch", "curve": "eval/loss"})
    validation_accuracy: np.ndarray = field(metadata={"unit": "epoch", "curve": "eval/accuracy"})

    @classmethod
    def empty(cls, steps: int, epochs: int) -> "History":
        """Return a history with 0 for every step and NaN for every epoch."""
        arrays = {}
        for metric in fields(cls):
            per_step = metric.metadata["unit"] == "step"
            arrays[metric.name] = np.zeros(steps, np.float32) if per_step else np.full(epochs, np.nan, np.float32)
        return cls(**arrays)

    def record(self, index: int, values: Mapping[str, float]) -> None:
        """Set values of the step or epoch `index`, counted from 0, by the names of their fields."""
        for name, value in values.items():
            getattr(self, name)[index] = value

    def step(self, step: int) -> dict[str, float]:
        """Return the values of a step, counted from 0, by the names of their curves."""
        return self._curves("step", step)

    def epoch(self, epoch: int) -> dict[str, float]:
        """Return the values of an epoch, counted from 0, by the names of their curves; none without validation."""
        return {name: value for name, value in self._curves("epoch", epoch).items() if np.isfinite(value)}

    def _curves(self, unit: str, index: int) -> dict[str, float]:
        return {
            metric.metadata["curve"]: float(getattr(self, metric.name)[index])
            for metric in fields(self)
            if metric.metadata["unit"] == unit and "curve" in metric.metadata
        }


def measure(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the metrics of a batch that `History` records, by the names of its fields.

    Each one is a mean over the images, so that the mean over the workers is the mean over the global batch.

    Args:
        logits: float32 of shape (N, num_classes).
        labels: int32 of shape (N,).
    """
    return {
        "loss": float(cross_entropy(logits, labels).mean()),
        "accuracy": float((logits.argmax(axis=1) == labels).mean()),
    }
