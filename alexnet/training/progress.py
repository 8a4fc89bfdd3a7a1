"""What a person sees of a training: the model zoo's log line, and a bar on a terminal."""

import logging
from typing import Any

from mindspore.train import Callback, RunContext
from tqdm import tqdm

log = logging.getLogger(__name__)


class Progress(Callback):
    """Log `epoch: 1 step: 1, loss is 2.2791853` every so many steps, from the first on, steps counted in the epoch.

    On a terminal, a bar on standard error shows the images seen, images/s and the time left.

    Args:
        log_steps: steps from one line to the next.
    """

    def __init__(self, log_steps: int) -> None:
        super().__init__()
        self._log_steps = log_steps
        self._bar: tqdm[Any] | None = None

    def on_train_begin(self, run_context: RunContext) -> None:
        context = run_context.original_args()
        images = context.epoch_num * context.batch_num * context.batch_size
        seen = context.cur_step_num * context.batch_size  # before an interruption
        self._bar = tqdm(total=images, initial=seen, unit=" images", unit_scale=True, disable=None, dynamic_ncols=True)

    def on_train_step_end(self, run_context: RunContext) -> None:
        context = run_context.original_args()
        if (context.cur_step_num - 1) % self._log_steps == 0:
            step = (context.cur_step_num - 1) % context.batch_num + 1
            log.info("epoch: %d step: %d, loss is %s", context.cur_epoch_num, step, context.net_outputs)
        if self._bar is not None:
            self._bar.update(context.batch_size)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
