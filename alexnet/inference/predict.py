"""The work of `python -m alexnet predict`: print what each image shows."""

import argparse
import json
import sys

from alexnet.inference.classifier import Classifier, likeliest
from alexnet.inference.image_file import open_image
from alexnet.kernels.choice import choose
from alexnet.model.checkpoint import load_network
from alexnet.runtime import device
from alexnet.runtime.errors import InputError, print_error, printable

CLASSES_SHOWN = 3
"""How many classes are printed for each image."""


def predict(flags: argparse.Namespace) -> None:
    """Print the likeliest classes of each image.

    An image that cannot be read is reported on standard error; the others are still answered, and the process then
    exits with 2. Raises InputError when the model cannot be loaded or the device is not there.
    """
    kernels = choose("auto", "O0", *device.select(flags.device_target))
    classifier = Classifier(load_network(flags.model, flags.image_height, flags.image_width, kernels))
    predictions, failures = [], []
    for name in flags.images:
        try:
            found = likeliest(classifier, open_image(name), CLASSES_SHOWN)
        except InputError as error:
            print_error(f"{printable(name)}: {error}")
            failures.append({"image": characters(name), "error": str(error)})
            continue
        classes = [{"class": label, "probability": probability} for label, probability in found.items()]
        predictions.append({"image": characters(name), "classes": classes})
        if not flags.json:
            probabilities = ", ".join(f"{label} {probability:.3f}" for label, probability in found.items())
            print(f"{printable(name)}: {probabilities}")
    if flags.json:
        print(json.dumps({"predictions": predictions, "failures": failures}, indent=2, allow_nan=False))
    if failures:
        sys.exit(2)


def characters(name: str) -> str:
    """Return a file's name with escapes for its bytes that are not characters, which JSON cannot represent."""
    return name.encode("utf-8", "backslashreplace").decode()
