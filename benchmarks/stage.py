"""The case that measures the stage train, as `dvc repro` runs it. It is timed by the lines that it prints."""

import os
import resource
import subprocess
import sys
import time
from itertools import pairwise
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from alexnet.runtime.errors import InputError
from alexnet.runtime.processes import LAUNCHED
from benchmarks import dataset
from benchmarks.measure import peak_memory_gb, serve

ROOT = Path(__file__).resolve().parents[1]

SAVE_STEPS = 4
"""The number of steps from one saved state to the next; a small one, so that several are saved."""
WARM_UP_STEPS = 2
"""The number of steps at the start that are not counted."""


def stage(folder: str, params: dict[str, dict[str, Any]], repetitions: int) -> dict[str, Any]:
    """Train in a folder with these parameters, on generated images, until `repetitions` states have been saved.

    Returns `start_s`, the time until the end of the first step; `seconds`, the time of each step after the warm-up,
    including everything between steps: making batches, logging and DVCLive; `save_seconds`, the additional time of a
    step whose state is saved, including the check for NaN and infinity; and `memory_gb`, the peak memory of the stage.
    Raises InputError, with the last line of the stage, when it ends early.
    """
    workspace = Path(folder)
    dataset.write(workspace / "images", params["data"]["train_images"])
    steps = SAVE_STEPS * repetitions + 1
    epochs = ceil(steps / max(1, params["data"]["train_images"] // params["train"]["batch_size"]))
    params["train"] |= {"workers": 1, "validation_images": 0, "initial_weights": None}
    params["run"] |= {"log_steps": 1, "save_checkpoint_steps": SAVE_STEPS, "dataset_sink_mode": "auto"}
    (workspace / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")

    flags = {"data_path": "images", "ckpt_path": "ckpt", "device_target": "CPU", "epoch_size": epochs}
    command = [sys.executable, "-m", "stages", "train", *(f"--{name}={value}" for name, value in flags.items())]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC")}
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=workspace,
        env=environment | {"PYTHONPATH": str(ROOT), LAUNCHED: "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            ends, line = [], ""
            for line in process.stdout or ():
                if line.startswith("epoch: "):
                    ends.append(time.perf_counter() - start)
                if len(ends) == steps:
                    break
            else:
                raise InputError(f"the training stage ended after {len(ends)} of {steps} steps: {line.strip()}")
        finally:
            process.kill()
    # A step's line is printed before its state is saved, so saving counts towards the next step.
    intervals = {number: after - before for number, (before, after) in enumerate(pairwise(ends), 1)}
    plain = [seconds for number, seconds in intervals.items() if number >= WARM_UP_STEPS and number % SAVE_STEPS]
    saving = [seconds for number, seconds in intervals.items() if number % SAVE_STEPS == 0]
    typical = median(plain)
    return {
        "start_s": ends[0],
        "seconds": plain,
        "save_seconds": [seconds - typical for seconds in saving],
        "memory_gb": peak_memory_gb(resource.RUSAGE_CHILDREN),
    }


if __name__ == "__main__":
    serve(stage)
