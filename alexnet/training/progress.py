"""Showing the progress of a training: the model zoo's log lines, a line for each epoch, and a bar on a terminal."""

import logging
import time
from typing import Any

import numpy as np
from mindspore.train import Callback, RunContext
from tqdm import tqdm

log = logging.getLogger(__name__)


class Progress(Callback):
    """Log the loss of some steps and the result of each epoch, and show a bar on a terminal.

    After the first step and then after every `log_steps` steps, there is a line `epoch: 1 step: 1, loss is 2.2791853`,
    in which steps are counted within the epoch. At the end of each epoch, a line has its mean loss and accuracy, its
    last learning rate, the loss and accuracy of the validation if there is one, the images/s (since the start of the
    epoch or of this process), and the time left. On a terminal, a bar on standard error shows the images, the images/s
    and the time left of the whole training.

    Args:
        log_steps: how many steps there are from one line to the next.
    """

    def __init__(self, log_steps: int) -> None:
        super().__init__()
        self._log_steps = log_steps
        self._bar: tqdm[Any] | None = None
        self._epoch_start = (0, 0.0)  # how many steps were done when the epoch began, and the time in seconds

    def on_train_begin(self, run_context: RunContext) -> None:
        context = run_context.original_args()
        images = context.epoch_num * context.batch_num * context.batch_size
        first = context.cur_step_num * context.batch_size  # not 0 when the training resumes
        self._bar = tqdm(total=images, initial=first, unit=" images", unit_scale=True, disable=None, dynamic_ncols=True)
        self._epoch_start = context.cur_step_num, time.monotonic()

    def on_train_step_end(self, run_context: RunContext) -> None:
        context = run_context.original_args()
        if (context.cur_step_num - 1) % self._log_steps == 0:
            step = (context.cur_step_num - 1) % context.batch_num + 1
            log.info("epoch: %d step: %d, loss is %s", context.cur_epoch_num, step, context.net_outputs)
        if self._bar is not None:
            self._bar.update(context.batch_size)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        context = run_context.original_args()
        history, epoch, steps_done = context.history, context.cur_epoch_num, context.cur_step_num
        first, start = self._epoch_start
        now = time.monotonic()
        seconds_per_step = (now - start) / (steps_done - first)
        steps = slice(steps_done - context.batch_num, steps_done)
        parts = [
            f"loss {history.loss[steps].mean(dtype=np.float64):.4f}",
            f"accuracy {history.accuracy[steps].mean(dtype=np.float64):.4f}",
            f"learning rate {history.learning_rate[steps_done - 1]:.3g}",
        ]
        if np.isfinite(history.validation_loss[epoch - 1]):
            parts.append(f"validation loss {history.validation_loss[epoch - 1]:.4f}")
            parts.append(f"validation accuracy {history.validation_accuracy[epoch - 1]:.4f}")
        seconds_left = (context.epoch_num * context.batch_num - steps_done) * seconds_per_step
        parts += [f"{context.batch_size / seconds_per_step:.0f} images/s", f"{tqdm.format_interval(seconds_left)} left"]
        log.info("epoch %d of %d: %s", epoch, context.epoch_num, ", ".join(parts))
        self._epoch_start = steps_done, now

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
