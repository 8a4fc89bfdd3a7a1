"""The exported network, computed on the CPU by ONNX Runtime (https://onnxruntime.ai), without MindSpore."""

import json
import os
from pathlib import Path

import numpy as np

from alexnet.cifar10 import CHANNELS, HEIGHT, WIDTH
from alexnet.runtime.errors import InputError, printable

INPUT, OUTPUT, CLASS_NAMES_KEY = "images", "probabilities", "class_names"
"""The names of the input, of the output and of the metadata in a file of `alexnet.inference.export.write_onnx`."""


class OnnxClassifier:
    """A network in a file of `alexnet.inference.export.write_onnx`.

    Args:
        path: the file. Its network is computed with a thread for each core that this process may use.

    Attributes:
        class_names: the names of the outputs, in their order.

    Raises InputError when ONNX Runtime is not installed, there is no such file, or it is not one of ours.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"no model at {path}: train and export first, or name a file")
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise InputError(f"{path} needs ONNX Runtime, which is not installed: pip install onnxruntime") from None
        options = onnxruntime.SessionOptions()
        if hasattr(os, "sched_getaffinity"):  # by default, a thread for each core of the machine
            options.intra_op_num_threads = len(os.sched_getaffinity(0))
        # Copying the weights into another layout takes longer than computing an image without it.
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.log_severity_level = 4  # a failure is raised as well
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            names = json.loads(self._session.get_modelmeta().custom_metadata_map[CLASS_NAMES_KEY])
        except Exception:  # of many types, with long texts about ONNX Runtime's own code
            names = None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{path} is no ONNX file of this project, or damaged: export the model again")
        self._path, self.class_names = path, [printable(name) for name in names]
        found = [
            (one.name, one.type, one.shape[1:]) for one in self._session.get_inputs() + self._session.get_outputs()
        ]
        expected = [
            (INPUT, "tensor(uint8)", [HEIGHT, WIDTH, CHANNELS]),
            (OUTPUT, "tensor(float)", [len(self.class_names)]),
        ]
        if found != expected:
            raise InputError(f"{path} is no ONNX file of this project: it takes and gives {found}, expected {expected}")

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return the probability of each class, float32 of shape (N, num_classes).

        images: uint8 of shape (N, 32, 32, 3), channels red, green, blue.

        Raises InputError when the file's network cannot be computed.
        """
        try:
            answer: np.ndarray = self._session.run([OUTPUT], {INPUT: images})[0]
        except Exception:  # of many types, with long texts about ONNX Runtime's own code
            raise InputError(f"the network in {self._path} cannot be computed: export the model again") from None
        return answer
