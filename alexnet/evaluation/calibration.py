"""Calibration: whether a network is correct as often as its probabilities say."""

from dataclasses import dataclass

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities, float64 of shape (N, num_classes), for logits of the same shape."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True).astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Calibration:
    """Predictions, sorted by the probability of the predicted class into bins of equal width.

    edges: float64 of shape (bins + 1,), from 0 to 1. A bin includes its upper edge, but not its lower one.
    images: int64 of shape (bins,), the number of predictions in each bin.
    accuracy: float64 of shape (bins,), the share of correct predictions in each bin; NaN in an empty bin.
    confidence: float64 of shape (bins,), the mean probability in each bin; NaN in an empty bin.
    error: the expected calibration error, which is the mean of |accuracy - confidence|, weighted by `images`.
    """

    edges: np.ndarray
    images: np.ndarray
    accuracy: np.ndarray
    confidence: np.ndarray
    error: float


def measure_calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Calibration:
    """Compare the probabilities of the predicted classes with the share of correct predictions.

    Source: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017,
    section 2, with 15 bins as in its table 1.

    Args:
        probabilities: float64 of shape (N, num_classes).
        labels: int32 of shape (N,).
        bins: the number of bins.
    """
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    bin_of_image = np.clip(np.searchsorted(edges, confidence) - 1, 0, bins - 1)
    images = np.bincount(bin_of_image, minlength=bins)
    confidences = np.bincount(bin_of_image, confidence, bins)  # sums over the images of each bin
    corrects = np.bincount(bin_of_image, correct, bins)
    error = np.abs(corrects - confidences).sum() / len(labels)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin
        return Calibration(edges, images, corrects / images, confidences / images, float(error))
