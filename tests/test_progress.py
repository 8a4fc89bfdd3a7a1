"""What a person sees of a training."""

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mindspore.train import RunContext
from mindspore.train.callback import _InternalCallbackParam

from alexnet.training import progress
from alexnet.training.progress import Progress


def play(callback: Progress, first: int) -> None:
    """Call a callback as a training of two epochs of three steps of ten images does that goes on after `first`."""
    context = _InternalCallbackParam(epoch_num=2, batch_num=3, batch_size=10, cur_step_num=first)
    run = RunContext(context)
    with callback:
        callback.on_train_begin(run)
        for step in range(first, 6):
            context.cur_epoch_num, context.cur_step_num = step // 3 + 1, step + 1
            context.net_outputs = np.float32(step)
            callback.on_train_step_end(run)


def test_a_line_every_so_many_steps(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "alexnet")
    play(Progress(4), 0)
    assert caplog.messages == ["epoch: 1 step: 1, loss is 0.0", "epoch: 2 step: 2, loss is 4.0"]


@pytest.mark.parametrize("first", [0, 4])
def test_the_bar_counts_images_from_where_training_goes_on(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Any] = []

    def tqdm(total: int, initial: int, **_: Any) -> Any:
        bar = SimpleNamespace(total=total, n=initial, close=lambda: None)
        bar.update = lambda images: setattr(bar, "n", bar.n + images)
        bars.append(bar)
        return bar

    monkeypatch.setattr(progress, "tqdm", tqdm)
    play(Progress(100), first)
    (bar,) = bars
    assert (bar.total, bar.n) == (60, 60)
