import numpy as np
import pytest

from alexnet.evaluation.calibration import measure_calibration, softmax


@pytest.mark.parametrize("shift", [0.0, 5000.0, -5000.0])
def test_softmax_of_known_logits(shift: float) -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]])
    found = softmax((np.log(probabilities) + shift).astype(np.float32))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, probabilities, rtol=1e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)


def test_calibration_by_hand() -> None:
    # Two predictions with 0.9, one of them correct; a correct one with 0.6; a wrong one with 0.5, the edge of its bin.
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.5, 0.5]])
    found = measure_calibration(probabilities, np.array([0, 0, 0, 1]), bins=2)
    np.testing.assert_array_equal(found.edges, [0, 0.5, 1])
    np.testing.assert_array_equal(found.images, [1, 3])
    np.testing.assert_allclose(found.accuracy, [0, 2 / 3])
    np.testing.assert_allclose(found.confidence, [0.5, 0.8])
    assert found.error == pytest.approx((1 * 0.5 + 3 * (0.8 - 2 / 3)) / 4)


def test_calibration_of_confident_right_predictions() -> None:
    found = measure_calibration(np.eye(10), np.arange(10))
    assert found.images.tolist() == [0] * 14 + [10]
    assert np.isnan(found.accuracy[:-1]).all()
    assert found.error == 0
