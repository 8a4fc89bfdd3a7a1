"""The binding to oneDNN: what it finds, computes and refuses. test_kernels.py has the tests of the layers."""

import importlib.metadata
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from alexnet.kernels import onednn
from alexnet.kernels.onednn import ArrayMemory, Layout, Memory, OneDNNError, Program, Propagation

pytestmark = pytest.mark.skipif(not onednn.available(), reason="oneDNN is for Linux on x86-64")


@pytest.fixture
def without_wheel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which the wheel is not installed."""

    def files(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", files)
    for cached in (onednn.available, onednn._library, onednn.version):
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in (onednn.available, onednn._library, onednn.version):
        cached.cache_clear()


def test_the_library_is_that_of_the_wheel() -> None:
    path = onednn.find_library()
    assert path is not None
    assert path.name.startswith("libdnnl.so")
    assert re.fullmatch(r"3\.2\.\d+", onednn.version())


def test_without_the_wheel_there_is_none(without_wheel: None) -> None:
    assert onednn.find_library() is None
    assert not onednn.available()
    assert not onednn.computes_bfloat16()
    with pytest.raises(OneDNNError, match=f"pip install {onednn.DISTRIBUTION}"):
        onednn.version()


def test_a_library_that_cannot_be_loaded_counts_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "libdnnl.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(onednn, "find_library", lambda: broken)
    onednn.available.cache_clear()
    try:
        assert not onednn.available()
    finally:
        onednn.available.cache_clear()


def test_a_matrix_product() -> None:
    rng = np.random.default_rng(0)
    left, right, product = (ArrayMemory(shape) for shape in ((5, 7), (7, 3), (5, 3)))
    left.array, right.array = rng.random((5, 7), np.float32), rng.random((7, 3), np.float32)
    onednn.matmul(left.layout, right.layout, product.layout).run(src=left, weights=right, dst=product)
    np.testing.assert_allclose(product.array, left.array @ right.array, rtol=1e-6)


def test_a_refused_descriptor_names_the_call_and_its_status() -> None:
    with pytest.raises(OneDNNError, match=r"dnnl_matmul_primitive_desc_create failed: invalid arguments \(status 2\)"):
        onednn.matmul(Layout.plain((5, 7)), Layout.plain((8, 3)), Layout.plain((5, 3)))


def test_a_missing_tensor_is_an_error() -> None:
    layout = Layout.plain((4, 4))
    with pytest.raises(OneDNNError, match="dnnl_primitive_execute failed: invalid arguments"):
        onednn.matmul(layout, layout, layout).run(src=Memory(layout), dst=Memory(layout))


@pytest.mark.parametrize("wrong", [np.zeros((2, 3), np.float64), np.zeros((3, 2), np.float32)])
def test_an_array_that_does_not_fit_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected float32 of \(2, 3\)"):
        ArrayMemory((2, 3)).array = wrong


def test_an_array_that_is_not_contiguous_is_copied() -> None:
    array = np.arange(6, dtype=np.float32).reshape(3, 2).T
    source, target = ArrayMemory((2, 3)), ArrayMemory((2, 3))
    source.array = array
    onednn.reorder(source.layout, target.layout).run(src=source, dst=target)
    np.testing.assert_array_equal(target.array, array)


def test_buffers_are_aligned() -> None:
    assert all(Memory(Layout.plain((size,)))._array.ctypes.data % 64 == 0 for size in (1, 3, 1000, 100_000))


def test_layouts_are_compared_by_value() -> None:
    assert Layout.plain((2, 3)) == Layout.plain((2, 3))
    assert Layout.plain((2, 3)) != Layout.plain((3, 2))
    assert Layout.plain((2, 3)) != "a layout"


def test_a_program_converts_only_where_layouts_differ() -> None:
    rng = np.random.default_rng(0)
    shape = (2, 16, 5, 5)
    forward = onednn.convolution_forward(
        Propagation.INFERENCE,
        Layout.any(shape),
        Layout.any((32, 16, 3, 3)),
        None,
        Layout.any((2, 32, 5, 5)),
        1,
        1,
        False,
    )
    program, source, target = Program(), ArrayMemory(shape), ArrayMemory(shape)
    source.array = rng.random(shape, np.float32)
    converted = program.convert(source, forward.layout("src"))
    assert program.convert(source, source.layout) is source
    program.store(converted, target)
    program.run()
    np.testing.assert_array_equal(target.array, source.array)


def test_a_primitive_runs_in_another_thread_than_it_was_made_in() -> None:
    # This convolution has a scratchpad, which oneDNN would by default keep for the thread that made it.
    shape, kernels = (2, 3, 67, 71), (96, 3, 11, 11)
    forward = onednn.convolution_forward(
        Propagation.TRAINING, Layout.plain(shape), Layout.any(kernels), None, Layout.any((2, 96, 15, 16)), 4, 0, False
    )
    backward = onednn.convolution_backward_data(
        Layout.plain(shape), Layout.plain(kernels), Layout.plain((2, 96, 15, 16)), 4, 0, forward
    )
    weights, gradient = ArrayMemory(kernels), ArrayMemory((2, 96, 15, 16))
    weights.array, gradient.array = np.ones(kernels, np.float32), np.ones((2, 96, 15, 16), np.float32)
    results = [ArrayMemory(shape), ArrayMemory(shape)]
    for result, run in zip(results, (at_once, in_thread), strict=True):
        run(partial(backward.run, weights=weights, diff_dst=gradient, diff_src=result))
    np.testing.assert_array_equal(results[0].array, results[1].array)
    assert results[0].array[0, 0, 0, 0] == 96


def at_once(work: Callable[[], None]) -> None:
    work()


def in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_the_number_of_threads_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    library = onednn._library()
    monkeypatch.setattr(library, "omp_set_num_threads", seen.append, raising=False)
    monkeypatch.setattr(onednn, "_threads", None)
    onednn.set_threads(3)
    layout = Layout.plain((4, 4))
    onednn.reorder(layout, layout).run(src=Memory(layout), dst=Memory(layout))
    assert seen
    assert set(seen) == {3}
