"""Exporting the trained network to one file, which takes raw images and returns probabilities.

The input `images` is uint8 of shape (N, 32, 32, 3), for any N. The output `probabilities` is float32 of shape
(N, num_classes). The metadata contain `class_names`, a JSON array. The same network gives the same bytes, provided that
it is the first one that the process writes.
"""

import json
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import onnx

from alexnet.cifar10 import CHANNELS, HEIGHT, WIDTH
from alexnet.inference.classifier import Classifier
from alexnet.inference.onnx_classifier import CLASS_NAMES_KEY, INPUT, OUTPUT
from alexnet.model.checkpoint import make_readable
from alexnet.runtime.errors import InputError

MAX_PARAMETER_BYTES = 1 << 30
"""The most bytes of parameters for one file: MindSpore splits larger MindIR files, and ONNX files are limited too."""


def write_onnx(classifier: Classifier, path: Path) -> None:
    """Write an ONNX file (https://onnx.ai); `path` ends in .onnx. Raises InputError when the network is too large."""
    _check_size(classifier)
    example = ms.Tensor(np.zeros((1, HEIGHT, WIDTH, CHANNELS), np.uint8))
    ms.onnx.export(
        classifier,
        example,
        file_name=str(path),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "batch"}},
    )
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"  # MindSpore writes 1
    model.graph.name, model.producer_version = type(classifier.network).__name__, ms.__version__
    model.graph.input[0].doc_string = "RGB images of 32x32 pixels, values 0 to 255"
    onnx.helper.set_model_props(model, {CLASS_NAMES_KEY: json.dumps(classifier.class_names)})
    onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)


def write_mindir(classifier: Classifier, path: Path) -> None:
    """Write a MindIR file; `path` ends in .mindir. Raises InputError when the network is too large.

    `nn.GraphCell(mindspore.load(path))` runs it. The metadata are in the `user_info` of the model.
    """
    _check_size(classifier)

    def complete(model: Any) -> None:
        model.user_info.add(key=CLASS_NAMES_KEY, value=json.dumps(classifier.class_names))
        # Two things differ from process to process: an attribute with a time and an address, and the order of a set.
        attributes = [attribute for attribute in model.graph.attribute if attribute.name != "compile_phase"]
        del model.graph.attribute[:]
        model.graph.attribute.extend(attributes)
        model.primitives.sort(key=lambda primitive: primitive.name)

    images = ms.Tensor(shape=(None, HEIGHT, WIDTH, CHANNELS), dtype=ms.uint8)
    ms.export(classifier, images, file_name=str(path), file_format="MINDIR", custom_func=complete)
    make_readable(path)


def _check_size(classifier: Classifier) -> None:
    size = sum(parameter.nbytes for parameter in classifier.get_parameters())
    if size > MAX_PARAMETER_BYTES:
        raise InputError(
            f"the network's parameters have {size} bytes, expected at most {MAX_PARAMETER_BYTES} for one file: "
            "train it with a smaller image_height or image_width"
        )
