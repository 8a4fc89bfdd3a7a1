"""How sure a network is of its predictions, and whether rightly so."""

from dataclasses import dataclass

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, float64 of shape (N, num_classes), of logits of that shape."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True).astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Calibration:
    """Predictions in bins of equal width by the probability of the predicted class.

    edges: float64 of shape (bins + 1,), from 0 to 1; a bin is open below and closed above.
    images: int64 of shape (bins,), how many predictions fall in each.
    accuracy, confidence: float64 of shape (bins,), the share of right ones and the mean probability; NaN in empty bins.
    error: expected calibration error, the mean distance between the two, weighted by the images of each bin.
    """

    edges: np.ndarray
    images: np.ndarray
    accuracy: np.ndarray
    confidence: np.ndarray
    error: float


def measure_calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Calibration:
    """Compare how sure the predictions are with how often they are right.

    Source: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017,
    section 2, with 15 bins as in its table 1.

    Args:
        probabilities: of shape (N, num_classes).
        labels: of shape (N,).
        bins: their number.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    where = np.clip(np.searchsorted(edges, confidence) - 1, 0, bins - 1)
    images, sure, hits = (np.bincount(where, weights, bins) for weights in (None, confidence, right))
    error = np.abs(hits - sure).sum() / len(labels)
    with np.errstate(invalid="ignore"):
        return Calibration(edges, images, hits / images, sure / images, float(error))
