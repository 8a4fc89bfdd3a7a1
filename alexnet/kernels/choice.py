"""Which kernels compute the layers of a network, and in which precision."""

from dataclasses import dataclass
from typing import Any

import mindspore as ms
from mindspore import nn

from alexnet.kernels import mindspore_layers, onednn, onednn_layers
from alexnet.runtime.choices import AmpLevel, ChosenAmpLevel, ChosenKernels, KernelLibrary
from alexnet.runtime.errors import InputError

FLOAT16_LOSS_SCALE = 1024.0
"""How much larger gradients are computed in float16, so that small ones do not become 0; the zoo's is 1024."""


@dataclass(frozen=True)
class Kernels:
    """What makes the layers of a network.

    library: `mindspore`, its own operators, or `onednn`, on CPUs that have it.
    amp_level: O0 computes in float32. O2 computes convolutions and fully connected layers in bfloat16 with oneDNN and
        in float16 with MindSpore's operators, whose level of that name it is; weights, their gradients and updates,
        batch statistics and the loss stay in float32.
    """

    library: KernelLibrary = "mindspore"
    amp_level: AmpLevel = "O0"

    @property
    def loss_scale(self) -> float:
        """What the loss is multiplied by in training: 1 but for float16, for bfloat16 has the range of float32."""
        return FLOAT16_LOSS_SCALE if self.library == "mindspore" and self.amp_level == "O2" else 1.0

    def convolution_block(
        self, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, pool: nn.MaxPool2d | None, first: bool
    ) -> nn.Cell:
        """Return a convolution followed by normalisation, ReLU and pooling; `first` if it takes the network's input."""
        if self.library == "onednn":
            data_type: onednn.DataType = "bf16" if self.amp_level == "O2" else "f32"
            return onednn_layers.ConvolutionBlock(convolution, norm, pool, data_type, first)
        return mindspore_layers.ConvolutionBlock(convolution, norm, pool, self._float)

    def dense(self, in_channels: int, out_channels: int, relu: bool, **settings: Any) -> nn.Dense:
        """Return a fully connected layer; `settings` are `weight_init` and `bias_init` as `nn.Dense` has them."""
        if self.library == "onednn":
            data_type: onednn.DataType = "bf16" if self.amp_level == "O2" else "f32"
            return onednn_layers.Dense(in_channels, out_channels, relu, data_type, **settings)
        return mindspore_layers.dense(in_channels, out_channels, relu, self._float, **settings)

    @property
    def _float(self) -> ms.Type:
        return ms.float16 if self.amp_level == "O2" else ms.float32


MINDSPORE = Kernels()
"""MindSpore's operators in float32, which compute on any device and can be exported."""


def choose(library: ChosenKernels, amp_level: ChosenAmpLevel, device_target: str, threads: int) -> Kernels:
    """Return the kernels for a device target of MindSpore's, and have oneDNN's compute with so many threads.

    `auto` takes oneDNN on a CPU where it is installed, and O2 where that is fast: off the CPU, and on CPUs with
    bfloat16 instructions. Raises InputError when what is asked for is not there.
    """
    on_cpu = device_target == "CPU"
    if library == "auto":
        library = "onednn" if on_cpu and onednn.available() else "mindspore"
    elif library == "onednn" and not on_cpu:
        raise InputError(
            f"kernels is onednn, which computes on a CPU, but the device is {device_target}: set it to auto"
        )
    elif library == "onednn" and not onednn.available():
        raise InputError(
            "kernels is onednn, but oneDNN is not installed, which there is for Linux on x86-64: "
            f"pip install {onednn.DISTRIBUTION}, or set it to auto"
        )
    bfloat16 = library == "onednn" and onednn.computes_bfloat16()
    if amp_level == "auto":
        amp_level = "O2" if bfloat16 or not on_cpu else "O0"
    elif amp_level == "O2" and library == "onednn" and not bfloat16:
        raise InputError(
            "amp_level is O2, but this CPU has no bfloat16 instructions (AVX512_BF16 or AMX): set it to auto or O0"
        )
    if library == "onednn":
        onednn.set_threads(threads)
    return Kernels(library, amp_level)
