"""What predictions say beyond the accuracy: which classes are confused, and which mistakes are the surest."""

import numpy as np

from alexnet.cifar10 import NUM_CLASSES


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Count the images of each true class (row) by predicted class (column); both are of shape (N,).

    Returns int64 of shape (10, 10); when a prediction is none of the ten classes, of shape (10, 11), the last column
    counting all such.
    """
    columns = np.minimum(predicted, NUM_CLASSES)
    matrix = np.zeros((NUM_CLASSES, max(NUM_CLASSES, columns.max() + 1)), np.int64)
    np.add.at(matrix, (labels, columns), 1)
    return matrix


def confident_mistakes(probabilities: np.ndarray, labels: np.ndarray, limit: int) -> np.ndarray:
    """Return the indices of the wrong predictions, the surest first, at most `limit` of them."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:limit]
