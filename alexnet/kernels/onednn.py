"""A binding to oneDNN's C API: memory, primitives, and programs that run them.

oneDNN computes the layers of a network on a CPU. MindSpore uses an old version of it, and only with plain NCHW tensors,
for which oneDNN's kernels are the slowest. With this module, a layer can use the memory layouts that oneDNN prefers.
The library is `libdnnl.so` from the wheel `onednn-cpu-gomp`. It is loaded with `ctypes`, so nothing has to be compiled.
Everything here that calls oneDNN raises OneDNNError when the call fails.

Source: https://uxlfoundation.github.io/oneDNN/v3.2/
"""

import ctypes
import importlib.metadata
import math
import weakref
from collections.abc import Sequence
from ctypes import byref, c_float, c_int, c_int64, c_size_t, c_uint, c_void_p
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

DISTRIBUTION = "onednn-cpu-gomp"
"""The wheel that contains the library: oneDNN for CPUs, with GNU OpenMP."""

DataType = Literal["f32", "bf16"]
"""The types of the values in a tensor: float32 or bfloat16."""


class OneDNNError(RuntimeError):
    """A call of oneDNN failed, and the message names the function and its status; or oneDNN is not available."""


class Propagation(IntEnum):
    """`dnnl_prop_kind_t`: whether a forward primitive is used in training."""

    TRAINING = 64
    INFERENCE = 96


_STATUS = ("success", "out of memory", "invalid arguments", "unimplemented", "last implementation reached")
_DATA_TYPES = {"bf16": 2, "f32": 3}
_FORMAT_ANY = 1
_CPU_ENGINE = 1
_IN_ORDER = 1
_SCRATCHPAD_OF_USER = 1
_CONVOLUTION_DIRECT, _ELTWISE_RELU, _POOLING_MAX = 0x1, 0x20, 0x1FF
_USE_SCALE, _USE_SHIFT, _FUSE_NORM_RELU = 2, 4, 8
_NORM_RELU = _USE_SCALE | _USE_SHIFT | _FUSE_NORM_RELU
"""The bits of `dnnl_normalization_flags_t` for a batch normalisation with scale, shift and ReLU."""
_BACKWARD = 128
_NO_BUFFER = None
_MAXIMUM_DIMENSIONS = 12
_ALIGNMENT = 64
_AVX512_BF16 = 0xE7
"""The bits of `dnnl_cpu_isa_t` that AVX512_BF16 sets. A CPU with AMX has them too."""

_ARGUMENTS = {
    "src": 1,
    "dst": 17,
    "weights": 33,
    "bias": 41,
    "mean": 49,
    "variance": 50,
    "scale": 51,
    "shift": 52,
    "workspace": 64,
    "scratchpad": 80,
    "diff_src": 129,
    "diff_dst": 145,
    "diff_weights": 161,
    "diff_bias": 169,
    "diff_scale": 255,
    "diff_shift": 256,
}
"""oneDNN's numbers for the tensors that a primitive reads and writes (`DNNL_ARG_...`)."""
_QUERIES = {
    "src": 129,
    "diff_src": 130,
    "weights": 131,
    "diff_weights": 132,
    "dst": 133,
    "diff_dst": 134,
    "workspace": 135,
    "scratchpad": 136,
}
"""oneDNN's numbers for querying the layouts that a primitive has chosen (`dnnl_query_..._md`)."""

_Dims = c_int64 * _MAXIMUM_DIMENSIONS
_threads: int | None = None


class _Argument(ctypes.Structure):
    _fields_ = (("number", c_int), ("memory", c_void_p))


# The parameters of the functions that create something, without the first one, which points to the created object.
_CREATED_FROM: dict[str, tuple[Any, ...]] = {
    "dnnl_engine_create": (c_int, c_size_t),
    "dnnl_stream_create": (c_void_p, c_uint),
    "dnnl_memory_desc_create_with_tag": (c_int, _Dims, c_int, c_int),
    "dnnl_memory_desc_create_with_strides": (c_int, _Dims, c_int, _Dims),
    "dnnl_memory_desc_clone": (c_void_p,),
    "dnnl_memory_create": (c_void_p, c_void_p, c_void_p),
    "dnnl_post_ops_create": (),
    "dnnl_primitive_attr_create": (),
    "dnnl_reorder_primitive_desc_create": (c_void_p,) * 5,
    "dnnl_matmul_primitive_desc_create": (c_void_p,) * 6,
    "dnnl_convolution_forward_primitive_desc_create": (
        *(c_void_p, c_int, c_int, c_void_p, c_void_p, c_void_p, c_void_p),
        *(_Dims, _Dims, _Dims, _Dims, c_void_p),
    ),
    "dnnl_convolution_backward_data_primitive_desc_create": (
        *(c_void_p, c_int, c_void_p, c_void_p, c_void_p, _Dims, _Dims, _Dims, _Dims, c_void_p, c_void_p),
    ),
    "dnnl_convolution_backward_weights_primitive_desc_create": (
        *(c_void_p, c_int, c_void_p, c_void_p, c_void_p, c_void_p),
        *(_Dims, _Dims, _Dims, _Dims, c_void_p, c_void_p),
    ),
    "dnnl_inner_product_forward_primitive_desc_create": (c_void_p, c_int, *(c_void_p,) * 5),
    "dnnl_inner_product_backward_data_primitive_desc_create": (c_void_p,) * 6,
    "dnnl_inner_product_backward_weights_primitive_desc_create": (c_void_p,) * 7,
    "dnnl_batch_normalization_forward_primitive_desc_create": (
        *(c_void_p, c_int, c_void_p, c_void_p, c_float, c_uint, c_void_p),
    ),
    "dnnl_batch_normalization_backward_primitive_desc_create": (
        *(c_void_p, c_int, c_void_p, c_void_p, c_void_p, c_float, c_uint, c_void_p, c_void_p),
    ),
    "dnnl_eltwise_forward_primitive_desc_create": (
        *(c_void_p, c_int, c_int, c_void_p, c_void_p, c_float, c_float, c_void_p),
    ),
    "dnnl_eltwise_backward_primitive_desc_create": (
        *(c_void_p, c_int, c_void_p, c_void_p, c_void_p, c_float, c_float, c_void_p, c_void_p),
    ),
    "dnnl_pooling_forward_primitive_desc_create": (
        *(c_void_p, c_int, c_int, c_void_p, c_void_p, _Dims, _Dims, _Dims, _Dims, _Dims, c_void_p),
    ),
    "dnnl_pooling_backward_primitive_desc_create": (
        *(c_void_p, c_int, c_void_p, c_void_p, _Dims, _Dims, _Dims, _Dims, _Dims, c_void_p, c_void_p),
    ),
    "dnnl_primitive_create": (c_void_p,),
}
_OTHERS: dict[str, tuple[Any, ...]] = {
    "dnnl_memory_set_data_handle": (c_void_p, c_void_p),
    "dnnl_post_ops_append_eltwise": (c_void_p, c_int, c_float, c_float),
    "dnnl_primitive_attr_set_post_ops": (c_void_p, c_void_p),
    "dnnl_primitive_attr_set_scratchpad_mode": (c_void_p, c_int),
    "dnnl_primitive_execute": (c_void_p, c_void_p, c_int, c_void_p),
    "dnnl_stream_wait": (c_void_p,),
}


def find_library() -> Path | None:
    """Return the path of oneDNN's library, or None if its wheel is not installed."""
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())).resolve() for file in files if file.name == "libdnnl.so"), None)


@cache
def available() -> bool:
    """Return whether oneDNN can be used: its wheel is installed, and its library can be loaded."""
    path = find_library()
    if path is None:
        return False
    try:
        ctypes.CDLL(str(path))
    except OSError:
        return False
    return True


@cache
def version() -> str:
    """Return oneDNN's version, such as 3.2.0. Raises OneDNNError when oneDNN is not available."""

    class Version(ctypes.Structure):
        _fields_ = (("major", c_int), ("minor", c_int), ("patch", c_int))

    function = _library().dnnl_version
    function.restype = ctypes.POINTER(Version)
    numbers = function().contents
    return f"{numbers.major}.{numbers.minor}.{numbers.patch}"


def computes_bfloat16() -> bool:
    """Return whether this CPU has bfloat16 instructions that oneDNN uses (AVX512_BF16 or AMX)."""
    return available() and _library().dnnl_get_effective_cpu_isa() & _AVX512_BF16 == _AVX512_BF16


def set_threads(threads: int | None) -> None:
    """Set the number of threads of all primitives.

    None, the default, leaves OpenMP's number as it is: one thread for each core, unless it was set before.
    """
    global _threads
    _threads = threads


@cache
def _library() -> ctypes.CDLL:
    path = find_library()
    if path is None or not available():
        raise OneDNNError(f"oneDNN is not installed or cannot be loaded: pip install {DISTRIBUTION}")
    library = ctypes.CDLL(str(path))
    for name, parameters in _CREATED_FROM.items():
        getattr(library, name).argtypes = (c_void_p, *parameters)
    for name, parameters in _OTHERS.items():
        getattr(library, name).argtypes = parameters
    for kind in ("memory_desc", "memory", "primitive_desc", "primitive", "post_ops", "primitive_attr"):
        getattr(library, f"dnnl_{kind}_destroy").argtypes = (c_void_p,)
    library.dnnl_memory_desc_get_size.argtypes = (c_void_p,)
    library.dnnl_memory_desc_get_size.restype = c_size_t
    library.dnnl_memory_desc_equal.argtypes = (c_void_p, c_void_p)
    library.dnnl_primitive_desc_query_md.argtypes = (c_void_p, c_int, c_int)
    library.dnnl_primitive_desc_query_md.restype = c_void_p
    return library


def _check(name: str, *arguments: Any) -> None:
    status = getattr(_library(), name)(*arguments)
    if status:
        meaning = _STATUS[status] if status < len(_STATUS) else "runtime error"
        raise OneDNNError(f"oneDNN's {name} failed: {meaning} (status {status})")


def _create(name: str, *arguments: Any) -> c_void_p:
    created = c_void_p()
    _check(name, byref(created), *arguments)
    return created


class _Owner:
    # Owns an object of oneDNN, and destroys it when this object is no longer used.
    def __init__(self, handle: c_void_p, kind: str) -> None:
        self.handle = handle
        weakref.finalize(self, getattr(_library(), f"dnnl_{kind}_destroy"), handle).atexit = False


@cache
def _engine() -> c_void_p:
    return _create("dnnl_engine_create", _CPU_ENGINE, 0)


@cache
def _stream() -> c_void_p:
    return _create("dnnl_stream_create", _engine(), _IN_ORDER)


def _apply_threads() -> None:
    # OpenMP stores this number for each calling thread, and MindSpore calls this module from threads of its own.
    if _threads:
        _library().omp_set_num_threads(_threads)


def _dims(values: Sequence[int]) -> Any:
    return _Dims(*values)


class Layout(_Owner):
    """The shape, data type and memory layout of a tensor (`dnnl_memory_desc_t`)."""

    @classmethod
    def plain(cls, shape: Sequence[int], data_type: DataType = "f32") -> "Layout":
        """Return the layout of a C-contiguous array."""
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        name = "dnnl_memory_desc_create_with_strides"
        handle = _create(name, len(shape), _dims(shape), _DATA_TYPES[data_type], _dims(strides))
        return cls(handle, "memory_desc")

    @classmethod
    def any(cls, shape: Sequence[int], data_type: DataType = "f32") -> "Layout":
        """Return a layout whose order in memory a primitive may choose."""
        name = "dnnl_memory_desc_create_with_tag"
        return cls(_create(name, len(shape), _dims(shape), _DATA_TYPES[data_type], _FORMAT_ANY), "memory_desc")

    @property
    def size(self) -> int:
        """The size of the tensor in bytes, including padding."""
        return int(_library().dnnl_memory_desc_get_size(self.handle))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and bool(_library().dnnl_memory_desc_equal(self.handle, other.handle))

    __hash__ = None  # type: ignore[assignment]


class Memory(_Owner):
    """A tensor (`dnnl_memory_t`) with a buffer of its own, aligned to 64 bytes and filled with zeros."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(_create("dnnl_memory_create", layout.handle, _engine(), _NO_BUFFER), "memory")
        self.layout = layout
        # The buffer costs nothing if it is replaced before it is written, because the operating system allocates zeroed
        # pages only when they are written.
        self._set(_aligned(layout.size))

    def _set(self, array: np.ndarray) -> None:
        self._array = array  # this keeps the buffer alive
        _check("dnnl_memory_set_data_handle", self.handle, array.ctypes.data)


class ArrayMemory(Memory):
    """A float32 tensor in the plain layout. Its buffer is the attribute `array`, which can be replaced."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(Layout.plain(shape))
        self._shape = tuple(shape)

    @property
    def array(self) -> np.ndarray:
        """The values, float32 of the tensor's shape. Setting an array of another type or shape raises ValueError."""
        return self._array.view(np.float32).reshape(self._shape)

    @array.setter
    def array(self, array: np.ndarray) -> None:
        if array.shape != self._shape or array.dtype != np.float32:
            raise ValueError(f"the array is {array.dtype} of shape {array.shape}, expected float32 of {self._shape}")
        self._set(np.ascontiguousarray(array))


def _aligned(size: int) -> np.ndarray:
    # Returns a buffer of this many bytes at a multiple of 64, which oneDNN's kernels read fastest.
    raw = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size]


class Primitive:
    """An operation of oneDNN for certain shapes, which can be run many times. Use the functions below to create one.

    Raises OneDNNError when oneDNN cannot create it.
    """

    def __init__(self, name: str, *arguments: Any) -> None:
        _apply_threads()
        self._descriptor = _Owner(_create(f"dnnl_{name}_primitive_desc_create", *arguments), "primitive_desc")
        self._primitive = _Owner(_create("dnnl_primitive_create", self._descriptor.handle), "primitive")
        self._scratchpad = Memory(self.layout("scratchpad"))

    @property
    def descriptor(self) -> c_void_p:
        """The descriptor, which a backward primitive takes as a hint."""
        return self._descriptor.handle

    def layout(self, tensor: str) -> Layout:
        """Return the layout that the primitive has chosen for a tensor, such as `src`, `diff_dst` or `workspace`."""
        chosen = _library().dnnl_primitive_desc_query_md(self.descriptor, _QUERIES[tensor], 0)
        return Layout(_create("dnnl_memory_desc_clone", chosen), "memory_desc")

    def run(self, **tensors: Memory) -> None:
        """Run the operation on tensors, given by oneDNN's names for them, and wait until it has finished."""
        tensors["scratchpad"] = self._scratchpad
        arguments = (_Argument * len(tensors))(
            *(_Argument(_ARGUMENTS[name], memory.handle) for name, memory in tensors.items())
        )
        _apply_threads()
        _check("dnnl_primitive_execute", self._primitive.handle, _stream(), len(tensors), arguments)
        _check("dnnl_stream_wait", _stream())


def reorder(source: Layout, destination: Layout) -> Primitive:
    """Return a primitive that copies `src` to `dst`, which have the same shape, in another layout or data type."""
    return Primitive("reorder", source.handle, _engine(), destination.handle, _engine(), _attributes())


def matmul(source: Layout, weights: Layout, destination: Layout) -> Primitive:
    """Return a primitive that writes the product of `src` (M, K) and `weights` (K, N) to `dst` (M, N)."""
    return Primitive("matmul", _engine(), source.handle, weights.handle, None, destination.handle, _attributes())


def convolution_forward(
    propagation: Propagation,
    source: Layout,
    weights: Layout,
    bias: Layout | None,
    destination: Layout,
    stride: int,
    padding: int,
    relu: bool,
) -> Primitive:
    """Return a primitive that convolves `src` with `weights`, adds `bias`, applies a ReLU if asked, and writes `dst`.

    Args:
        propagation: whether it is used in training.
        source: the layout of `src`, of shape (N, C, H, W).
        weights: the layout of `weights`, of shape (out_channels, in_channels, height, width).
        bias: the layout of `bias`, of shape (out_channels,), or None.
        destination: the layout of `dst`, of shape (N, C, H, W).
        stride: the stride along both axes.
        padding: how many zeros are added on each side.
        relu: whether a ReLU follows.
    """
    return Primitive(
        "convolution_forward",
        _engine(),
        propagation,
        _CONVOLUTION_DIRECT,
        source.handle,
        weights.handle,
        bias.handle if bias else None,
        destination.handle,
        *_window(stride, padding),
        _attributes(relu),
    )


def convolution_backward_data(
    source_gradient: Layout,
    weights: Layout,
    destination_gradient: Layout,
    stride: int,
    padding: int,
    forward: Primitive,
) -> Primitive:
    """Return a primitive that computes `diff_src` from `weights` and `diff_dst`."""
    return Primitive(
        "convolution_backward_data",
        _engine(),
        _CONVOLUTION_DIRECT,
        source_gradient.handle,
        weights.handle,
        destination_gradient.handle,
        *_window(stride, padding),
        forward.descriptor,
        _attributes(),
    )


def convolution_backward_weights(
    source: Layout,
    weights_gradient: Layout,
    bias_gradient: Layout | None,
    destination_gradient: Layout,
    stride: int,
    padding: int,
    forward: Primitive,
) -> Primitive:
    """Return a primitive that computes `diff_weights` and `diff_bias` from `src` and `diff_dst`."""
    return Primitive(
        "convolution_backward_weights",
        _engine(),
        _CONVOLUTION_DIRECT,
        source.handle,
        weights_gradient.handle,
        bias_gradient.handle if bias_gradient else None,
        destination_gradient.handle,
        *_window(stride, padding),
        forward.descriptor,
        _attributes(),
    )


def inner_product_forward(
    propagation: Propagation, source: Layout, weights: Layout, bias: Layout, destination: Layout, relu: bool
) -> Primitive:
    """Return a primitive that multiplies `src` by the transpose of `weights`, adds `bias`, and applies a ReLU if asked.

    Args:
        propagation: whether it is used in training.
        source: the layout of `src`, of shape (N, in_channels).
        weights: the layout of `weights`, of shape (out_channels, in_channels).
        bias: the layout of `bias`, of shape (out_channels,).
        destination: the layout of `dst`, of shape (N, out_channels).
        relu: whether a ReLU follows.
    """
    return Primitive(
        "inner_product_forward",
        _engine(),
        propagation,
        *(layout.handle for layout in (source, weights, bias, destination)),
        _attributes(relu),
    )


def inner_product_backward_data(
    source_gradient: Layout, weights: Layout, destination_gradient: Layout, forward: Primitive
) -> Primitive:
    """Return a primitive that computes `diff_src` from `weights` and `diff_dst`."""
    handles = (layout.handle for layout in (source_gradient, weights, destination_gradient))
    return Primitive("inner_product_backward_data", _engine(), *handles, forward.descriptor, _attributes())


def inner_product_backward_weights(
    source: Layout, weights_gradient: Layout, bias_gradient: Layout, destination_gradient: Layout, forward: Primitive
) -> Primitive:
    """Return a primitive that computes `diff_weights` and `diff_bias` from `src` and `diff_dst`."""
    handles = (layout.handle for layout in (source, weights_gradient, bias_gradient, destination_gradient))
    return Primitive("inner_product_backward_weights", _engine(), *handles, forward.descriptor, _attributes())


def batch_norm_relu_forward(source: Layout, epsilon: float) -> Primitive:
    """Return a primitive that normalises `src`, of shape (N, C, H, W), and applies `scale`, `shift` and a ReLU.

    It writes `dst`, `workspace`, and the `mean` and `variance` of the batch. All vectors are float32 of shape (C,).
    """
    arguments = (_engine(), Propagation.TRAINING, source.handle, source.handle, epsilon, _NORM_RELU, _attributes())
    return Primitive("batch_normalization_forward", *arguments)


def batch_norm_relu_backward(source: Layout, epsilon: float, forward: Primitive) -> Primitive:
    """Return a primitive that computes `diff_src`, `diff_scale` and `diff_shift`.

    It reads `src`, `scale`, `diff_dst`, and the `mean`, `variance` and `workspace` of the forward primitive.
    """
    handles = (source.handle,) * 3
    arguments = (_engine(), _BACKWARD, *handles, epsilon, _NORM_RELU, forward.descriptor, _attributes())
    return Primitive("batch_normalization_backward", *arguments)


def relu_backward(layout: Layout) -> Primitive:
    """Return a primitive that computes `diff_src` of a ReLU from `diff_dst` and `src`, all in the same layout.

    The result of the ReLU can be given as `src` instead of its input, because both are positive in the same places.
    """
    handle = layout.handle
    forward = Primitive(
        "eltwise_forward", _engine(), Propagation.TRAINING, _ELTWISE_RELU, handle, handle, 0.0, 0.0, _attributes()
    )
    handles = (handle,) * 3
    return Primitive(
        "eltwise_backward", _engine(), _ELTWISE_RELU, *handles, 0.0, 0.0, forward.descriptor, _attributes()
    )


def max_pool_forward(
    propagation: Propagation, source: Layout, destination: Layout, kernel_size: int, stride: int
) -> Primitive:
    """Return a primitive that writes the maximum of each window of `src` to `dst`, and in training the `workspace`.

    `src` and `dst` have shape (N, C, H, W). Windows have `kernel_size` pixels a side, and there is no padding.
    """
    return Primitive(
        "pooling_forward",
        _engine(),
        propagation,
        _POOLING_MAX,
        source.handle,
        destination.handle,
        *_pool_window(kernel_size, stride),
        _attributes(),
    )


def max_pool_backward(
    source_gradient: Layout, destination_gradient: Layout, kernel_size: int, stride: int, forward: Primitive
) -> Primitive:
    """Return a primitive that computes `diff_src` from `diff_dst` and the `workspace`."""
    return Primitive(
        "pooling_backward",
        _engine(),
        _POOLING_MAX,
        source_gradient.handle,
        destination_gradient.handle,
        *_pool_window(kernel_size, stride),
        forward.descriptor,
        _attributes(),
    )


def _window(stride: int, padding: int) -> tuple[Any, ...]:
    # Returns strides, dilations (0 for none), and the padding at both ends.
    return _dims((stride, stride)), _dims((0, 0)), _dims((padding, padding)), _dims((padding, padding))


def _pool_window(kernel_size: int, stride: int) -> tuple[Any, ...]:
    # Returns strides, kernel sizes, dilations (0 for none), and the padding at both ends.
    return (_dims((stride, stride)), _dims((kernel_size, kernel_size)), *(_dims((0, 0)) for _ in range(3)))


@cache
def _attributes(relu: bool = False) -> c_void_p:
    # Returns the attributes of a primitive. By default, oneDNN keeps a scratchpad for each thread, so a primitive that
    # is created in one thread and run in another, as MindSpore does it, has none. So every primitive gets its own.
    attributes = _create("dnnl_primitive_attr_create")
    _check("dnnl_primitive_attr_set_scratchpad_mode", attributes, _SCRATCHPAD_OF_USER)
    if relu:
        operations = _create("dnnl_post_ops_create")
        _check("dnnl_post_ops_append_eltwise", operations, _ELTWISE_RELU, 0.0, 0.0)
        _check("dnnl_primitive_attr_set_post_ops", attributes, operations)
    return attributes


class Program:
    """Primitives that run one after the other."""

    def __init__(self) -> None:
        self._steps: list[tuple[Primitive, dict[str, Memory]]] = []

    def add(self, primitive: Primitive, **tensors: Memory) -> None:
        """Append a primitive, with the tensors that it reads and writes by oneDNN's names."""
        self._steps.append((primitive, tensors))

    def convert(self, memory: Memory, layout: Layout) -> Memory:
        """Return a tensor in a layout: the tensor itself if it has this layout, otherwise what `copy` returns."""
        return memory if memory.layout == layout else self.copy(memory, layout)

    def copy(self, memory: Memory, layout: Layout) -> Memory:
        """Append a step that copies a tensor into a layout, and return the copy."""
        copy = Memory(layout)
        self.add(reorder(memory.layout, layout), src=memory, dst=copy)
        return copy

    def store(self, memory: Memory, array: ArrayMemory) -> None:
        """Append a step that copies a tensor to an array."""
        self.add(reorder(memory.layout, array.layout), src=memory, dst=array)

    def run(self) -> None:
        """Run all primitives in their order."""
        for primitive, tensors in self._steps:
            primitive.run(**tensors)
