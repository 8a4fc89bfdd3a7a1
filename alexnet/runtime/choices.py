"""The values and limits of some parameters. This module imports nothing slow, so that the schema can use it."""

from typing import Literal, get_args

MAX_IMAGE_SIZE = 1024
"""The largest height and width in pixels to which a network may resize images."""

MAX_CLASSES = 1000
"""The largest number of outputs that a network may have."""

Target = Literal["Ascend", "GPU", "CPU"]
"""MindSpore's device targets."""

TARGETS: tuple[Target, ...] = get_args(Target)
"""The device targets, in the order in which `auto` tries them."""

DeviceTarget = Literal["auto", Target]

AmpLevel = Literal["O0", "O2"]
"""The levels of mixed precision, see `alexnet.kernels.choice`."""

ChosenAmpLevel = Literal["auto", AmpLevel]
"""`auto` is O2 where the device is fast at it."""

KernelLibrary = Literal["onednn", "mindspore"]
"""The libraries that can compute the layers, see `alexnet.kernels.choice`."""

ChosenKernels = Literal["auto", KernelLibrary]

WeightInit = Literal["default", "HeNormal", "TruncatedNormal"]
"""How weights are initialised, see `alexnet.model.initialization.initializers`."""
