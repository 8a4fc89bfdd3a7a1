import numpy as np
import pytest

from alexnet.report.predictions import calibration, confident_mistakes, confusion_matrix, softmax


@pytest.mark.parametrize("shift", [0.0, 5000.0, -5000.0])
def test_softmax_of_known_logits(shift: float) -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]])
    found = softmax((np.log(probabilities) + shift).astype(np.float32))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, probabilities, rtol=1e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)


def test_confusion_matrix_has_the_true_class_in_rows() -> None:
    matrix = confusion_matrix(np.array([3, 3, 5, 0]), np.array([5, 3, 5, 9]))
    expected = np.zeros((10, 10), np.int64)
    expected[3, 5] = expected[3, 3] = expected[5, 5] = expected[0, 9] = 1
    np.testing.assert_array_equal(matrix, expected)


def test_what_is_predicted_as_no_class_has_one_column() -> None:
    matrix = confusion_matrix(np.array([1, 1, 2]), np.array([10, 999, 2]))
    assert matrix.shape == (10, 11)
    assert (matrix[1, 10], matrix[2, 2], matrix.sum()) == (2, 1, 3)


def test_calibration_by_hand() -> None:
    # Sure by 0.9 twice, once rightly; by 0.6 once, rightly; by 0.5, the edge of the lower bin, once, wrongly.
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.5, 0.5]])
    found = calibration(probabilities, np.array([0, 0, 0, 1]), bins=2)
    np.testing.assert_array_equal(found.edges, [0, 0.5, 1])
    np.testing.assert_array_equal(found.images, [1, 3])
    np.testing.assert_allclose(found.accuracy, [0, 2 / 3])
    np.testing.assert_allclose(found.confidence, [0.5, 0.8])
    assert found.error == pytest.approx((1 * 0.5 + 3 * (0.8 - 2 / 3)) / 4)


def test_calibration_of_predictions_that_are_sure_and_right() -> None:
    found = calibration(np.eye(10), np.arange(10))
    assert found.images.tolist() == [0] * 14 + [10]
    assert np.isnan(found.accuracy[:-1]).all()
    assert found.error == 0


def test_mistakes_come_the_surest_first() -> None:
    probabilities = np.array([[0.6, 0.4], [0.8, 0.2], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    labels = np.array([1, 1, 0, 0, 0])  # the third is right, the second and fourth are equally sure
    assert confident_mistakes(probabilities, labels, 25).tolist() == [1, 3, 4, 0]
    assert confident_mistakes(probabilities, labels, 2).tolist() == [1, 3]
    assert confident_mistakes(probabilities, probabilities.argmax(axis=1), 25).tolist() == []
