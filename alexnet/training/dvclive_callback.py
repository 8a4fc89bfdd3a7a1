"""Live metrics: what DVCLive logs of a MindSpore training."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from dvclive import Live
from dvclive.studio import get_dvc_studio_config
from dvclive.vscode import mark_dvclive_step_completed
from mindspore.train import Callback, RunContext


class DVCLiveCallback(Callback):
    """Log a training with DVCLive: `train/loss`, `learning_rate`, and `eval/...` after each evaluation.

    It works with `mindspore.train.Model`. When a loop's context has a `history` (see
    `alexnet.training.history.History`), its curves are logged instead; those before `cur_step_num` when the training
    begins, so that a resumed training has every point once.

    Args:
        live: the logger; without it, one is made with the other arguments.
        log_steps: how many steps a point is the mean of.
    """

    def __init__(self, live: Live | None = None, log_steps: int = 1, **kwargs: Any) -> None:
        super().__init__()
        self.live = live if live is not None else Live(**kwargs)
        self._log_steps = log_steps
        self._since: list[Mapping[str, float]] = []
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
        if self._since:
            self._flush(run_context.original_args().cur_step_num)
        self.live.end()

    def _add(self, step: int, values: Mapping[str, float]) -> bool:
        # Returns whether that makes a point.
        self._since.append(values)
        if step % self._log_steps:
            return False
        self._flush(step)
        return True

    def _flush(self, step: int) -> None:
        means = {name: float(np.mean([values[name] for values in self._since])) for name in self._since[0]}
        self._since = []
        self._log(step, means)

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        self.live.step = step
        for name, value in values.items():
            self.live.log_metric(name, float(value))
        if values:
            self.live.summary["step"] = step

    def _complete_step(self) -> None:
        # DVCLive's next_step() writes the summary, tells the VS Code extension and posts to DVC Studio. For the last it
        # reads every curve from its start, even if no Studio is set up; then the first two are done alone.
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
    # MindSpore's loss is a number, a tensor, or a tuple that starts with it.
    first = value[0] if isinstance(value, tuple | list) else value
    return float(np.mean(first.asnumpy() if hasattr(first, "asnumpy") else first))
