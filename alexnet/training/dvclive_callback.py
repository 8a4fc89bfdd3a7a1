"""Live metrics: what DVCLive logs of a MindSpore training."""

from typing import Any

import numpy as np
from dvclive import Live
from mindspore.train import Callback, RunContext


class DVCLiveCallback(Callback):
    """Log a training with DVCLive: `train/loss`, `learning_rate`, and `eval/...` after each evaluation.

    Works with `mindspore.train.Model` too. A loop whose context has more is logged with it: `accuracy` as
    `train/accuracy`; and where `cur_step_num` is not 0 at the start, `history` (arrays `loss`, `accuracy` and
    `learning_rate` by step, `validation_...` by epoch) is logged first, so that a training gone on with has every
    point once.

    Args:
        live: the logger; without it, one is made with what other arguments there are.
        log_steps: steps from one point to the next; a point is the mean since the one before.
    """

    def __init__(self, live: Live | None = None, log_steps: int = 1, **kwargs: Any) -> None:
        super().__init__()
        self.live = live if live is not None else Live(**kwargs)
        self._log_steps = log_steps
        self._since: list[dict[str, float]] = []

    def on_train_begin(self, run_context: RunContext) -> None:
        context = run_context.original_args()
        for step in range(1, context.cur_step_num + 1):
            history = context.history
            names = {"train/loss": "loss", "train/accuracy": "accuracy", "learning_rate": "learning_rate"}
            self._add(step, {name: getattr(history, array)[step - 1] for name, array in names.items()})
            epoch, rest = divmod(step, context.batch_num)
            if rest == 0 and np.isfinite(history.validation_loss[epoch - 1]):
                results = {name: getattr(history, f"validation_{name}")[epoch - 1] for name in ("loss", "accuracy")}
                self._log(step, {f"eval/{name}": value for name, value in results.items()})

    def on_train_step_end(self, run_context: RunContext) -> None:
        context = run_context.original_args()
        values = {"train/loss": _mean(context.net_outputs)}
        if "accuracy" in context:
            values["train/accuracy"] = context.accuracy
        if context.get("optimizer") is not None:
            values["learning_rate"] = _mean(context.optimizer.get_lr())
        self._add(context.cur_step_num, values)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        context = run_context.original_args()
        results = context.get("eval_results") or {}
        if results:
            values = {f"eval/{name.removeprefix('eval_')}": value for name, value in results.items()}
            self._log(context.cur_step_num, values)

    def on_train_end(self, run_context: RunContext) -> None:
        if self._since:
            self._flush(run_context.original_args().cur_step_num)
        self.live.end()

    def _add(self, step: int, values: dict[str, float]) -> None:
        self._since.append(values)
        if step % self._log_steps == 0:
            self._flush(step)

    def _flush(self, step: int) -> None:
        means = {name: float(np.mean([values[name] for values in self._since])) for name in self._since[0]}
        self._since = []
        self._log(step, means)

    def _log(self, step: int, values: dict[str, float]) -> None:
        self.live.step = step
        for name, value in values.items():
            self.live.log_metric(name, float(value))
        self.live.make_summary()


def _mean(value: Any) -> float:
    # MindSpore's loss: a number, a tensor, or a tuple that starts with it.
    first = value[0] if isinstance(value, tuple | list) else value
    return float(np.mean(first.asnumpy() if hasattr(first, "asnumpy") else first))
