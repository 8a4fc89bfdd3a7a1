"""Summaries of predictions: which classes are confused, and which mistakes are the most confident."""

import numpy as np

from alexnet.cifar10 import NUM_CLASSES


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the number of images of each true class (row) by predicted class (column).

    It is int64 of shape (NUM_CLASSES, NUM_CLASSES). If there are predictions of outputs beyond these classes, it has
    one more column for all of them.

    Args:
        labels: the true classes, integers of shape (N,).
        predicted: the predicted classes, integers of shape (N,).
    """
    columns = np.minimum(predicted, NUM_CLASSES)
    matrix = np.zeros((NUM_CLASSES, max(NUM_CLASSES, columns.max() + 1)), np.int64)
    np.add.at(matrix, (labels, columns), 1)
    return matrix


def confident_mistakes(probabilities: np.ndarray, labels: np.ndarray, limit: int) -> np.ndarray:
    """Return the indices of at most `limit` wrong predictions, the most confident first.

    Args:
        probabilities: float64 of shape (N, num_classes).
        labels: int32 of shape (N,).
        limit: the most indices to return.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:limit]
