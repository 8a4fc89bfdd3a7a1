"""The metrics that a training records, and that a new one is added in one place."""

from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pytest

from alexnet.cifar10 import Split
from alexnet.model.networks.alexnet import AlexNet
from alexnet.training import loop
from alexnet.training.batches import Batches
from alexnet.training.dvclive_callback import DVCLiveCallback
from alexnet.training.history import History, measure
from alexnet.training.recipe import Recipe
from tests.test_dvclive_callback import curve, live

pytestmark = pytest.mark.usefixtures("outside_the_repository")


def test_an_empty_history_has_an_array_for_each_field() -> None:
    empty = History.empty(6, 2)
    for one in fields(History):
        array = getattr(empty, one.name)
        assert array.dtype == np.float32
        assert array.shape == ((2,) if one.name.startswith("validation") else (6,))
    assert empty.step(3) == {"train/loss": 0, "train/accuracy": 0, "learning_rate": 0}
    assert empty.epoch(1) == {}


def test_values_have_the_names_of_their_curves() -> None:
    filled = History.empty(6, 2)
    filled.record(3, {"loss": 1.5, "accuracy": 0.25, "learning_rate": 0.5, "seconds": 9})
    filled.record(1, {"validation_loss": 2, "validation_accuracy": 0.75})
    assert filled.step(3) == {"train/loss": 1.5, "train/accuracy": 0.25, "learning_rate": 0.5}
    assert filled.epoch(1) == {"eval/loss": 2, "eval/accuracy": 0.75}


def test_measure() -> None:
    logits = np.array([[0, 0], [0, np.log(3)]], np.float32)
    expected = {"loss": (np.log(2) + np.log(4)) / 2, "accuracy": 0.5}
    assert measure(logits, np.array([0, 0], np.int32)) == pytest.approx(expected)


def test_a_new_metric_of_a_step_is_recorded_and_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class More(History):
        largest: np.ndarray = field(metadata={"unit": "step", "curve": "train/largest"})

    monkeypatch.setattr(loop, "History", More)
    monkeypatch.setattr(loop, "measure", lambda *batch: measure(*batch) | {"largest": float(batch[0].max())})
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (8, 3, 32, 32), dtype=np.uint8), np.arange(8, dtype=np.int32))
    callback = DVCLiveCallback(live(tmp_path))
    loop.train(AlexNet(10, 67, 67, 0), Batches(split, 1, 4, 0, seed=1), Recipe(0.01, 0.9), callbacks=[callback])
    points = curve(tmp_path, "train/largest")
    assert [step for step, _ in points] == [1, 2]
    assert all(value != 0 for _, value in points)
