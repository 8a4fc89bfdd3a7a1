"""The trained network on a command line: `python -m alexnet predict IMAGE...`."""

# Signals first, for what is imported next takes seconds, and starts threads.
from alexnet.runtime.stop import Interruption  # isort: split

if __name__ == "__main__":
    INTERRUPTION = Interruption()

import argparse
import json
import sys
from pathlib import Path

from alexnet.inference.classifier import Classifier, likeliest
from alexnet.inference.image_file import open_image
from alexnet.kernels.choice import choose
from alexnet.model.checkpoint import load_network
from alexnet.runtime import device
from alexnet.runtime.errors import InputError, exit_on_failure, printable, tell

LIKELIEST = 3
"""How many classes are told of each image."""


def characters(name: str) -> str:
    """Return a file's name with escapes for its bytes that are no characters, which JSON cannot have."""
    return name.encode("utf-8", "backslashreplace").decode()


def predict(flags: argparse.Namespace) -> None:
    """Tell what each image shows; those that cannot be read are told of on standard error, and at last by code 2."""
    kernels = choose("auto", "O0", *device.select(flags.device_target))
    classifier = Classifier(load_network(flags.model, flags.image_height, flags.image_width, kernels))
    predictions, failures = [], []
    for name in flags.images:
        try:
            found = likeliest(classifier, open_image(name), LIKELIEST)
        except InputError as error:
            tell(f"{printable(name)}: {error}")
            failures.append({"image": characters(name), "error": str(error)})
            continue
        classes = [{"class": label, "probability": probability} for label, probability in found.items()]
        predictions.append({"image": characters(name), "classes": classes})
        if not flags.json:
            print(
                f"{printable(name)}: {', '.join(f'{label} {probability:.3f}' for label, probability in found.items())}"
            )
    if flags.json:
        print(json.dumps({"predictions": predictions, "failures": failures}, indent=2, allow_nan=False))
    if failures:
        sys.exit(2)


def main(interruption: Interruption) -> None:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m alexnet", description="AlexNet on CIFAR-10, trained.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("predict", help="tell what images show", description="Tell what images show.")
    command.add_argument("images", nargs="+", metavar="IMAGE", help="image file; - is standard input")
    command.add_argument("--model", type=Path, default=Path("models/alexnet.ckpt"), help="checkpoint (%(default)s)")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    command.add_argument("--device_target", choices=("auto", *device.TARGETS), default="auto", help="(%(default)s)")
    for size in ("image_height", "image_width"):
        command.add_argument(f"--{size}", type=int, help="of a checkpoint that does not tell it, as the model zoo's")
    with exit_on_failure(), interruption.raising():
        predict(parser.parse_args())


if __name__ == "__main__":
    main(INTERRUPTION)
