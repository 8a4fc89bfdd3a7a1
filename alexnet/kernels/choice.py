"""Choosing the kernels that compute the layers of a network, and their precision."""

from dataclasses import dataclass
from typing import Any

import mindspore as ms
from mindspore import nn

from alexnet.kernels import mindspore_layers, onednn, onednn_layers
from alexnet.runtime.choices import AmpLevel, ChosenAmpLevel, ChosenKernels, KernelLibrary
from alexnet.runtime.errors import InputError

FLOAT16_LOSS_SCALE = 1024.0
"""The factor by which the loss is multiplied in float16, so that small gradients do not become 0, as in the zoo."""


@dataclass(frozen=True)
class Kernels:
    """The library and the precision that compute the layers of a network.

    library: `mindspore` uses MindSpore's own operators; `onednn` uses oneDNN, on CPUs.
    amp_level: O0 computes in float32. O2 computes convolutions and fully connected layers in bfloat16 with oneDNN, and
        in float16 with MindSpore's operators. (MindSpore's own level of that name casts other layers as well.)
        Weights, their gradients and updates, batch statistics and the loss stay in float32.
    """

    library: KernelLibrary = "mindspore"
    amp_level: AmpLevel = "O0"

    @property
    def loss_scale(self) -> float:
        """The factor by which the loss is multiplied in training. Only float16 needs it, because its range is small."""
        return FLOAT16_LOSS_SCALE if self.library == "mindspore" and self.amp_level == "O2" else 1.0

    def convolution_block(
        self, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, pool: nn.MaxPool2d | None, first: bool
    ) -> nn.Cell:
        """Return a block of a convolution, batch normalisation, ReLU and max-pooling.

        It takes and returns float32 of shape (N, C, H, W). It has no parameters of its own, but uses those of the given
        layers. The network must have these layers as attributes, whose names begin the names of the parameters:
        `self.conv1` has `conv1.weight`. Add the block to the network with `self.insert_child_to_cell("block1", block)`.
        An assignment, `self.block1 = block`, would rename the parameters to `block1.convolution.weight` and so on.

        A forward pass must call the block only once, because oneDNN's block keeps the values of its last call for the
        gradients. This is not checked.

        Args:
            convolution: the convolution. It must have a square kernel, the same stride along both axes, no dilation and
                one group; pad_mode `valid`, or `same` with stride 1 and an odd kernel size; and a bias exactly if
                there is no batch normalisation.
            norm: the batch normalisation, whose `use_batch_statistics` is None (its default), or None.
            pool: the max-pooling, with pad_mode `valid`, a square window and one stride, or None.
            first: whether the block takes the images, for which no gradient is needed.

        Raises ValueError when a layer is not as described, because oneDNN's block would compute something else.
        """
        _check_block(convolution, norm, pool)
        if self.library == "onednn":
            return onednn_layers.ConvolutionBlock(convolution, norm, pool, self._data_type, first)
        return mindspore_layers.ConvolutionBlock(convolution, norm, pool, self._float)

    def dense(self, in_channels: int, out_channels: int, relu: bool, **settings: Any) -> nn.Dense:
        """Return a fully connected layer with a bias. As with a block, a forward pass must call it only once.

        It takes shape (N, in_channels) and returns (N, out_channels): float32, or float16 with MindSpore's operators at
        O2.

        Args:
            in_channels: the number of inputs.
            out_channels: the number of outputs.
            relu: whether a ReLU follows.
            settings: `weight_init` and `bias_init` of `nn.Dense`.
        """
        if self.library == "onednn":
            return onednn_layers.Dense(in_channels, out_channels, relu, self._data_type, **settings)
        return mindspore_layers.dense(in_channels, out_channels, relu, self._float, **settings)

    @property
    def _data_type(self) -> onednn.DataType:
        return "bf16" if self.amp_level == "O2" else "f32"

    @property
    def _float(self) -> ms.Type:
        return ms.float16 if self.amp_level == "O2" else ms.float32


def _check_block(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, pool: nn.MaxPool2d | None) -> None:
    (height, width), (down, right) = convolution.kernel_size, convolution.stride
    expected = {
        "a square kernel": height == width,
        "the same stride along both axes": down == right,
        "no dilation": convolution.dilation == (1, 1),
        "one group": convolution.group == 1,
        "pad_mode valid, or same with stride 1 and an odd kernel size": convolution.pad_mode == "valid"
        or (convolution.pad_mode == "same" and down == 1 and height % 2 == 1),
        "a bias exactly if there is no batch normalisation": convolution.has_bias == (norm is None),
        "batch normalisation that uses the statistics of the batch in training only": norm is None
        or norm.use_batch_statistics is None,
        "max-pooling with pad_mode valid, a square window and one stride": pool is None
        or (pool.pad_mode.lower() == "valid" and isinstance(pool.kernel_size, int) and isinstance(pool.stride, int)),
    }
    for expectation, fulfilled in expected.items():
        if not fulfilled:
            raise ValueError(f"a convolution block needs {expectation}: use MindSpore's own layers instead")


MINDSPORE = Kernels()
"""MindSpore's operators in float32, which compute on any device and can be exported."""


def choose(library: ChosenKernels, amp_level: ChosenAmpLevel, device_target: str, threads: int | None) -> Kernels:
    """Return the kernels to use, and set the number of threads of oneDNN.

    Args:
        library: `auto` chooses oneDNN on a CPU if it is installed, and MindSpore otherwise.
        amp_level: `auto` chooses O2 on Ascend, on GPUs and on CPUs with bfloat16 instructions if oneDNN computes, and
            O0 otherwise.
        device_target: the device target that is used.
        threads: the number of threads on the CPU; None on other devices.

    Raises InputError when the library is not available, or O2 is not possible with it.
    """
    on_cpu = device_target == "CPU"
    if library == "auto":
        library = "onednn" if on_cpu and onednn.available() else "mindspore"
    elif library == "onednn" and not on_cpu:
        raise InputError(
            f"kernels is onednn, which computes only on a CPU, but the device is {device_target}: set it to auto"
        )
    elif library == "onednn" and not onednn.available():
        raise InputError(
            "kernels is onednn, but oneDNN is not installed or cannot be loaded: set it to auto or, on Linux on "
            f"x86-64, pip install {onednn.DISTRIBUTION}"
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
