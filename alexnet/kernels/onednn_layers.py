"""Layers that oneDNN computes: a block around a convolution, and a fully connected layer.

Inside a block, tensors have the layouts that oneDNN prefers, and are bfloat16 if that is chosen. Its inputs, its
outputs and their gradients are plain float32. Each layer is one MindSpore operator in the forward pass, and one in the
backward pass.
"""

import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from alexnet.kernels import onednn
from alexnet.kernels.onednn import ArrayMemory, DataType, Layout, Memory, Primitive, Program, Propagation

Shape = tuple[int, ...]


class ConvolutionBlock(nn.Cell):
    """A convolution, batch normalisation, ReLU and max-pooling.

    `alexnet.kernels.choice.Kernels.convolution_block` describes the block, and what it requires of the layers, which
    this class does not check. The block updates the running statistics of the batch normalisation as that layer would.
    Outside of training, the normalisation by these statistics is folded into the convolution.

    Args:
        convolution: the convolution.
        norm: the batch normalisation, or None.
        pool: the max-pooling, or None.
        data_type: the type in which everything from the convolution to the pooling is computed. Sums, batch statistics
            and the gradients of parameters are always float32.
        first: whether the block is the first of the network. Its input then needs no gradient, which is set to 0.
    """

    def __init__(
        self,
        convolution: nn.Conv2d,
        norm: nn.BatchNorm2d | None,
        pool: nn.MaxPool2d | None,
        data_type: DataType = "f32",
        first: bool = False,
    ) -> None:
        super().__init__(auto_prefix=False)  # the parameters keep their names
        self.convolution, self.norm = convolution, norm
        settings = _BlockSettings(
            stride=convolution.stride[0],
            padding=convolution.kernel_size[0] // 2 if convolution.pad_mode == "same" else 0,
            pool=(pool.kernel_size, pool.stride) if pool else None,
            epsilon=norm.eps if norm else None,
            data_type=data_type,
        )
        weight = convolution.weight.shape
        make = partial(_TrainingBlock, settings, first, weight)
        self.for_training = (_WithBias if norm is None else _WithNorm)(make, first)
        self.for_inference = _forward_operator(
            cache(partial(_InferenceBlock, settings, weight)), 3 if norm is None else 6
        )

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """Return the output of the block."""
        weight = self.convolution.weight
        if self.norm is None:
            bias = self.convolution.bias
            return self.for_training(x, weight, bias) if self.training else self.for_inference(x, weight, bias)
        gamma, beta = self.norm.gamma, self.norm.beta
        running_mean, running_variance = self.norm.moving_mean, self.norm.moving_variance
        if not self.training:
            return self.for_inference(x, weight, gamma, beta, running_mean, running_variance)
        out, mean, variance = self.for_training(x, weight, gamma, beta)
        share = self.norm.momentum  # the share of this batch in the running statistics
        ops.assign(running_mean, running_mean * (1 - share) + mean * share)
        ops.assign(running_variance, running_variance * (1 - share) + variance * share)
        return out


class Dense(nn.Dense):
    """A fully connected layer with a bias.

    It takes float32 of shape (N, in_channels) and returns float32 of shape (N, out_channels).

    Args:
        in_channels: the number of inputs.
        out_channels: the number of outputs.
        relu: whether a ReLU follows.
        data_type: the type of the factors in products. Sums and the gradients of parameters are always float32.
        settings: other arguments of `nn.Dense`, except for `has_bias` and `activation`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, relu: bool, data_type: DataType = "f32", **settings: Any
    ) -> None:
        super().__init__(in_channels, out_channels, **settings)
        make = partial(_InnerProduct, self.weight.shape, relu, data_type)
        self.for_training = _WithBias(partial(make, Propagation.TRAINING))
        self.for_inference = _forward_operator(cache(partial(make, Propagation.INFERENCE)), 3)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """Return the output of the layer."""
        return (self.for_training if self.training else self.for_inference)(x, self.weight, self.bias)


class _WithBias(nn.Cell):
    # A layer with weight and bias. `make` takes the shape of x and returns an object that computes the layer for it.
    def __init__(self, make: Callable[[Shape], Any], first: bool = False) -> None:
        super().__init__(auto_prefix=False)
        make = cache(make)
        self.first = first
        self.forward, self.backward = _forward_operator(make, 3), _backward_operator(make, 3, first)

    def construct(self, x: ms.Tensor, weight: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        return self.forward(x, weight, bias)

    def bprop(
        self, x: ms.Tensor, weight: ms.Tensor, bias: ms.Tensor, out: ms.Tensor, gradient: ms.Tensor
    ) -> tuple[ms.Tensor, ...]:
        if self.first:
            return ops.zeros_like(x), *self.backward(x, gradient)
        return self.backward(x, gradient)


class _WithNorm(nn.Cell):
    # A layer with a weight and batch normalisation. The mean and variance of the batch are outputs without a gradient.
    def __init__(self, make: Callable[[Shape], Any], first: bool) -> None:
        super().__init__(auto_prefix=False)
        make = cache(make)
        self.first = first
        self.forward, self.backward = _forward_operator(make, 4, outputs=3), _backward_operator(make, 4, first)

    def construct(self, x: ms.Tensor, weight: ms.Tensor, gamma: ms.Tensor, beta: ms.Tensor) -> tuple[ms.Tensor, ...]:
        return self.forward(x, weight, gamma, beta)

    def bprop(
        self, x: ms.Tensor, weight: ms.Tensor, gamma: ms.Tensor, beta: ms.Tensor, out: Any, gradients: Any
    ) -> tuple[ms.Tensor, ...]:
        if self.first:
            return ops.zeros_like(x), *self.backward(x, gamma, gradients[0])
        return self.backward(x, gamma, gradients[0])


def _forward_operator(make: Callable[[Shape], Any], inputs: int, outputs: int = 1) -> ops.Custom:
    def run(*arrays: np.ndarray) -> Any:
        return make(arrays[0].shape).forward(*arrays)

    def shapes(*input_shapes: Any) -> Any:
        return make(tuple(input_shapes[0])).outputs

    return _operator(run, shapes, inputs, outputs)


def _backward_operator(make: Callable[[Shape], Any], inputs: int, first: bool) -> ops.Custom:
    # `inputs` is the number of inputs of the forward operator. The backward operator takes those of them that the
    # gradients depend on, x and (with batch normalisation) gamma, and the gradient of the first output. It returns the
    # gradients of all inputs of the forward operator, without that of x if the layer is the first of the network. It
    # does not take the weight, because MindSpore would copy it again; it uses the copy that the forward operator made.
    def run(*arrays: np.ndarray) -> Any:
        return make(arrays[0].shape).backward(*arrays)

    def shapes(*input_shapes: Any) -> Any:
        return make(tuple(input_shapes[0])).gradient_shapes

    return _operator(run, shapes, inputs - 1, inputs - 1 if first else inputs)


def _operator(run: Callable[..., Any], shapes: Callable[..., Any], inputs: int, outputs: int) -> ops.Custom:
    # Returns a MindSpore operator on float32 tensors. MindSpore copies the arrays that `run` returns, so these may be
    # used again.
    def types(*_: Any) -> Any:
        return (ms.float32,) * outputs if outputs > 1 else ms.float32

    # MindSpore takes the number of inputs from the signature of the function.
    names = [inspect.Parameter(f"input{number}", inspect.Parameter.POSITIONAL_ONLY) for number in range(inputs)]
    run.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]
    return ops.Custom(run, shapes, types, func_type="pyfunc")


class _BlockSettings(NamedTuple):
    # The settings of a ConvolutionBlock. pool: its kernel size and stride, or None without pooling. epsilon: the term
    # that batch normalisation adds to the variance, or None without batch normalisation.
    stride: int
    padding: int
    pool: tuple[int, int] | None
    epsilon: float | None
    data_type: DataType


class _TrainingBlock:
    # Computes a ConvolutionBlock in training, for one shape of its input. The inputs are x, weight and bias, or x,
    # weight, gamma and beta. The backward pass takes x, gamma if there is one, and the gradient of the output.
    def __init__(self, settings: _BlockSettings, first: bool, weight: Shape, x: Shape) -> None:
        self._settings, self._first = settings, first
        convolved_shape, out_shape = _output_shapes(x, weight, settings.stride, settings.padding, settings.pool)
        channels = weight[:1]
        self._has_norm = settings.epsilon is not None
        inputs = (x, weight, channels, channels) if self._has_norm else (x, weight, channels)
        self.gradient_shapes = inputs[1:] if first else inputs
        self.outputs = (out_shape, channels, channels) if self._has_norm else out_shape
        values = convolved_shape[0] * convolved_shape[2] * convolved_shape[3]
        self._unbiased = values / max(1, values - 1)
        self._inputs = tuple(map(ArrayMemory, inputs))
        self._out, self._gradient = ArrayMemory(out_shape), ArrayMemory(out_shape)
        self._gradients = tuple(map(ArrayMemory, inputs))
        self._mean, self._variance = ArrayMemory(channels), ArrayMemory(channels)
        self._x_any, self._weight_any, self._convolved_any, self._out_any = (
            Layout.any(shape, settings.data_type) for shape in (x, weight, convolved_shape, out_shape)
        )
        self._weight_gradient_any = Layout.any(weight)
        self._bias_layout = None if self._has_norm else self._inputs[2].layout
        self._build_forward()
        self._build_backward()

    def _build_forward(self) -> None:
        # Fills the program of the forward pass. The attributes that are set here are used again in the backward pass.
        stride, padding, pool, epsilon, _ = self._settings
        x, weight, *rest = self._inputs
        program = self._forward = Program()
        convolution = self._convolution = onednn.convolution_forward(
            Propagation.TRAINING,
            self._x_any,
            self._weight_any,
            self._bias_layout,
            self._convolved_any,
            stride,
            padding,
            relu=not self._has_norm,
        )
        self._source = program.convert(x, convolution.layout("src"))
        # Always a copy, because the backward pass needs the weight, and MindSpore may have reused its array by then.
        self._weight = program.copy(weight, convolution.layout("weights"))
        self._activated = self._convolved = Memory(convolution.layout("dst"))
        bias = {} if self._has_norm else {"bias": rest[0]}
        program.add(convolution, src=self._source, weights=self._weight, **bias, dst=self._convolved)
        if epsilon is not None:
            self._normalise = onednn.batch_norm_relu_forward(self._convolved.layout, epsilon)
            self._activated = Memory(self._convolved.layout)
            self._norm_tensors = {
                "src": self._convolved,
                "scale": rest[0],
                "mean": self._mean,
                "variance": self._variance,
                "workspace": Memory(self._normalise.layout("workspace")),
            }
            program.add(self._normalise, **self._norm_tensors, shift=rest[1], dst=self._activated)
        self._pooled = self._activated
        if pool:
            pooling = self._pooling = onednn.max_pool_forward(
                Propagation.TRAINING, self._activated.layout, self._out_any, *pool
            )
            self._pooled, self._pool_workspace = Memory(pooling.layout("dst")), Memory(pooling.layout("workspace"))
            program.add(pooling, src=self._activated, dst=self._pooled, workspace=self._pool_workspace)
        program.store(self._pooled, self._out)

    def _build_backward(self) -> None:
        # Fills the program of the backward pass, which goes through the parts of the block in reverse. `diff_x` is the
        # gradient of x, and so on.
        stride, padding, pool, epsilon, _ = self._settings
        diff_x, diff_weight, *diff_rest = self._gradients
        program = self._backward = Program()
        gradient = program.convert(self._gradient, self._pooled.layout)
        if pool:
            pooling = onednn.max_pool_backward(self._activated.layout, self._pooled.layout, *pool, self._pooling)
            unpooled = Memory(self._activated.layout)
            program.add(pooling, diff_dst=gradient, workspace=self._pool_workspace, diff_src=unpooled)
            gradient = unpooled
        diff_convolved = Memory(self._convolved.layout)
        if epsilon is not None:
            normalise = onednn.batch_norm_relu_backward(self._convolved.layout, epsilon, self._normalise)
            diff_gamma, diff_beta = diff_rest
            program.add(
                normalise,
                **self._norm_tensors,
                diff_dst=gradient,
                diff_src=diff_convolved,
                diff_scale=diff_gamma,
                diff_shift=diff_beta,
            )
        else:
            relu = onednn.relu_backward(self._activated.layout)
            program.add(relu, src=self._activated, diff_dst=gradient, diff_src=diff_convolved)
        for_weight = onednn.convolution_backward_weights(
            self._x_any,
            self._weight_gradient_any,
            self._bias_layout,
            self._convolved_any,
            stride,
            padding,
            self._convolution,
        )
        diff_bias = {} if self._has_norm else {"diff_bias": diff_rest[0]}
        inputs = {"src": self._source, "diff_dst": diff_convolved}
        _add_gradient(program, for_weight, "diff_weights", diff_weight, inputs, **diff_bias)
        if not self._first:
            for_x = onednn.convolution_backward_data(
                self._x_any, self._weight_any, self._convolved_any, stride, padding, self._convolution
            )
            _add_gradient(program, for_x, "diff_src", diff_x, {"weights": self._weight, "diff_dst": diff_convolved})

    def forward(self, *inputs: np.ndarray) -> Any:
        _set(self._inputs, inputs)
        self._forward.run()
        if self._has_norm:
            # MindSpore's running variance is made of unbiased estimates.
            return self._out.array, self._mean.array, self._variance.array * np.float32(self._unbiased)
        return self._out.array

    def backward(self, *x_gamma_and_gradient: np.ndarray) -> Any:
        _set((self._inputs[0], *self._inputs[2:-1], self._gradient), x_gamma_and_gradient)
        self._backward.run()
        gradients = self._gradients[1:] if self._first else self._gradients
        return tuple(gradient.array for gradient in gradients)


class _InferenceBlock:
    # Computes a ConvolutionBlock outside of training, for one shape of its input. The inputs are x, weight and bias, or
    # x, weight, gamma, beta, running mean and running variance.
    def __init__(self, settings: _BlockSettings, weight: Shape, x: Shape) -> None:
        stride, padding, pool, epsilon, data_type = settings
        convolved_shape, self.outputs = _output_shapes(x, weight, stride, padding, pool)
        self._epsilon = epsilon
        self._inputs = x_plain, weight_plain, bias = tuple(map(ArrayMemory, (x, weight, weight[:1])))
        self._out = ArrayMemory(self.outputs)
        x_any, weight_any, convolved_any = (Layout.any(shape, data_type) for shape in (x, weight, convolved_shape))
        convolution = onednn.convolution_forward(
            Propagation.INFERENCE, x_any, weight_any, bias.layout, convolved_any, stride, padding, relu=True
        )
        program = self._program = Program()
        pooled = convolved = Memory(convolution.layout("dst"))
        program.add(
            convolution,
            src=program.convert(x_plain, convolution.layout("src")),
            weights=program.convert(weight_plain, convolution.layout("weights")),
            bias=bias,
            dst=convolved,
        )
        if pool:
            pooling = onednn.max_pool_forward(
                Propagation.INFERENCE, convolved.layout, Layout.any(self.outputs, data_type), *pool
            )
            pooled = Memory(pooling.layout("dst"))
            program.add(pooling, src=convolved, dst=pooled)
        program.store(pooled, self._out)

    def forward(self, x: np.ndarray, weight: np.ndarray, *vectors: np.ndarray) -> np.ndarray:
        bias = vectors[0]
        if self._epsilon is not None:
            gamma, beta, mean, variance = vectors
            scale = gamma / np.sqrt(variance + np.float32(self._epsilon))
            weight, bias = weight * scale[:, None, None, None], beta - mean * scale
        _set(self._inputs, (x, weight, bias))
        self._program.run()
        return self._out.array


class _InnerProduct:
    # Computes a Dense layer for one shape of its input. The inputs are x, weight and bias. The backward pass takes x
    # and the gradient of the output.
    def __init__(self, weight: Shape, relu: bool, data_type: DataType, propagation: Propagation, x: Shape) -> None:
        bias = weight[:1]
        self.outputs = (x[0], weight[0])
        self.gradient_shapes = x, weight, bias
        self._inputs = x_plain, weight_plain, bias_plain = tuple(map(ArrayMemory, self.gradient_shapes))
        self._out = ArrayMemory(self.outputs)
        x_any, gradient_any = (Layout.any(shape, data_type) for shape in (x, self.outputs))
        # In bfloat16, putting the weight in oneDNN's preferred order would take longer than the products gain by it.
        weight_layout = Layout.plain(weight, data_type) if data_type == "bf16" else Layout.any(weight)

        forward = self._forward = Program()
        product = onednn.inner_product_forward(
            propagation, x_any, weight_layout, bias_plain.layout, self._out.layout, relu
        )
        source = forward.convert(x_plain, product.layout("src"))
        # Always a copy, because the backward pass needs the weight, and MindSpore may have reused its array by then.
        weights = forward.copy(weight_plain, product.layout("weights"))
        forward.add(product, src=source, weights=weights, bias=bias_plain, dst=self._out)
        if propagation == Propagation.INFERENCE:
            return

        backward = self._backward = Program()
        self._gradient, self._gradients = ArrayMemory(self.outputs), tuple(map(ArrayMemory, self.gradient_shapes))
        gradient = self._gradient
        if relu:
            gradient = ArrayMemory(self.outputs)
            backward.add(
                onednn.relu_backward(self._out.layout), src=self._out, diff_dst=self._gradient, diff_src=gradient
            )
        diff_weight = self._gradients[1]
        for_weight = onednn.inner_product_backward_weights(
            x_any, diff_weight.layout, bias_plain.layout, gradient_any, product
        )
        _add_gradient(
            backward,
            for_weight,
            "diff_weights",
            diff_weight,
            {"src": source, "diff_dst": gradient},
            diff_bias=self._gradients[2],
        )
        for_x = onednn.inner_product_backward_data(x_any, weight_layout, gradient_any, product)
        _add_gradient(backward, for_x, "diff_src", self._gradients[0], {"weights": weights, "diff_dst": gradient})

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        _set(self._inputs, inputs)
        self._forward.run()
        return self._out.array

    def backward(self, x: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, ...]:
        _set((self._inputs[0], self._gradient), (x, gradient))
        self._backward.run()
        return tuple(gradient.array for gradient in self._gradients)


def _add_gradient(
    program: Program,
    primitive: Primitive,
    name: str,
    result: ArrayMemory,
    inputs: dict[str, Memory],
    **diff_bias: Memory,
) -> None:
    # Appends a backward primitive, which reads the inputs in the layouts that it has chosen, and stores the gradient
    # that it writes under oneDNN's name in the result.
    converted = {key: program.convert(memory, primitive.layout(key)) for key, memory in inputs.items()}
    layout = primitive.layout(name)
    if layout == result.layout:
        program.add(primitive, **converted, **{name: result}, **diff_bias)
    else:
        gradient = Memory(layout)
        program.add(primitive, **converted, **{name: gradient}, **diff_bias)
        program.store(gradient, result)


def _set(memories: tuple[ArrayMemory, ...], arrays: tuple[np.ndarray, ...]) -> None:
    for memory, array in zip(memories, arrays, strict=True):
        memory.array = array


def _output_shapes(
    x: Shape, weight: Shape, stride: int, padding: int, pool: tuple[int, int] | None
) -> tuple[Shape, Shape]:
    # Returns the output shapes of the convolution and of the whole block.
    def sizes(inputs: tuple[int, ...], kernel_size: int, stride: int, padding: int) -> tuple[int, ...]:
        return tuple((size + 2 * padding - kernel_size) // stride + 1 for size in inputs)

    convolved = sizes(x[2:], weight[2], stride, padding)
    pooled = sizes(convolved, *pool, 0) if pool else convolved
    return (x[0], weight[0], *convolved), (x[0], weight[0], *pooled)
