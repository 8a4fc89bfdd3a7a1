"""The trained network on the command line: `python -m alexnet predict IMAGE...`.

Signal handlers are installed before the command's code is imported, because MindSpore takes seconds to import and
starts threads.
"""

import argparse
import importlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from alexnet.runtime.choices import DeviceTarget
from alexnet.runtime.errors import exit_on_failure
from alexnet.runtime.stop import StopRequest


def main(arguments: Sequence[str]) -> None:
    """Parse the command line and run the command."""
    request = StopRequest()
    request.listen()
    flags = parse(arguments)
    if sys.stdout is not None:  # None if the shell closed it
        # Standard output may have an encoding that lacks a letter of a file's name.
        cast(io.TextIOWrapper, sys.stdout).reconfigure(errors="backslashreplace")
    module = importlib.import_module(".inference.predict", __package__)
    with exit_on_failure(), request.raising():
        module.predict(flags)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the values of the flags."""
    parser = argparse.ArgumentParser(prog="python -m alexnet", description="The trained network.")
    commands = parser.add_subparsers(required=True)
    text = "print the likeliest classes of images"
    command = commands.add_parser("predict", help=text, description=f"{text.capitalize()}.")
    command.add_argument("images", nargs="+", metavar="IMAGE", help="image file; - is standard input")
    command.add_argument(
        "--model",
        type=Path,
        help="checkpoint, or .onnx file (models/alexnet.ckpt; without MindSpore, models/alexnet.onnx)",
    )
    command.add_argument("--json", action="store_true", help="print one JSON document")
    command.add_argument("--device_target", choices=get_args(DeviceTarget), default="auto", help="(%(default)s)")
    for size in ("image_height", "image_width"):
        command.add_argument(f"--{size}", type=int, help="for checkpoints that do not say it, such as the model zoo's")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
