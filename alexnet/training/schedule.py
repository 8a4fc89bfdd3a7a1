"""The learning rate of every step."""

from typing import Literal

import numpy as np

Schedule = Literal["constant", "step", "cosine"]
"""The names of the schedules, see `learning_rates`."""

DECAY_AT, DECAY_FACTOR = 0.8, 0.1
"""The schedule `step` multiplies the rate by DECAY_FACTOR after the share DECAY_AT of all steps.

Source: generator_lr.py of the model zoo,
https://github.com/mindspore-ai/mindspore/blob/7bb7328/model_zoo/official/cv/alexnet/src/generator_lr.py"""


def learning_rates(schedule: Schedule, peak: float, steps: int, warmup_ratio: float) -> np.ndarray:
    """Return the learning rate of each of `steps` steps, float32 of shape (steps,).

    Args:
        schedule: how the rate changes after the warm-up. `constant` keeps it; `step` lowers it to a tenth after four
            fifths of all steps; `cosine` lowers it almost to 0 along half a period of a cosine (I. Loshchilov, F.
            Hutter, arXiv 1608.03983).
        peak: the highest rate.
        steps: the number of steps of the whole training.
        warmup_ratio: the share of all steps in which the rate first rises linearly, from near 0 to the peak (P. Goyal
            et al., arXiv 1706.02677, section 2.2); 0 for no warm-up.
    """
    step = np.arange(steps)
    warmup = round(warmup_ratio * steps)
    match schedule:
        case "constant":
            factor = np.ones(steps)
        case "step":
            factor = np.where(step < DECAY_AT * steps, 1, DECAY_FACTOR)
        case "cosine":
            factor = 0.5 + 0.5 * np.cos(np.pi * (step - warmup) / max(1, steps - warmup))
    rising = step < warmup
    factor[rising] = (step[rising] + 1) / (warmup + 1)
    return (peak * factor).astype(np.float32)
