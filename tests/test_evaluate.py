from typing import Any

import mindspore as ms
import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.cifar10 import Split
from alexnet.evaluation.evaluate import evaluate, logits_of
from alexnet.runtime.errors import InputError

LOGITS = np.log(
    [
        # probabilities of airplane, automobile, bird, and the seven others together
        [0.70, 0.10, 0.10, *[0.10 / 7] * 7],
        [0.20, 0.60, 0.10, *[0.10 / 7] * 7],
        [0.30, 0.50, 0.10, *[0.10 / 7] * 7],
        [0.10, 0.30, 0.50, *[0.10 / 7] * 7],
        [0.25, 0.05, 0.60, *[0.10 / 7] * 7],
    ]
)
LABELS = np.array([0, 0, 0, 1, 2], np.int32)


NETWORK: Any = None
"""A stand-in for the network where the logits are given."""


def split(labels: NDArray[np.int32]) -> Split:
    rng = np.random.default_rng(len(labels))
    return Split(rng.integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8), labels)


@pytest.mark.parametrize("shift", [0.0, 5000.0, -5000.0])
def test_metrics_of_known_logits(shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alexnet.evaluation.evaluate.logits_of", lambda *_: LOGITS + shift)
    result = evaluate(NETWORK, split(LABELS), 2)
    np.testing.assert_array_equal(result.logits, LOGITS + shift)
    np.testing.assert_array_equal(result.predicted, [0, 1, 1, 2, 2])
    assert result.accuracy == 2 / 5
    by_hand = -np.mean(np.log([0.70, 0.20, 0.30, 0.30, 0.60]))
    assert result.loss == pytest.approx(by_hand, abs=1e-9)
    assert result.per_class == {"airplane": 1 / 3, "automobile": 0.0, "bird": 1.0}
    assert result.top_3_accuracy == 1


def test_the_calibration_error_of_known_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.log([[0.72, *[0.28 / 9] * 9], [0.52, *[0.48 / 9] * 9], [0.52, *[0.48 / 9] * 9]])
    monkeypatch.setattr("alexnet.evaluation.evaluate.logits_of", lambda *_: logits)
    result = evaluate(NETWORK, split(np.array([0, 0, 9], np.int32)), 2)
    # A correct prediction with 0.72; two with 0.52, in the same bin, of which one is correct.
    assert result.expected_calibration_error == pytest.approx((0.28 + 2 * 0.02) / 3, abs=1e-9)


def test_more_outputs_than_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.zeros((2, 12))
    logits[0, 11] = logits[1, 9] = 3
    monkeypatch.setattr("alexnet.evaluation.evaluate.logits_of", lambda *_: logits)
    result = evaluate(NETWORK, split(np.array([3, 9], np.int32)), 2)
    assert result.predicted.tolist() == [11, 9]
    assert result.top_3_accuracy == 0.5, "of equal logits, the first classes count: 11, 0 and 1"
    assert result.accuracy == 0.5
    assert result.per_class == {"cat": 0.0, "truck": 1.0}


def test_a_constant_network(network: Any) -> None:
    """If the weights of the last layer are 0, the logits are its biases for every image."""
    before = {name: network.fc3.parameters_dict()[name].asnumpy().copy() for name in network.fc3.parameters_dict()}
    chances = np.array([0.4, *[0.6 / 9] * 9])
    try:
        network.fc3.weight.set_data(ms.Tensor(np.zeros((10, 4096), np.float32)))
        network.fc3.bias.set_data(ms.Tensor(np.log(chances).astype(np.float32)))
        result = evaluate(network, split(np.array([0, 0, 0, 4, 7], np.int32)), 2)
    finally:
        for name, parameter in network.fc3.parameters_dict().items():
            parameter.set_data(ms.Tensor(before[name]))
    assert result.predicted.tolist() == [0] * 5
    assert result.accuracy == 3 / 5
    assert result.per_class == {"airplane": 1.0, "deer": 0.0, "horse": 0.0}
    assert result.loss == pytest.approx(-(3 * np.log(0.4) + 2 * np.log(0.6 / 9)) / 5, abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 100])
def test_each_image_once_and_in_order_whatever_the_batch_size(batch_size: int, network: Any) -> None:
    images = split(np.zeros(5, np.int32)).images
    one_by_one = np.concatenate([network(ms.Tensor(images[i : i + 1])).asnumpy() for i in range(5)])
    logits = logits_of(network, images, batch_size)
    assert logits.shape == (5, 10)
    assert len(np.unique(logits[:, 0])) == 5
    np.testing.assert_allclose(logits, one_by_one, rtol=1e-3, atol=1e-3 * one_by_one.std(axis=0).min())


def test_mirror_averages_an_image_and_its_mirror_image(network: Any) -> None:
    images = split(np.zeros(3, np.int32)).images
    plain, other = (logits_of(network, view, 3) for view in (images, images[..., ::-1].copy()))
    np.testing.assert_allclose(logits_of(network, images, 2, mirror=True), (plain + other) / 2, rtol=1e-3, atol=1e-6)
    assert not np.allclose(plain, other, rtol=1e-3)


def test_logits_that_are_nan_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alexnet.evaluation.evaluate.logits_of", lambda *_: np.where(LOGITS < -3, np.nan, LOGITS))
    with pytest.raises(InputError, match="NaN or infinite: train it again"):
        evaluate(NETWORK, split(LABELS), 2)
