"""A callback that logs a MindSpore training with DVCLive."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from dvclive import Live
from dvclive.studio import get_dvc_studio_config
from dvclive.vscode import mark_dvclive_step_completed
from mindspore.train import Callback, RunContext


class DVCLiveCallback(Callback):
    """Log a training with DVCLive: `train/loss`, `learning_rate`, and `eval/...` after each evaluation.

    It works with any `mindspore.train.Model`, and with `alexnet.training.loop.train`, whose context has a `history`.
    Then all curves of the history are logged, `train/accuracy` included. When a training resumes, the points before
    `cur_step_num` are logged first, so that every point is there once.

    Args:
        live: the logger; None creates one with `kwargs`.
        log_steps: how many steps make one point, which is their mean.
        kwargs: arguments of `dvclive.Live`.
    """

    def __init__(self, live: Live | None = None, log_steps: int = 1, **kwargs: Any) -> None:
        super().__init__()
        self.live = live if live is not None else Live(**kwargs)
        self._log_steps = log_steps
        self._pending: list[Mapping[str, float]] = []  # the values of the steps since the last point
        self._points = 0  # how many times `log_steps` steps have passed
        self._posts = bool(get_dvc_studio_config(self.live))

    def on_train_begin(self, run_context: RunContext) -> None:
        context = run_context.original_args()
        for step in range(1, context.cur_step_num + 1):
            self._add(step, context.history.step(step - 1))
            epoch, rest = divmod(step, context.batch_num)
            if rest == 0:
                self._log(step, context.history.epoch(epoch - 1))
        if context.cur_step_num:
            self._complete_step()

    def on_train_step_end(self, run_context: RunContext) -> None:
        context = run_context.original_args()
        step = context.cur_step_num
        if self._add(step, context.history.step(step - 1) if "history" in context else _measured(context)):
            self._complete_step()

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        context = run_context.original_args()
        if "history" in context:
            values = context.history.epoch(context.cur_epoch_num - 1)
        else:
            results = context.get("eval_results") or {}
            values = {f"eval/{name.removeprefix('eval_')}": value for name, value in results.items()}
        if values:
            self._log(context.cur_step_num, values)
            self._complete_step()

    def on_train_end(self, run_context: RunContext) -> None:
        if self._pending:
            self._flush(run_context.original_args().cur_step_num)
        self.live.end()

    def _add(self, step: int, values: Mapping[str, float]) -> bool:
        # Adds the values of a step; returns whether a point was logged.
        self._pending.append(values)
        if step // self._log_steps == self._points:  # with data sinking, a Model calls this after many steps at once
            return False
        self._points = step // self._log_steps
        self._flush(step)
        return True

    def _flush(self, step: int) -> None:
        means = {name: float(np.mean([values[name] for values in self._pending])) for name in self._pending[0]}
        self._pending = []
        self._log(step, means)

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        self.live.step = step
        for name, value in values.items():
            self.live.log_metric(name, float(value))
        if values:
            self.live.summary["step"] = step

    def _complete_step(self) -> None:
        # DVCLive's next_step() writes the summary, notifies the VS Code extension and posts to DVC Studio. To post, it
        # reads all curves from their start, even if no Studio is set up; in that case only the first two are done here.
        if self._posts:
            self.live.next_step()
        else:
            self.live.make_summary()
            mark_dvclive_step_completed(self.live.step)


def _measured(context: Any) -> dict[str, float]:
    values = {"train/loss": _mean(context.net_outputs)}
    if context.get("optimizer") is not None:
        values["learning_rate"] = _mean(context.optimizer.get_lr())
    return values


def _mean(value: Any) -> float:
    # MindSpore's loss is a number, a tensor, or a tuple whose first element is the loss.
    first = value[0] if isinstance(value, tuple | list) else value
    return float(np.mean(first.asnumpy() if hasattr(first, "asnumpy") else first))
