"""Checkpoints in MindSpore's format: written completely or not at all, and checked when they are read."""

import hashlib
import inspect
import itertools
import math
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from google.protobuf.message import DecodeError
from mindspore.log import _get_logger
from mindspore.nn.utils import no_init_parameters
from mindspore.train.checkpoint_pb2 import Checkpoint

from alexnet.cifar10 import NUM_CLASSES
from alexnet.kernels.choice import MINDSPORE, Kernels
from alexnet.model.network import Network, Setting
from alexnet.model.registry import NO_SETTINGS, accepted, create, names, network_class
from alexnet.runtime.choices import MAX_CLASSES, MAX_IMAGE_SIZE
from alexnet.runtime.errors import InputError, printable
from alexnet.runtime.files import digest, replacing

SETTINGS = "settings."
"""The prefix of a network's settings in a checkpoint.

A number is stored as a tensor of shape (), a text in UTF-8 as a uint8 tensor of shape (N,)."""

DEFAULT_NETWORK = "alexnet"
"""The network of checkpoints that do not name one: those of the model zoo, and of earlier versions of this project."""

_TYPES = {
    name: np.dtype(name.lower())
    for name in (
        *("Bool", "Int8", "UInt8", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64"),
        *("Float16", "Float32", "Float64"),
    )
}
"""NumPy's types, by the names that MindSpore's format gives them."""

DIGEST = "digest.sha256"
"""The name, in our checkpoints, of the SHA-256 of all other values: uint8 of shape (32,)."""

_LIMITS = {
    "num_classes": (NUM_CLASSES, MAX_CLASSES),
    "image_height": (1, MAX_IMAGE_SIZE),
    "image_width": (1, MAX_IMAGE_SIZE),
}
"""The smallest and the largest value of each setting. Without them, a damaged file could take all memory."""


def write_checkpoint(values: Mapping[str, ms.Tensor], path: Path) -> None:
    """Write tensors, by name, to `path`, which ends in .ckpt. Raises OSError when the file system does."""
    logger = _get_logger()
    logger.disabled = True  # MindSpore would also log the error that it raises
    try:
        ms.save_checkpoint([{"name": name, "data": value} for name, value in values.items()], str(path))
    finally:
        logger.disabled = False
    make_readable(path)


def make_readable(path: Path) -> None:
    """Allow everyone to read a file, and its owner to write it. MindSpore lets only the owner read its files."""
    path.chmod(path.stat().st_mode | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """Return the values of a checkpoint by name, without the digest.

    Raises InputError when there is no such file, its name does not end in .ckpt, it cannot be read or parsed, its
    values do not match its digest, or it has settings, as the files of `save_weights` do, but no digest.
    """
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}: train first, or name a checkpoint file")
    if path.suffix != ".ckpt":
        raise InputError(f"{path} is not a MindSpore checkpoint: expected a name that ends in .ckpt")
    try:
        values = _parse(path.read_bytes())
    except (DecodeError, ValueError) as error:
        message = " ".join(str(error).split())
        raise InputError(f"{path} is damaged or not a MindSpore checkpoint: {message}") from None
    except OSError as error:
        raise InputError(f"cannot read the checkpoint {path}: {error.strerror}") from None
    expected = values.pop(DIGEST, None)
    if expected is None and any(name.startswith(SETTINGS) for name in values):
        raise InputError(
            f"{path} has no digest of its values: it was altered, or written by an earlier version; train again"
        )
    if expected is not None and not np.array_equal(expected, _digest(values)):
        raise InputError(f"{path} is damaged or was altered, because its values do not match its digest: train again")
    return values


def _parse(data: bytes) -> dict[str, np.ndarray]:
    # ms.load_checkpoint is not used, because it trusts the shapes in the file and ends the process when they are wrong.
    if data[-17:-10] == b"crc_num":  # MindSpore's own checksum: this name and ten bytes
        data = data[:-17]
    entries = Checkpoint.FromString(data).value
    values = {}
    for name, group in itertools.groupby(entries, lambda entry: entry.tag):  # a large value has several entries
        parts = [entry.tensor for entry in group]
        shape, kind = tuple(parts[-1].dims), parts[-1].tensor_type
        if kind == "str":  # the model zoo's training saves some texts beside its weights
            continue
        if kind not in _TYPES or name in values:
            raise ValueError(f"a value {name!r} has the type {kind!r} or occurs twice")
        content = np.frombuffer(b"".join(part.tensor_content for part in parts), _TYPES[kind])
        if shape == (0,):  # this is how MindSpore writes ()
            shape = ()
        if min(shape, default=0) < 0 or math.prod(shape) != content.size:
            raise ValueError(f"a value {name!r} of shape {shape} has {content.size} numbers")
        values[name] = content.reshape(shape).copy()
    if not values:
        raise ValueError("there are no values in it")
    return values


def _digest(values: Mapping[str, np.ndarray]) -> np.ndarray:
    state = hashlib.sha256()
    for name in sorted(values):
        value = np.ascontiguousarray(values[name])
        state.update(f"{name} {value.dtype} {values[name].shape}\n".encode())
        state.update(value.reshape(-1).view(np.uint8).data)
    return np.frombuffer(state.digest(), np.uint8)


def save_weights(network: Network, path: Path) -> None:
    """Write the network's parameters, settings and their digest, completely or not at all; `path` ends in .ckpt.

    Raises OSError when the file system does.
    """
    settings = {
        SETTINGS + name: ms.Tensor(
            np.frombuffer(value.encode(), np.uint8) if isinstance(value, str) else np.array(value)
        )
        for name, value in network.settings.items()
    }
    values = dict(network.parameters_and_names()) | settings
    digest_of_values = _digest({name: value.asnumpy() for name, value in values.items()})
    with replacing(path) as new:
        write_checkpoint(values | {DIGEST: ms.Tensor(digest_of_values)}, new)


def load_weights(network: Network, path: Path) -> None:
    """Set the network's parameters from a checkpoint, which may be one of the model zoo's.

    Other values in the file, such as the optimizer's state, are ignored. The network's `optional_parameters` become 0
    when the file does not have them.

    Raises InputError when the file is not a checkpoint, it lacks a parameter that is not optional, a parameter has the
    wrong shape, a value is NaN or infinite, or the settings differ from the network's. The network is then unchanged.
    """
    values = read_checkpoint(path)
    saved = _settings(values)
    for name, value in network.settings.items():
        if saved.get(name, value) != value:
            shown = printable(str(saved[name]))
            raise InputError(f"{path} was trained with {name} {shown}, expected {value}: train again")
    _set_weights(network, values, path)


@dataclass(frozen=True)
class InitialWeights:
    """What a training started from.

    path: the checkpoint.
    md5: the MD5 of the file, in hexadecimal digits.
    left_out: the names of the network's parameters that were not taken from it, sorted.
    """

    path: Path
    md5: str
    left_out: list[str]


def load_initial_weights(network: Network, path: Path) -> InitialWeights:
    """Set the network's parameters from a checkpoint whose weights a training starts from.

    As `load_weights`, but the checkpoint's network may have another image size, if all shapes are the same, and another
    number of classes. In the latter case the network's `output_parameters` keep their values.
    """
    values = read_checkpoint(path)
    saved = _settings(values) or network.settings_of(values) or {}
    for name, value in network.settings.items():
        if name not in ("num_classes", "image_height", "image_width") and saved.get(name, value) != value:
            raise InputError(
                f"{path} is of a network with {name} {saved[name]}, expected {value}: set {name} to "
                f"{str(saved[name]).lower()}, or name another checkpoint"
            )
    classes = saved.get("num_classes", network.num_classes)
    left_out = network.output_parameters if classes != network.num_classes else frozenset()
    _set_weights(network, values, path, left_out)
    return InitialWeights(path, digest(path, "md5"), sorted(left_out))


def load_network(
    path: Path, image_height: int | None = None, image_width: int | None = None, kernels: Kernels = MINDSPORE
) -> Network:
    """Return the network that is stored in a checkpoint, with a dropout rate of 0.

    Args:
        path: a file of `save_weights`, which has the network's settings, or a checkpoint of the model zoo's AlexNet.
        image_height: in pixels, for a checkpoint that does not have its image size.
        image_width: in pixels, for a checkpoint that does not have its image size.
        kernels: what computes the layers.

    Raises InputError whenever `load_weights` does; when the image size is needed but not given, or given but different
    from the checkpoint's; and when the checkpoint names a network or settings that do not exist here, or lacks a
    setting that the network needs.
    """
    values = read_checkpoint(path)
    settings: dict[str, Any] = _settings(values)
    name = settings.setdefault("name", DEFAULT_NETWORK) if settings else DEFAULT_NETWORK
    if name not in names():
        shown = printable(str(name))
        raise InputError(f"{path} holds the network {shown}, expected {' or '.join(names())}: train again")
    image_size = {"image_height": image_height, "image_width": image_width}
    if settings:
        for key, value in image_size.items():
            if value not in (None, settings.get(key)):
                shown = printable(str(settings.get(key)))
                raise InputError(f"{key} is {value}, but {path} says {shown}: leave it out")
    else:
        inferred = network_class(name).settings_of(values)
        if inferred is None:
            raise InputError(f"{path} is a checkpoint of another network: it has neither settings nor {name}'s outputs")
        if None in image_size.values():
            raise InputError(
                f"{path} does not say which image size it was trained with: give image_height and image_width "
                "(the model zoo's checkpoints: 227 and 227)"
            )
        for key, value in image_size.items():
            if expected := _expectation(key, value):
                raise InputError(f"{key} is {value}, expected {expected}")
        settings = {"name": name} | inferred | image_size
    # Every setting in the file must be a parameter of the network's constructor. `dropout_rate` and `kernels` do not
    # come from the file, so the constructor need not have them.
    arguments = settings | accepted(name, {"dropout_rate": 0.0, "kernels": kernels})
    try:
        inspect.signature(network_class(name)).bind(**{key: arguments[key] for key in arguments if key != "name"})
        if wrong := sorted(NO_SETTINGS & settings.keys()):
            raise TypeError(f"{wrong[0]} is no setting")
    except TypeError as error:
        raise InputError(f"{path} was written by another version of this network: {printable(str(error))}") from None
    _check_settings(settings, path)
    with no_init_parameters():  # drawing random weights would take longer than reading these
        network = create(**arguments)
    _set_weights(network, values, path)
    return network


def _settings(values: Mapping[str, np.ndarray]) -> dict[str, Setting]:
    # Returns the settings that are stored in a checkpoint. The model zoo's checkpoints have none.
    settings: dict[str, Setting] = {}
    for name, value in values.items():
        if name.startswith(SETTINGS):
            if value.dtype == np.uint8 and value.ndim == 1:
                settings[name.removeprefix(SETTINGS)] = value.tobytes().decode("utf-8", "replace")
            elif value.size == 1:
                settings[name.removeprefix(SETTINGS)] = value.item()
    return settings


def _check_settings(settings: Mapping[str, Setting], path: Path) -> None:
    for name, value in settings.items():
        if expected := _expectation(name, value):
            shown = printable(str(value))
            raise InputError(f"{path} was trained with {name} {shown}, expected {expected}: train again")


def _expectation(name: str, value: Setting | None) -> str | None:
    # Returns what a setting should be, such as "true or false", if its value is not allowed; otherwise None.
    if name in _LIMITS:
        least, most = _LIMITS[name]
        return None if type(value) is int and least <= value <= most else f"a whole number from {least} to {most}"
    if name == "batch_norm":
        return None if isinstance(value, bool) else "true or false"
    return None  # the name, or a setting that only one network has and checks by itself


def _set_weights(
    network: Network, values: Mapping[str, np.ndarray], path: Path, left_out: Collection[str] = ()
) -> None:
    checked = {}
    for name, parameter in network.parameters_and_names():
        if name in left_out:
            continue
        value = values.get(name)
        if value is None and name in network.optional_parameters:
            value = np.zeros(parameter.shape)
        if value is None:
            raise InputError(f"{path} has no parameter {name}: it is a checkpoint of another network")
        if value.shape != parameter.shape:
            raise InputError(
                f"{path} has {name} of shape {value.shape}, expected {parameter.shape}: it was trained with another "
                "image_height, image_width or num_classes"
            )
        with np.errstate(over="ignore"):  # a float64 that is too large becomes infinite, which is refused
            value = value.astype(np.float32, copy=False)
        if not np.isfinite(value).all():
            raise InputError(f"{path} has values in {name} that are NaN or infinite: its training failed")
        checked[parameter] = value
    for parameter, value in checked.items():
        parameter.set_data(ms.Tensor(value))
