"""The learning rate of every step."""

from typing import Literal

import numpy as np

Schedule = Literal["constant", "step", "cosine"]

DECAY_AT, DECAY_FACTOR = 0.8, 0.1
"""When and by how much `step` lowers the rate, as the model zoo's later generator_lr.py does for CIFAR-10:
https://gitee.com/mindspore/models/tree/master/official/cv/AlexNet"""


def learning_rates(schedule: Schedule, peak: float, steps: int, warmup_ratio: float) -> np.ndarray:
    """Return the learning rate of each of `steps` steps, float32 of shape (steps,).

    Args:
        schedule: what follows the warm-up: `constant`; `step`, which goes down to a tenth after four fifths of all
            steps; `cosine`, which falls to 0 along half a period (I. Loshchilov, F. Hutter, arXiv 1608.03983).
        peak: the highest rate.
        warmup_ratio: share of all steps in which the rate first rises from near 0 to the peak, linearly (P. Goyal et
            al., arXiv 1706.02677, section 2.2); 0 for none.
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
