import logging
import resource
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from numpy.typing import NDArray

from alexnet.model import checkpoint
from alexnet.model.checkpoint import DIGEST, load_initial_weights, load_network, load_weights, save_weights
from alexnet.model.networks.alexnet import AlexNet
from alexnet.runtime.errors import InputError
from tests.conftest import one_line

Weights = dict[str, NDArray[np.float32]]

SHAPES = {"conv1.weight": (2, 1, 3, 3), "conv1.bias": (2,), "fc1.weight": (4, 3), "fc1.bias": (4,)}


@pytest.fixture
def network(narrow_network: Any) -> Any:
    return narrow_network


def cell(bias: bool = True) -> Any:
    """A network with one convolution and one fully connected layer, which have the names of AlexNet's layers."""
    layers = OrderedDict(conv1=nn.Conv2d(1, 2, 3, has_bias=bias), fc1=nn.Dense(3, 4))
    network: Any = nn.SequentialCell(layers)
    network.settings = {"name": "two layers", "image_height": 96, "rate": 0.1, "flag": True}
    network.optional_parameters = {"conv1.bias"}
    network.num_classes, network.output_parameters = 4, {"fc1.weight", "fc1.bias"}
    return network


def weights(seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def of(network: Any) -> Weights:
    return {name: parameter.asnumpy().copy() for name, parameter in network.parameters_and_names()}


def write_ours(path: Path, values: dict[str, Any]) -> Path:
    """Write a checkpoint with the digest of its values."""
    tensors = {name: ms.Tensor(value) for name, value in values.items()}
    digest = checkpoint._digest({name: value.asnumpy() for name, value in tensors.items()})
    return write(path, values | {DIGEST: digest})


def write(path: Path, values: dict[str, Any]) -> Path:
    ms.save_checkpoint([{"name": name, "data": ms.Tensor(value)} for name, value in values.items()], str(path))
    return path


def equal(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_others_can_log_while_a_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def save(values: Any, path: str) -> None:
        logging.getLogger("alexnet").warning("stopping after this step")
        Path(path).touch()

    monkeypatch.setattr(ms, "save_checkpoint", save)
    checkpoint.write_checkpoint({}, tmp_path / "a.ckpt")
    assert caplog.messages == ["stopping after this step"]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    first, second = cell(), cell()
    for parameter in first.get_parameters():
        parameter.set_data(ms.Tensor(np.random.default_rng(1).normal(size=parameter.shape).astype(np.float32)))
    save_weights(first, tmp_path / "models" / "a.ckpt")
    assert not equal(of(first), of(second))
    load_weights(second, tmp_path / "models" / "a.ckpt")
    assert equal(of(first), of(second))
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["a.ckpt"]
    assert (tmp_path / "models" / "a.ckpt").stat().st_mode & 0o644 == 0o644, "for everyone to read"


def test_the_file_has_the_parameters_and_the_settings_and_nothing_else(tmp_path: Path) -> None:
    save_weights(cell(), tmp_path / "a.ckpt")
    loaded = ms.load_checkpoint(str(tmp_path / "a.ckpt"))
    assert loaded.pop("settings.name").asnumpy().tobytes() == b"two layers"
    assert {name: value.asnumpy().item() for name, value in loaded.items() if name not in (*SHAPES, DIGEST)} == {
        "settings.image_height": 96,
        "settings.rate": 0.1,
        "settings.flag": True,
    }
    assert {name: loaded[name].shape for name in SHAPES} == SHAPES


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    network = cell()
    for name in ("a.ckpt", "b.ckpt"):
        save_weights(network, tmp_path / name)
    assert (tmp_path / "a.ckpt").read_bytes() == (tmp_path / "b.ckpt").read_bytes()


def test_a_checkpoint_stores_the_settings_of_its_network(network: Any, tmp_path: Path) -> None:
    save_weights(network, tmp_path / "a.ckpt")
    loaded = load_network(tmp_path / "a.ckpt")
    expected = {"name": "alexnet", "num_classes": 10, "image_height": 67, "image_width": 99, "batch_norm": False}
    assert loaded.settings == network.settings == expected
    assert {name: type(value) for name, value in loaded.settings.items()} == {
        name: type(expected[name]) for name in expected
    }
    assert loaded.dropout_rate == 0
    assert equal(of(loaded), of(network))


def settings_of(network: Any) -> dict[str, Any]:
    """Return the numbers among the settings of a network, as in checkpoints of earlier versions, which had no names."""
    return {f"settings.{name}": np.array(value) for name, value in network.settings.items() if name != "name"}


def test_a_checkpoint_without_a_name_holds_alexnet(network: Any, tmp_path: Path) -> None:
    path = write_ours(tmp_path / "a.ckpt", of(network) | settings_of(network))
    loaded = load_network(path)
    assert loaded.settings == network.settings
    assert equal(of(loaded), of(network))
    load_weights(loaded, path)


@pytest.mark.parametrize("outputs", [1, 9, 1001])
def test_a_checkpoint_of_the_zoo_with_another_number_of_classes_is_refused(
    outputs: int, network: Any, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.ckpt", of(network) | {"fc3.bias": np.zeros((outputs, 1), np.float32)})
    with pytest.raises(InputError) as caught:
        load_network(path, 67, 99)
    one_line(caught, f"{path} was trained with num_classes {outputs}, expected a whole number from 10 to 1000")


@pytest.mark.parametrize("name", ["no-such-network", "alexnet.__init__", "../alexnet", ""])
def test_a_checkpoint_of_an_unknown_network_is_refused(name: str, network: Any, tmp_path: Path) -> None:
    stored = {"settings.name": np.frombuffer(name.encode(), np.uint8)} if name else {"settings.name": np.array(3)}
    path = write_ours(tmp_path / "a.ckpt", of(network) | settings_of(network) | stored)
    with pytest.raises(InputError) as caught:
        load_network(path)
    one_line(caught, f"{path} holds the network {name or 3}, expected alexnet")


def zoo(network: Any, path: Path) -> Path:
    """Write a checkpoint without settings, like those of the model zoo."""
    return write(path, of(network))


def test_a_checkpoint_of_the_zoo_loads_with_a_given_image_size(network: Any, tmp_path: Path) -> None:
    loaded = load_network(zoo(network, tmp_path / "a.ckpt"), 67, 99)
    assert loaded.settings == network.settings
    assert equal(of(loaded), of(network))


@pytest.mark.parametrize("size", [(None, None), (67, None), (None, 99)])
def test_a_checkpoint_of_the_zoo_without_its_image_size_is_refused(
    size: tuple[int | None, int | None], network: Any, tmp_path: Path
) -> None:
    path = zoo(network, tmp_path / "a.ckpt")
    with pytest.raises(InputError) as caught:
        load_network(path, *size)
    one_line(caught, str(path), "does not say", "give image_height and image_width")


@pytest.mark.parametrize(("size", "part"), [((68, 67), "shape"), ((10, 99), "at least 67x67")])
def test_another_image_size_than_the_checkpoints_is_refused(
    size: tuple[int, int], part: str, network: Any, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        load_network(zoo(network, tmp_path / "a.ckpt"), *size)
    one_line(caught, part)


@pytest.mark.parametrize(("size", "part"), [((68, 99), "image_height is 68"), ((67, 100), "image_width is 100")])
def test_an_image_size_that_contradicts_the_checkpoint_is_refused(
    size: tuple[int, int], part: str, network: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.ckpt"
    save_weights(network, path)
    assert load_network(path, 67, 99).settings == network.settings
    with pytest.raises(InputError) as caught:
        load_network(path, *size)
    one_line(caught, part, str(path), "leave it out")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"settings.depth": np.array(9)}, "depth"),
        ({"settings.a\n\x1b": np.array(9)}, r"'a\n\x1b'"),
        ({"settings.name": np.frombuffer(b"a\n\x1b", np.uint8)}, r"network a\n\x1b, expected"),
        ({"settings.image_width": np.frombuffer(b"a\n\x1b", np.uint8)}, r"image_width a\n\x1b, expected"),
        *(({f"settings.{name}": np.array(-1)}, f"{name} is no setting") for name in ("seed", "weight_init", "kernels")),
        ({"settings.image_width": np.array([9, 9])}, "image_width"),
        ({"settings.image_width": np.array(227)}, "fc1.weight"),
        ({"settings.num_classes": np.array(12)}, "fc3.weight"),
        *(
            ({f"settings.{name}": np.array(value)}, f"{name} {value}, expected a whole number from ")
            for name in ("num_classes", "image_height", "image_width")
            for value in (np.nan, np.inf, 67.5, 96.0, 0, -1, True, 2**40)
        ),
        *(({"settings.batch_norm": np.array(value)}, "expected true or false") for value in (2, -1, np.nan, 0.5)),
        ({"fc3.weight": np.full((10, 64), np.nan, np.float32)}, "NaN"),
    ],
)
def test_a_checkpoint_that_contradicts_itself_is_refused(
    changes: dict[str, Any], part: str, network: Any, tmp_path: Path
) -> None:
    values = of(network) | settings_of(network)
    path = write_ours(tmp_path / "a.ckpt", values | changes)
    with pytest.raises(InputError) as caught:
        load_network(path)
    one_line(caught, str(path), part)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", weights())
    with pytest.raises(InputError) as caught:
        load_network(path, 67, 67)
    one_line(caught, str(path), "another network", "alexnet")


def test_a_checkpoint_with_other_settings_is_refused(network: Any, tmp_path: Path) -> None:
    # Without this check, batch normalisation would silently be left out, and the biases would be 0.
    path = write_ours(tmp_path / "a.ckpt", of(network) | {"settings.batch_norm": np.array(True)})
    with pytest.raises(InputError) as caught:
        load_weights(network, path)
    one_line(caught, str(path), "batch_norm True, expected False")


def test_a_checkpoint_of_ours_with_any_byte_altered_is_refused(tmp_path: Path) -> None:
    network, path = cell(), tmp_path / "a.ckpt"
    save_weights(network, path)
    whole, before = path.read_bytes(), of(network)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with suppress(InputError):  # not of a byte that stands for nothing
            load_weights(network, path)
        assert equal(of(network), before)


def test_a_large_value_in_several_entries_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mindspore.train.serialization.SLICE_SIZE", 1)  # kB; by default 512 MB
    values = {"fc1.weight": np.arange(3000, dtype=np.float32).reshape(3, 1000), "flag": np.array(True)}
    found = checkpoint.read_checkpoint(write(tmp_path / "a.ckpt", values))
    assert {name: value.tolist() for name, value in found.items()} == {n: v.tolist() for n, v in values.items()}


def test_an_altered_value_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    save_weights(cell(), path)
    values = {name: one.asnumpy() for name, one in ms.load_checkpoint(str(path)).items()}
    values["conv1.bias"] = values["conv1.bias"] + 1
    with pytest.raises(InputError) as caught:
        load_weights(cell(), write(path, values))
    one_line(caught, f"{path} is damaged or was altered", "train again")


def test_a_checkpoint_of_ours_without_its_digest_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", weights() | {"settings.rate": np.array(0.1)})
    with pytest.raises(InputError) as caught:
        load_weights(cell(), path)
    one_line(caught, f"{path} has no digest", "train again")


def test_a_checkpoint_of_the_zoo_loads(network: Any, tmp_path: Path) -> None:
    """The zoo's convolutions have no biases. A checkpoint of a training has the optimizer's state."""
    before = of(network)
    other = {
        name: value + 1 for name, value in before.items() if not (name.startswith("conv") and name.endswith("bias"))
    }
    assert len(other) == 11
    extras: dict[str, Any] = {f"moments.{name}": other[name] for name in ("conv1.weight", "fc3.bias")}
    extras |= {"learning_rate": np.float32(0.002), "momentum": np.float32(0.9), "global_step": np.array([3], np.int32)}
    path = write(tmp_path / "zoo.ckpt", other | extras)
    try:
        for name, parameter in network.parameters_and_names():
            parameter.set_data(ms.Tensor(before[name] - 1))
        load_weights(network, path)
        biases = {name: np.zeros_like(value) for name, value in before.items() if name not in other}
        assert len(biases) == 5
        assert equal(of(network), {name: (other | biases)[name] for name in before})
    finally:
        for name, parameter in network.parameters_and_names():
            parameter.set_data(ms.Tensor(before[name]))


@pytest.mark.parametrize("of_the_zoo", [False, True])
@pytest.mark.parametrize("classes", [10, 12])
def test_a_training_can_start_from_other_classes(of_the_zoo: bool, classes: int, network: Any, tmp_path: Path) -> None:
    other, path = AlexNet(classes, 67, 99, 0, seed=2), tmp_path / "a.ckpt"
    if of_the_zoo:
        zoo(other, path)
    else:
        save_weights(other, path)
    before = of(network)
    try:
        left_out = load_initial_weights(network, path).left_out
        assert left_out == (["fc3.bias", "fc3.weight"] if classes == 12 else [])
        last = {name: before[name] for name in left_out}
        assert equal(of(network), of(other) | last)
    finally:
        for name, parameter in network.parameters_and_names():
            parameter.set_data(ms.Tensor(before[name]))


def test_a_training_can_start_from_another_image_size_of_the_same_shapes(tmp_path: Path) -> None:
    one, other, path = cell(), cell(), tmp_path / "a.ckpt"
    save_weights(one, path)
    other.settings["image_height"] = 97
    assert load_initial_weights(other, path).left_out == []
    assert equal(of(other), of(one))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"settings.rate": np.array(0.2)}, "rate 0.2, expected 0.1: set rate to 0.2"),
        ({"settings.flag": np.array(False)}, "flag False, expected True: set flag to false"),
        ({"conv1.weight": np.zeros((2, 1, 5, 5), np.float32)}, "conv1.weight of shape (2, 1, 5, 5)"),
        ({"fc1.weight": np.zeros((5, 3), np.float32)}, "fc1.weight of shape (5, 3)"),
        ({"conv1.weight": np.full((2, 1, 3, 3), np.nan, np.float32)}, "NaN"),
    ],
)
def test_a_training_does_not_start_from_what_does_not_fit(changes: dict[str, Any], part: str, tmp_path: Path) -> None:
    network = cell()
    before = of(network)
    path = write_ours(tmp_path / "a.ckpt", weights() | settings_of(network) | changes)
    with pytest.raises(InputError) as caught:
        load_initial_weights(network, path)
    one_line(caught, str(path), part)
    assert equal(of(network), before)


def test_half_precision_is_widened(tmp_path: Path) -> None:
    network, half = cell(), {name: value.astype(np.float16) for name, value in weights().items()}
    load_weights(network, write(tmp_path / "a.ckpt", half))
    assert equal(of(network), {name: value.astype(np.float32) for name, value in half.items()})


@pytest.mark.parametrize("missing", ["conv1.weight", "fc1.weight", "fc1.bias"])
def test_a_missing_parameter_is_refused(missing: str, tmp_path: Path) -> None:
    values = weights()
    del values[missing]
    path = write(tmp_path / "a.ckpt", values)
    with pytest.raises(InputError) as caught:
        load_weights(cell(), path)
    one_line(caught, str(path), f"no parameter {missing}")


@pytest.mark.parametrize("name", SHAPES)
def test_another_shape_is_refused(name: str, tmp_path: Path) -> None:
    values = weights()
    values[name] = np.zeros((*SHAPES[name][:-1], 9), np.float32)
    path = write(tmp_path / "a.ckpt", values)
    with pytest.raises(InputError) as caught:
        load_weights(cell(), path)
    one_line(caught, str(path), f"{name} of shape {values[name].shape}", f"expected {SHAPES[name]}")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["conv1.weight", "conv1.bias", "fc1.bias"])
def test_a_value_that_is_not_finite_is_refused(name: str, value: float, tmp_path: Path) -> None:
    values = weights()
    values[name].flat[-1] = value
    path = write(tmp_path / "a.ckpt", values)
    with pytest.raises(InputError) as caught:
        load_weights(cell(), path)
    one_line(caught, str(path), f"values in {name} that are NaN or infinite")


def test_a_value_that_float32_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", weights() | {"fc1.bias": np.full(SHAPES["fc1.bias"], 1e39)})
    with pytest.raises(InputError) as caught:
        load_weights(cell(), path)
    one_line(caught, str(path), "values in fc1.bias that are NaN or infinite")


FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "a page": lambda data: b"<html>\n<body>\nnot found\n</body>\n</html>\n",
    "zeros": lambda data: bytes(5000),
    "random": lambda data: np.random.default_rng(0).bytes(5000),
    "first half": lambda data: data[: len(data) // 2],
    "without its last byte": lambda data: data[:-1],
    "without its first byte": lambda data: data[1:],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_not_a_checkpoint_is_refused(fault: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", weights())
    data = FAULTS[fault](path.read_bytes())
    path.unlink()
    path.write_bytes(data)
    network = cell()
    with pytest.raises(InputError) as caught:
        load_weights(network, path)
    one_line(caught, f"{path} is damaged or not a MindSpore checkpoint")


def test_a_checkpoint_cut_anywhere_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "whole.ckpt", weights()).read_bytes()
    path, network = tmp_path / "cut.ckpt", cell()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(InputError) as caught:
            load_weights(network, path)
        one_line(caught, str(path))


def test_a_file_with_another_extension_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", weights()).rename(tmp_path / "a.pth")
    with pytest.raises(InputError) as caught:
        load_weights(cell(), path)
    one_line(caught, str(path))


@pytest.mark.parametrize("name", ["none.ckpt", "none/none.ckpt", "."])
def test_a_missing_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_weights(cell(), tmp_path / name)
    one_line(caught, f"no checkpoint at {tmp_path / name}", "train first")


def test_a_failing_save_leaves_the_old_file_and_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.ckpt"
    save_weights(cell(), path)
    before = path.read_bytes()
    large: Any = nn.SequentialCell(OrderedDict(fc1=nn.Dense(300, 300)))
    large.settings, large.optional_parameters = {}, set()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # as a full disk: what is longer cannot be written
    try:
        with pytest.raises(OSError, match="too large") as caught:
            save_weights(large, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
    assert capfd.readouterr().err == ""
