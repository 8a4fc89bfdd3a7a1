"""Checkpoints in MindSpore's format: written whole or not at all, and read only when they fit."""

import logging
from collections.abc import Mapping
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn

from alexnet.atomic import replacing
from alexnet.errors import InputError


def write_checkpoint(values: Mapping[str, ms.Tensor], path: Path) -> None:
    """Write tensors by name; `path` ends in .ckpt. Raises OSError as the file system does."""
    logging.disable()  # MindSpore logs the error that it then raises
    try:
        ms.save_checkpoint([{"name": name, "data": value} for name, value in values.items()], str(path))
    finally:
        logging.disable(logging.NOTSET)


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """Return the values of a checkpoint by name. Raises InputError when there is none or it cannot be read."""
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}: train first, or name a checkpoint file")
    logging.disable()
    try:
        return {name: value.asnumpy() for name, value in ms.load_checkpoint(str(path)).items()}
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        raise InputError(f"{path} is no MindSpore checkpoint or damaged: {' '.join(str(error).split())}") from None
    finally:
        logging.disable(logging.NOTSET)


def save_weights(network: nn.Cell, path: Path) -> None:
    """Write the network's parameters, and nothing else, whole or not at all; `path` ends in .ckpt."""
    with replacing(path) as new:
        write_checkpoint(dict(network.parameters_and_names()), new)


def load_weights(network: nn.Cell, path: Path) -> None:
    """Set the network's parameters from a checkpoint, the model zoo's included.

    What else is in the file (the optimizer's state) is left alone. Convolution biases may be missing and are then 0,
    since the zoo's 2020 version has none. Raises InputError when the file is no checkpoint, another parameter is
    missing, one has another shape, or a value is not finite; the network is then as it was.
    """
    loaded, fitting = read_checkpoint(path), {}
    for name, parameter in network.parameters_and_names():
        value = loaded.get(name)
        if value is None and name.startswith("conv") and name.endswith(".bias"):
            value = np.zeros(parameter.shape)
        if value is None:
            raise InputError(f"{path} has no parameter {name}: it is a checkpoint of another network")
        if value.shape != parameter.shape:
            raise InputError(
                f"{path} has {name} of shape {value.shape}, expected {parameter.shape}: it was trained with another "
                "model.image_height, model.image_width or model.num_classes"
            )
        if not np.isfinite(value).all():
            raise InputError(f"{path} has values in {name} that are NaN or infinite: its training failed")
        fitting[parameter] = value.astype(np.float32)
    for parameter, value in fitting.items():
        parameter.set_data(ms.Tensor(value))
