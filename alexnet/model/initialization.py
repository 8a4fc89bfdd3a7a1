"""How the weights of a network are initialised."""

from typing import TYPE_CHECKING, Any

import mindspore as ms
import numpy as np
from mindspore import nn
from mindspore.common.initializer import HeNormal, TruncatedNormal
from numpy.lib.stride_tricks import sliding_window_view

from alexnet.runtime.choices import WeightInit
from alexnet.runtime.errors import InputError

if TYPE_CHECKING:
    from alexnet.model.network import Network

WHITENING_EPSILON = 5e-4
"""What is added to the variance of a component before the component is divided by its square root, as in airbench (K.
Jordan, arXiv 2404.00498)."""

TRUNCATED_NORMAL_SIGMA = 0.02
"""The standard deviation of the normal distribution that `TruncatedNormal` cuts off."""


def initializers(weight_init: WeightInit) -> dict[str, Any]:
    """Return `weight_init` and `bias_init` of `nn.Conv2d` and `nn.Dense`, or nothing for MindSpore's own.

    The layers draw their values when they are made, so set the seed before (`mindspore.set_seed`).

    Args:
        weight_init: `default` initialises as MindSpore's layers do, `HeNormal` as in K. He et al., arXiv 1502.01852,
            section 2.2, for layers that a ReLU follows, with biases of 0. `TruncatedNormal` draws weights and biases
            from a normal distribution with a standard deviation of 0.02, cut off at two standard deviations, as the
            model zoo did in 2020:
            https://github.com/mindspore-ai/mindspore/blob/1546d80/model_zoo/official/cv/alexnet/src/alexnet.py
    """
    match weight_init:
        case "default":
            return {}
        case "HeNormal":
            return {"weight_init": HeNormal(nonlinearity="relu"), "bias_init": "zeros"}
        case "TruncatedNormal":
            # MindSpore takes the bounds as they are, although its default of 2 looks like standard deviations.
            bound = 2 * TRUNCATED_NORMAL_SIGMA
            initializer = TruncatedNormal(TRUNCATED_NORMAL_SIGMA, a=-bound, b=bound)
            return {"weight_init": initializer, "bias_init": initializer}


def begin_with_identity(network: "Network") -> None:
    """Set the first filters of each convolution but the first to the identity: filter i passes channel i on.

    There are as many of these filters as the convolution has channels, or as it has filters if these are fewer. The
    other filters keep their values. The signal then reaches deep layers undistorted from the first step, and training
    is faster (K. Jordan, arXiv 2404.00498, section 3.3).

    Args:
        network: the network.
    """
    _, first = network.first_layers()
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.Conv2d) and cell is not first:
            filters = cell.weight.asnumpy().copy()
            number, channels, height, width = filters.shape
            passing = np.arange(min(number, channels))
            filters[passing] = 0
            filters[passing, passing, height // 2, width // 2] = 1
            cell.weight.set_data(ms.Tensor(filters))


def whiten(network: "Network", images: np.ndarray) -> None:
    """Set the weights of a network's first convolution to filters that whiten these images.

    On an enlarged image, random filters give nearly the same outputs as each other, because neighbouring pixels are
    alike. With these filters, training is faster from the first step (K. Jordan, arXiv 2404.00498, section 3.2, where
    they are frozen).

    Args:
        network: the network.
        images: uint8 of shape (N, 3, 32, 32), RGB, some of the training images. A few hundred are enough.

    Raises InputError when the convolution has too many filters, see `whitening_filters`.
    """
    preprocessing, convolution = network.first_layers()
    preprocessed = preprocessing(ms.Tensor(images)).asnumpy()
    filters = whitening_filters(preprocessed, convolution.weight.shape, convolution.stride)
    convolution.weight.set_data(ms.Tensor(filters))


def whitening_filters(images: np.ndarray, shape: tuple[int, int, int, int], stride: tuple[int, int]) -> np.ndarray:
    """Return filters that whiten patches: the outputs of the first half of the filters are uncorrelated.

    Their variance is just below 1, or less where images hardly vary. These filters are the principal components of the
    patches that a convolution sees, those of the largest variance first, each divided by its standard deviation. The
    mean of the patches is not subtracted, because that of normalised images is near 0. The second half of the filters
    are the negatives of the first half, because the ReLU that follows sets negative outputs to 0.

    Args:
        images: what the convolution takes, float32 of shape (N, C, H, W).
        shape: the shape of the filters, (number, C, height, width).
        stride: the strides of the convolution along the height and the width.

    Returns float32 of the given shape. Raises InputError when there are more than 2 x C x height x width filters,
    because there are no more components.
    """
    number, channels, height, width = shape
    size = channels * height * width
    if number > 2 * size:
        raise InputError(
            f"whitening is true, but the first convolution has {number} filters, and only {2 * size} of "
            f"{channels}x{height}x{width} can whiten: set it to false"
        )
    second_moments, count = np.zeros((size, size)), 0
    for image in images:  # one at a time, because the patches of all would take gigabytes
        windows: np.ndarray = sliding_window_view(image, (height, width), axis=(1, 2))  # type: ignore[call-overload]
        patches = windows[:, :: stride[0], :: stride[1]].transpose(1, 2, 0, 3, 4).reshape(-1, size).astype(np.float64)
        second_moments += patches.T @ patches
        count += len(patches)
    variances, components = np.linalg.eigh(second_moments / count)  # in ascending order; the components are columns
    deviations = np.sqrt(np.maximum(variances, 0) + WHITENING_EPSILON)
    half = (components / deviations).T[::-1][: -(-number // 2)]
    return np.concatenate([half, -half])[:number].reshape(shape).astype(np.float32)
