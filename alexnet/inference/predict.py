"""The command `python -m alexnet predict`, which classifies images."""

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

    An image that cannot be read is reported on standard error. The others are still classified, and then the process
    ends with exit code 2. Raises InputError when the model cannot be loaded, or the device is not available.
    """
    kernels = choose("auto", "O0", *device.select(flags.device_target))
    classifier = Classifier(load_network(flags.model, flags.image_height, flags.image_width, kernels))
    predictions, failures = [], []
    for name in flags.images:
        try:
            probabilities = likeliest(classifier, open_image(name), CLASSES_SHOWN)
        except InputError as error:
            print_error(f"{printable(name)}: {error}")
            failures.append({"image": characters(name), "error": str(error)})
            continue
        classes = [{"class": label, "probability": probability} for label, probability in probabilities.items()]
        predictions.append({"image": characters(name), "classes": classes})
        if not flags.json:
            text = ", ".join(f"{label} {probability:.3f}" for label, probability in probabilities.items())
            print(f"{printable(name)}: {text}")
    if flags.json:
        print(json.dumps({"predictions": predictions, "failures": failures}, indent=2, allow_nan=False))
    if failures:
        sys.exit(2)


def characters(name: str) -> str:
    """Return the name of a file, in which bytes that JSON cannot represent are replaced by escape sequences."""
    return name.encode("utf-8", "backslashreplace").decode()
