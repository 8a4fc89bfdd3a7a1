"""How everything is measured: in a process of its own, several times after warm-up."""

import json
import re
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from math import ceil
from timeit import Timer
from typing import Any

from alexnet.runtime.errors import InputError

WARM_UP_SECONDS = 5
"""A first call that takes longer is the only one that is not counted; else there are two."""
REPETITION_SECONDS = 0.2
"""A repetition does as many calls as take so long, as `timeit.Timer.autorange` would."""
ENOUGH_SECONDS, ENOUGH_REPETITIONS = 10, 3
"""Once repetitions have taken so long together, so many are enough."""


def repeat(call: Callable[[], object], repetitions: int) -> list[float]:
    """Return how many seconds a call took in each repetition, at most `repetitions` of them, after warm-up."""
    timer = Timer(call)
    once = timer.timeit(1)
    if once < WARM_UP_SECONDS:
        once = timer.timeit(1)
    number = ceil(REPETITION_SECONDS / once)
    totals: list[float] = []
    while len(totals) < repetitions and (len(totals) < ENOUGH_REPETITIONS or sum(totals) < ENOUGH_SECONDS):
        totals.append(timer.timeit(number))
    return [total / number for total in totals]


def peak_memory_gb(who: int = resource.RUSAGE_SELF) -> float:
    """Return the most memory that this process, or the largest of its children that ended, ever had, in 10^9 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit / 1e9


def serve(*cases: Callable[..., dict[str, Any]]) -> None:
    """Be the process of a case: call the one that the command line names, and print what it returns as JSON.

    The command line is what `run` gives it. `memory_gb`, this process' peak, is added where the case has none.
    """
    name, arguments = sys.argv[1:]
    result = {case.__name__: case for case in cases}[name](**json.loads(arguments))
    print(json.dumps({"memory_gb": peak_memory_gb()} | result))


def run(module: str, case: str, python: str = sys.executable, **arguments: Any) -> dict[str, Any]:
    """Return what a case returns, run by a Python of its own.

    Raises InputError when it fails: the last error it told, and the command that repeats it.
    """
    command = [python, "-m", f"benchmarks.{module}", case, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = re.findall(r"^(?:[\w.]+Error|ERROR|\[ERROR\]):? .*", done.stderr, re.MULTILINE)
        said = errors[-1] if errors else f"exit code {done.returncode}"
        if done.returncode < 0:
            said = f"ended by {signal.Signals(-done.returncode).name}, as when memory is short"
        raise InputError(f"{case} failed: {said}; to repeat it alone: {shlex.join(command)}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
