"""Measuring a case: in a process of its own, several times after a warm-up."""

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
"""The warm-up is one call if it takes longer than this, and otherwise two."""
REPETITION_SECONDS = 0.2
"""How long a repetition takes at least: it makes as many calls as needed, like `timeit.Timer.autorange`."""
ENOUGH_SECONDS, ENOUGH_REPETITIONS = 10, 3
"""After ENOUGH_REPETITIONS repetitions, there are no more once they have taken ENOUGH_SECONDS in all."""


def repeat(call: Callable[[], object], repetitions: int) -> list[float]:
    """Return the seconds per call of each repetition, after a warm-up. There are at most `repetitions` of them."""
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
    """Return the peak memory of this process, or of the largest of its children that have ended, in 10^9 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit / 1e9


def serve(*cases: Callable[..., dict[str, Any]]) -> None:
    """Run, in its own process, the case that the command line of `run` names, and print its result as JSON.

    `memory_gb`, the peak memory of this process, is added if the result does not have it.
    """
    name, arguments = sys.argv[1:]
    result = {case.__name__: case for case in cases}[name](**json.loads(arguments))
    print(json.dumps({"memory_gb": peak_memory_gb()} | result))


def run(module: str, case: str, python: str = sys.executable, **arguments: Any) -> dict[str, Any]:
    """Run a case in a process of its own, and return its result.

    Raises InputError when it fails, with the last error that it printed and the command that repeats it.
    """
    command = [python, "-m", f"benchmarks.{module}", case, json.dumps(arguments)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        errors = re.findall(r"^(?:[\w.]+Error|ERROR|\[ERROR\]):? .*", process.stderr, re.MULTILINE)
        reason = errors[-1] if errors else f"exit code {process.returncode}"
        if process.returncode < 0:
            reason = f"ended by {signal.Signals(-process.returncode).name}, as happens when memory runs out"
        raise InputError(f"{case} failed: {reason}; to repeat only this: {shlex.join(command)}")
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result
