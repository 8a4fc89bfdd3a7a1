"""Measure how fast this machine's CPU trains, evaluates and saves; print tables and write a JSON file.

Every case runs in a process of its own. The figures are medians of several repetitions after a warm-up. Run this in the
repository's folder, while the machine does nothing else.
"""

import argparse
import importlib.util
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from alexnet.kernels import onednn
from alexnet.runtime.errors import InputError, Interrupted
from alexnet.runtime.files import write_json
from benchmarks import machine
from benchmarks.bench import KINDS, QUICK, Bench, Plan, Row, thread_counts
from benchmarks.measure import ENOUGH_REPETITIONS, ENOUGH_SECONDS
from stages import params, paths
from stages.__main__ import run

RESULTS = Path("benchmarks/results.json")
WIDTH = 100
"""The number of columns of the printed tables."""
HEADINGS = {
    "batch_norm": "norm",
    "amp_level": "amp",
    "share_of_peak": "share",
    "channels_last": "ch._last",
    "_per_second": "/s",
    "image_size": "px",
    "batch_size": "batch",
    "gflop": "GFLOP",
    "_gb": "_GB",
    "mb": "MB",
}
"""The headings of the tables are the names in the JSON file, in which these parts are replaced."""


def main() -> None:
    """Run the benchmarks that the command line asks for, print the tables and write the JSON file."""
    options = parse()
    config = params.read()
    torch = torch_version(options.torch_python) if options.torch_python else None
    plan = QUICK if options.quick else Plan(thread_counts(machine.cores()))
    plan = replace(
        plan,
        repetitions=options.repetitions or plan.repetitions,
        amp_levels=machine.precisions(),
        kernels=("onednn", "mindspore") if onednn.available() else ("mindspore",),
    )
    if options.output.is_dir():
        raise InputError(f"--output is {options.output}, which is a folder, expected a file")
    options.output.parent.mkdir(parents=True, exist_ok=True)

    console = Console(width=WIDTH, highlight=False)
    description = machine.describe() | ({"torch": torch} if torch else {})
    console.print(*(f"{name}: {value}" for name, value in description.items()), sep="\n")
    results: dict[str, list[Row]] = {}
    # Files are written beside the saved states of trainings, so that saving is measured on the same disk.
    parent = paths.states().parent
    parent.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory(prefix="bench-", dir=parent, ignore_cleanup_errors=True) as folder,
        console.status("") as status,
    ):
        bench = Bench(plan, config.model_dump(), Path(folder), options.torch_python, status.update)
        for kind in KINDS:
            if kind in options.only:
                results[kind] = KINDS[kind](bench)
                write_json(options.output, {"machine": description, "quick": options.quick} | results)
                console.print(f"\n{KINDS[kind].__doc__}", style="bold")
                console.print(table(results[kind]))
                shutil.rmtree(Path(folder) / kind, ignore_errors=True)  # it can have hundreds of megabytes
    print(f"written to {options.output}")


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=KINDS,
        default=list(KINDS),
        metavar="KIND",
        help=f"what to measure: {', '.join(KINDS)} (default: all)",
    )
    parser.add_argument(
        "--repetitions",
        type=positive,
        metavar="N",
        help=f"the most repetitions of each case (default: {Plan.repetitions}); after {ENOUGH_REPETITIONS} of them, "
        f"there are no more once they have taken {ENOUGH_SECONDS} seconds, except in `stage`",
    )
    parser.add_argument("--quick", action="store_true", help="run only the smallest cases, once, to see that they work")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, metavar="PATH", help="JSON file to write (default: %(default)s)"
    )
    parser.add_argument(
        "--torch-python",
        metavar="PATH",
        default=sys.executable if importlib.util.find_spec("torch") else None,
        help="a Python with PyTorch and NumPy, whose training step is measured too (default: this Python, if it has "
        "PyTorch)",
    )
    return parser.parse_args()


def positive(text: str) -> int:
    """Return the number in a text. Raises ArgumentTypeError unless it is a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number of at least 1")
    return int(text)


def torch_version(python: str) -> str:
    """Return the version of PyTorch in another Python. Raises InputError when that has none."""
    try:
        result = subprocess.run(
            [python, "-c", "import numpy, torch; print(torch.__version__)"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(getattr(error, "stderr", None) or error).strip().splitlines()[-1]
        raise InputError(
            f"--torch-python is {python}, expected a Python that can import torch and numpy: {reason}"
        ) from None
    return result.stdout.strip()


def table(rows: list[Row]) -> Table:
    """Return a table of the figures in the rows, without those that are lists."""
    names = [name for name, value in rows[0].items() if not isinstance(value, list)]
    result = Table(box=None, pad_edge=False, header_style="")
    for name in names:
        heading = name
        for long, short in HEADINGS.items():
            heading = heading.replace(long, short)
        words = heading.split("_")
        justify: Literal["left", "right"] = "left" if isinstance(rows[0][name], str) else "right"
        result.add_column(" ".join(words), justify=justify, min_width=max(map(len, words)))
    for row in rows:
        result.add_row(*(cell(row[name]) for name in names))
    return result


def cell(value: Any) -> str:
    """Return a value as text; a float has three significant digits, or as many as there are before its point."""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def interrupt(number: int, _: object) -> None:
    """Handle a signal by raising Interrupted, so that the temporary folder is removed.

    A `StopRequest` would have to listen before NumPy is imported.
    """
    raise Interrupted(128 + number)


if __name__ == "__main__":
    for signal_number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signal_number) != signal.SIG_IGN:  # which it is for SIGHUP under nohup
            signal.signal(signal_number, interrupt)
    run(main)
