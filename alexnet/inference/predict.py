"""The command `python -m alexnet predict`, which classifies images."""

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

from alexnet.inference.image_file import open_image
from alexnet.runtime.errors import InputError, print_error, printable

CHECKPOINT, ONNX = Path("models/alexnet.ckpt"), Path("models/alexnet.onnx")
"""The model that is used if none is named: the checkpoint if MindSpore is installed, otherwise the ONNX file."""

CLASSES_SHOWN = 3
"""How many classes are printed for each image."""


class Model(Protocol):
    """A trained network, whatever computes it: `Classifier` or `OnnxClassifier`."""

    @property
    def class_names(self) -> Sequence[str]:
        """The names of the outputs, in their order."""

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return the probability of each class, float32 of shape (N, num_classes).

        images: uint8 of shape (N, 32, 32, 3), channels red, green, blue.
        """


def open_model(path: Path | None, device_target: str, image_height: int | None, image_width: int | None) -> Model:
    """Return the model in a file: a checkpoint, which MindSpore computes, or an .onnx file, which ONNX Runtime does.

    Args:
        path: None means CHECKPOINT or ONNX.
        device_target: the device for a checkpoint; an .onnx file is computed on the CPU.
        image_height, image_width: the image size in pixels, for a checkpoint that does not have it.

    Raises InputError when the file cannot be read or used, or what computes it is not installed.
    """
    has_mindspore = find_spec("mindspore") is not None
    path = path or (CHECKPOINT if has_mindspore else ONNX)
    if path.suffix == ".onnx":
        from alexnet.inference.onnx_classifier import OnnxClassifier

        if device_target not in ("auto", "CPU"):
            raise InputError(f"device_target is {device_target}, but {path} is computed on the CPU: leave it out")
        if image_height is not None or image_width is not None:
            raise InputError(f"{path} says its image size itself: leave image_height and image_width out")
        return OnnxClassifier(path)
    if not has_mindspore:
        raise InputError(f"{path} needs MindSpore, which is not installed: name an .onnx file, such as {ONNX}")
    # Here, because they take seconds to import.
    from alexnet.inference.classifier import Classifier
    from alexnet.kernels.choice import choose
    from alexnet.model.checkpoint import load_network
    from alexnet.runtime import device

    kernels = choose("auto", "O0", *device.select(device_target))
    return Classifier(load_network(path, image_height, image_width, kernels))


def likeliest(model: Model, image: np.ndarray, count: int) -> dict[str, float]:
    """Return the likeliest classes of an image and their probabilities, the likeliest first.

    Args:
        model: the trained network.
        image: uint8 of shape (32, 32, 3).
        count: how many classes to return.

    Raises InputError when a probability is NaN or infinite, or the model cannot be computed.
    """
    probabilities = model.probabilities(image[None])[0]
    if not np.isfinite(probabilities).all():
        raise InputError("the network's output is NaN: its weights are too large, train it again")
    order = np.argsort(-probabilities, kind="stable")[:count]
    return {model.class_names[label]: float(probabilities[label]) for label in order}


def predict(flags: argparse.Namespace) -> None:
    """Print the likeliest classes of each image.

    An image that cannot be read is reported on standard error. The others are still classified, and then the process
    ends with exit code 2. Raises InputError when the model cannot be loaded, or the device is not available.
    """
    model = open_model(flags.model, flags.device_target, flags.image_height, flags.image_width)
    predictions, failures = [], []
    for name in flags.images:
        try:
            probabilities = likeliest(model, open_image(name), CLASSES_SHOWN)
        except InputError as error:
            print_error(f"{printable(name)}: {error}")
            failures.append({"image": escaped(name), "error": str(error)})
            continue
        classes = [{"class": label, "probability": probability} for label, probability in probabilities.items()]
        predictions.append({"image": escaped(name), "classes": classes})
        if not flags.json:
            text = ", ".join(f"{label} {probability:.3f}" for label, probability in probabilities.items())
            print(f"{printable(name)}: {text}")
    if flags.json:
        print(json.dumps({"predictions": predictions, "failures": failures}, indent=2, allow_nan=False))
    if failures:
        sys.exit(2)


def escaped(name: str) -> str:
    """Return the name of a file, in which bytes that JSON cannot represent are replaced by escape sequences."""
    return name.encode("utf-8", "backslashreplace").decode()
