"""The learning rate of every step."""

import numpy as np
import pytest

from alexnet.training.schedule import learning_rates


def test_constant() -> None:
    assert learning_rates("constant", 0.5, 4, 0).tolist() == [0.5] * 4


def test_step_goes_down_to_a_tenth_after_four_fifths() -> None:
    assert learning_rates("step", 1, 10, 0) == pytest.approx([1] * 8 + [0.1] * 2)


def test_cosine_falls_from_the_peak_towards_0() -> None:
    found = learning_rates("cosine", 2, 4, 0)
    assert found == pytest.approx(1 + np.cos(np.pi * np.arange(4) / 4))


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_warm_up_rises_to_the_peak(schedule) -> None:  # type: ignore[no-untyped-def]
    found = learning_rates(schedule, 1, 10, 0.3)
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert found.dtype == np.float32
    assert (np.diff(found[3:]) <= 0).all()


def test_warm_up_to_the_end() -> None:
    with np.errstate(all="raise"):
        assert learning_rates("cosine", 1, 2, 0.9) == pytest.approx([1 / 3, 2 / 3])
