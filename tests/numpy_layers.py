"""Layers computed by NumPy, with which those of the network are compared."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[Any]


def _windows(x: Array, size: int, stride: int) -> Array:
    windows = sliding_window_view(x, (size, size), (2, 3))  # type: ignore[call-overload]
    result: Array = windows[:, :, ::stride, ::stride]
    return result


def convolve(x: Array, weight: Array, stride: int, padding: int) -> tuple[Array, Array]:
    """Return the convolution of x without a bias, and the windows of x that it used."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = _windows(padded, weight.shape[2], stride)
    return np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2), windows


def pool(x: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Return the 3x3 max-pooling of x with stride 2, and a function from its gradient to that of x."""
    windows = _windows(x, 3, 2)
    flat = windows.reshape(*windows.shape[:4], 9)

    def back(gradient: Array) -> Array:
        result = np.zeros_like(x)
        rows, columns = np.divmod(flat.argmax(-1), 3)
        n, c, i, j = np.indices(rows.shape)
        np.add.at(result, (n, c, 2 * i + rows, 2 * j + columns), gradient)
        return result

    return flat.max(-1), back
