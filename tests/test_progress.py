"""The progress of a training on the screen."""

import logging
import time
from io import StringIO
from typing import Any

import numpy as np
import pytest
from mindspore.train import RunContext
from mindspore.train.callback import _InternalCallbackParam
from tqdm import tqdm

from alexnet.training import progress
from alexnet.training.history import History
from alexnet.training.progress import Progress

HISTORY = History.empty(6, 2)
"""Two epochs of three steps, the second of which is validated."""
HISTORY.loss[:] = 6, 5, 4, 3, 2, 1
HISTORY.accuracy[:] = 0, 0.25, 0.5, 0.5, 0.75, 1
HISTORY.learning_rate[:] = 0.1, 0.1, 0.1, 0.1, 0.1, 0.05
HISTORY.record(1, {"validation_loss": 1.25, "validation_accuracy": 0.625})


def play(callback: Progress, first: int) -> None:
    """Call a callback like a training of two epochs of three steps of ten images that resumes after `first` steps."""
    context = _InternalCallbackParam(
        epoch_num=2, batch_num=3, batch_size=10, cur_epoch_num=first // 3, cur_step_num=first, history=HISTORY
    )
    run = RunContext(context)
    with callback:
        callback.on_train_begin(run)
        for step in range(first, 6):
            context.cur_epoch_num, context.cur_step_num = step // 3 + 1, step + 1
            context.net_outputs = np.float32(step)
            callback.on_train_step_end(run)
            if step % 3 == 2:
                callback.on_train_epoch_end(run)


def test_a_line_every_few_steps(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "alexnet")
    play(Progress(4), 0)
    lines = [line for line in caplog.messages if line.startswith("epoch: ")]
    assert lines == ["epoch: 1 step: 1, loss is 0.0", "epoch: 2 step: 2, loss is 4.0"]


@pytest.mark.parametrize("first", [0, 1])
def test_a_line_for_each_epoch(first: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    # The clock is read when the training begins and when an epoch ends. A step takes two seconds here.
    times = iter([10.0, 10.0 + 2 * (3 - first), 16.0 + 2 * (3 - first)])
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    caplog.set_level(logging.INFO, "alexnet")
    play(Progress(100), first)
    assert [line for line in caplog.messages if not line.startswith("epoch: ")] == [
        "epoch 1 of 2: loss 5.0000, accuracy 0.2500, learning rate 0.1, 5 images/s, 00:06 left",
        "epoch 2 of 2: loss 2.0000, accuracy 0.7500, learning rate 0.05, validation loss 1.2500, "
        "validation accuracy 0.6250, 5 images/s, 00:00 left",
    ]


@pytest.mark.parametrize("first", [0, 4])
def test_the_bar_counts_images_from_where_training_resumes(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Any] = []

    class Bar(tqdm):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options | {"disable": False, "file": StringIO()})
            bars.append(self)

    monkeypatch.setattr(progress, "tqdm", Bar)
    play(Progress(100), first)
    (bar,) = bars
    assert (bar.total, bar.n) == (60, 60)
