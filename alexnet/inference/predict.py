"""The work of `python -m alexnet predict`: print what each image shows."""

import argparse
import io
import json
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from alexnet.inference.classifier import Classifier, likeliest
from alexnet.inference.image_file import read_image
from alexnet.model.checkpoint import load_network
from alexnet.runtime import device
from alexnet.runtime.errors import InputError, tell

CLASSES_SHOWN = 3
"""How many classes are printed for each image."""


def predict(flags: argparse.Namespace) -> None:
    """Print the likeliest classes of each image.

    An image that cannot be read is reported on standard error; the others are still answered, and the process then
    exits with 2. Raises InputError when the model cannot be loaded or the device is not there.
    """
    device.select(flags.device_target)
    classifier = Classifier(load_network(flags.model, flags.image_height, flags.image_width))
    predictions, failures = [], []
    for name in flags.images:
        try:
            found = likeliest(classifier, read(name), CLASSES_SHOWN)
        except InputError as error:
            tell(f"{name}: {error}")
            failures.append({"image": name, "error": str(error)})
            continue
        classes = [{"class": label, "probability": probability} for label, probability in found.items()]
        predictions.append({"image": name, "classes": classes})
        if not flags.json:
            print(f"{name}: {', '.join(f'{label} {probability:.3f}' for label, probability in found.items())}")
    if flags.json:
        print(json.dumps({"predictions": predictions, "failures": failures}, indent=2, allow_nan=False))
    if failures:
        sys.exit(2)


def read(name: str) -> np.ndarray:
    """Return the image in a file, or on standard input for `-`; see `read_image`.

    Raises InputError when the file cannot be read or is not an image.
    """
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as file:
            return read_image(file if file.seekable() else io.BytesIO(file.read()))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from None
