import numpy as np

from alexnet.report.predictions import confident_mistakes, confusion_matrix


def test_confusion_matrix_has_the_true_class_in_rows() -> None:
    matrix = confusion_matrix(np.array([3, 3, 5, 0]), np.array([5, 3, 5, 9]))
    expected = np.zeros((10, 10), np.int64)
    expected[3, 5] = expected[3, 3] = expected[5, 5] = expected[0, 9] = 1
    np.testing.assert_array_equal(matrix, expected)


def test_outputs_without_a_class_share_one_column() -> None:
    matrix = confusion_matrix(np.array([1, 1, 2]), np.array([10, 999, 2]))
    assert matrix.shape == (10, 11)
    assert (matrix[1, 10], matrix[2, 2], matrix.sum()) == (2, 1, 3)


def test_the_most_confident_mistakes_come_first() -> None:
    probabilities = np.array([[0.6, 0.4], [0.8, 0.2], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    labels = np.array([1, 1, 0, 0, 0])  # the third is correct, the second and fourth are equally sure
    assert confident_mistakes(probabilities, labels, 25).tolist() == [1, 3, 4, 0]
    assert confident_mistakes(probabilities, labels, 2).tolist() == [1, 3]
    assert confident_mistakes(probabilities, probabilities.argmax(axis=1), 25).tolist() == []
