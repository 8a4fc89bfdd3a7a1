"""A network that is added as one file runs through the whole pipeline."""

import inspect
import json
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from alexnet.kernels.choice import MINDSPORE
from alexnet.model import networks
from alexnet.model.checkpoint import load_network, read_checkpoint, save_weights
from alexnet.model.network import Network
from alexnet.model.registry import create, names, network_class
from alexnet.runtime.errors import InputError
from stages import params
from stages.train_outputs import image_size
from tests import workspaces
from tests.conftest import one_line
from tests.trainings import TRAIN, wait_for
from tests.workspaces import change, run, start

SMALL = '''
"""A network of one convolution and one fully connected layer."""

import mindspore as ms
from mindspore import nn

from alexnet.model.initialization import initializers
from alexnet.model.network import Network
from alexnet.model.preprocessing import Preprocessing


class Small(Network):
    """Has `width` filters, and dropout between its two layers."""

    description = "One convolution and one fully connected layer."
    output_parameters = frozenset({"classes.weight", "classes.bias"})

    def __init__(
        self, num_classes, image_height, image_width, width, dropout_rate, kernels, weight_init="default", seed=0
    ):
        settings = {"num_classes": num_classes, "image_height": image_height, "image_width": image_width}
        super().__init__(settings | {"width": width}, kernels)
        ms.set_seed(seed)
        initial = initializers(weight_init)
        self.dropout_rate = dropout_rate
        self.preprocessing = Preprocessing(image_height, image_width)
        self.convolution = nn.Conv2d(3, width, 5, stride=4, pad_mode="valid", has_bias=True, **initial)
        block = kernels.convolution_block(self.convolution, None, None, first=True)
        self.insert_child_to_cell("block", block)
        self.places = ((image_height - 1) // 4) * ((image_width - 1) // 4)
        self.dropout_shape = (self.places * width,)
        self.classes = kernels.dense(self.places * width, num_classes, relu=False, **initial)

    def construct(self, images, keep=None):
        x = self.block(self.preprocessing(images)).reshape(-1, self.classes.in_channels)
        return self.classes(x if keep is None else x * keep / (1 - self.dropout_rate))

    def first_layers(self):
        return self.preprocessing, self.convolution

    def training_pflop(self, images):
        return 2 * (2 * self.places * self.convolution.weight.size + 3 * self.classes.weight.size) * images / 1e15


NETWORK = Small
'''

PLAIN = """
from mindspore import nn

from alexnet.model.network import Network


class Plain(Network):
    def __init__(self, num_classes, width):
        super().__init__({"num_classes": num_classes, "width": width})
        self.classes = nn.Dense(width, num_classes)

    def construct(self, images, keep=None):
        raise AssertionError("it is never trained")

    first_layers = training_pflop = construct


NETWORK = Plain
"""

FORGETFUL = PLAIN.replace(', "width": width', "")

EAGER = """
from alexnet.model.network import Network


class Eager(Network):
    def __init__(self, num_classes, **others):
        super().__init__({"num_classes": num_classes})
        self.others = set(others)

    def construct(self, images, keep=None):
        raise AssertionError("it is never trained")

    first_layers = training_pflop = construct


NETWORK = Eager
"""

USUAL: dict[str, Any] = {"num_classes": 10, "image_height": 67, "image_width": 67, "dropout_rate": 0.5}
USUAL |= {"batch_norm": True, "kernels": MINDSPORE, "weight_init": "HeNormal", "seed": 1}


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add the networks `small`, `plain`, `forgetful` and `eager` to those of this process."""
    codes = {"small": SMALL, "plain": PLAIN, "forgetful": FORGETFUL, "eager": EAGER}
    monkeypatch.setattr(networks, "__path__", [*networks.__path__, str(tmp_path)])
    for name, code in codes.items():
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    yield
    for name in codes:
        sys.modules.pop(f"{networks.__name__}.{name}", None)


@pytest.mark.usefixtures("added", "narrow_network")
def test_a_network_gets_the_arguments_that_it_has() -> None:
    given = USUAL | {"width": 8}
    assert create("small", **given).settings == {
        "name": "small",
        "num_classes": 10,
        "image_height": 67,
        "image_width": 67,
        "width": 8,
    }
    assert create("plain", **given).settings == {"name": "plain", "num_classes": 10, "width": 8}
    eager: Any = create("eager", **given)
    assert eager.others == given.keys() - {"num_classes"}
    assert create("alexnet", **given).settings == create("alexnet", **USUAL).settings
    with pytest.raises(TypeError, match="width"):
        create("small", **USUAL)


@pytest.mark.usefixtures("added")
def test_an_argument_that_a_checkpoint_would_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="network forgetful: its constructor must give width"):
        create("forgetful", num_classes=10, width=8)


@pytest.mark.parametrize("value", [[64, 128], None, "", 1j])
def test_a_setting_that_a_checkpoint_cannot_have_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="the setting channels is"):
        Network({"num_classes": 10, "channels": value})


@pytest.mark.parametrize("method", ["construct", "first_layers", "training_pflop"])
def test_a_network_without_a_method_is_refused_before_it_is_trained(method: str) -> None:
    others = {"construct", "first_layers", "training_pflop"} - {method}
    incomplete = type("Incomplete", (Network,), {name: lambda self: None for name in others})
    with pytest.raises(TypeError, match=f"the network Incomplete has no method {method}, see alexnet.model.network"):
        incomplete({"num_classes": 10})


def test_each_parameter_of_the_section_model_is_an_argument_of_a_network() -> None:
    arguments = {key for name in names() for key in inspect.signature(network_class(name)).parameters}
    assert set(params.Model.model_fields) - {"name"} <= arguments


@pytest.mark.usefixtures("added")
def test_the_image_size_is_recorded_only_if_the_network_has_one() -> None:
    given = USUAL | {"image_width": 99, "width": 8}
    assert image_size(create("small", **given)) == [67, 99]
    assert image_size(create("plain", **given)) is None


@pytest.mark.usefixtures("added")
def test_another_network_is_initialised_as_alexnet_is() -> None:
    given = USUAL | {"width": 8}
    he = create("small", **given).parameters_dict()
    default = create("small", **given | {"weight_init": "default"}).parameters_dict()
    assert not he["convolution.bias"].asnumpy().any()
    assert not he["classes.bias"].asnumpy().any()
    assert default["convolution.bias"].asnumpy().any()
    assert he["convolution.weight"].asnumpy().std() == pytest.approx(np.sqrt(2 / 75), rel=0.1)


@pytest.mark.usefixtures("added")
def test_a_checkpoint_of_a_network_without_the_usual_arguments(tmp_path: Path) -> None:
    network, path = create("plain", num_classes=10, width=8), tmp_path / "a.ckpt"
    save_weights(network, path)
    loaded = load_network(path)
    assert loaded.settings == network.settings
    for name, value in loaded.parameters_dict().items():
        np.testing.assert_array_equal(value.asnumpy(), network.parameters_dict()[name].asnumpy())


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("name", ["depth", "dropout_rate"])
def test_a_checkpoint_with_a_setting_that_the_network_has_not_is_refused(name: str, tmp_path: Path) -> None:
    network, path = create("plain", num_classes=10, width=8), tmp_path / "a.ckpt"
    network.settings[name] = 0.5
    save_weights(network, path)
    with pytest.raises(InputError) as caught:
        load_network(path)
    one_line(caught, f"{path} was written by another version of this network", name)


@pytest.mark.usefixtures("added")
def test_a_checkpoint_without_a_setting_that_the_network_needs_is_refused(tmp_path: Path) -> None:
    network, path = create("plain", num_classes=10, width=8), tmp_path / "a.ckpt"
    del network.settings["width"]
    save_weights(network, path)
    with pytest.raises(InputError) as caught:
        load_network(path)
    one_line(caught, f"{path} was written by another version of this network", "width")


def test_another_network_in_one_file(tmp_path: Path) -> None:
    folder = workspaces.copy(tmp_path / "copy")
    (folder / "alexnet" / "model" / "networks" / "small.py").write_text(SMALL, encoding="utf-8")
    workspaces.replace(folder / "stages" / "params.py", r"    batch_norm: Switch\n", r"\g<0>    width: Positive\n")
    change(
        folder,
        data={"urls": ["generated"]},
        model={"name": "small", "num_classes": 12, "image_height": 28, "image_width": 32}
        | {"dropout_rate": 0.25, "width": 8},
        train={"epoch_size": 100},
        run={"save_checkpoint_steps": "epoch"},
    )
    for stage in ("download", "verify"):
        run(folder, "python", "-m", "stages", stage)

    process = start(folder, *TRAIN, pause=0.05)
    wait_for(process, "epoch: ")
    process.send_signal(signal.SIGTERM)
    stopped, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, stopped
    assert "resuming after epoch" in run(folder, *TRAIN)
    metrics = json.loads((folder / "metrics" / "train.json").read_text(encoding="utf-8"))
    assert metrics["parameters"] == 8 * 76 + (6 * 7 * 8 + 1) * 12
    assert metrics["pflop"] == 2 * (2 * 6 * 7 * 8 * 75 + 3 * 6 * 7 * 8 * 12) * 500 * 20 / 1e15

    for stage in ("evaluate", "report", "export"):
        run(folder, "python", "-m", "stages", stage)
    accuracy = json.loads((folder / "metrics" / "eval.json").read_text(encoding="utf-8"))["accuracy"]
    assert accuracy > 0.2, "more than by chance"
    assert np.load(folder / "predictions" / "filters.npy").shape == (8, 3, 5, 5)
    page, card = ((folder / "report" / name).read_text(encoding="utf-8") for name in ("index.html", "MODEL_CARD.md"))
    assert "<h1>Small on generated images</h1>" in page
    assert "# Small on generated images\n\nOne convolution and one fully connected layer.\n" in card
    for text in (page, card):
        assert "One convolution and one fully connected layer." in text
        assert "28\N{MULTIPLICATION SIGN}32 pixels" in text
        assert "Krizhevsky" not in text
    assert onnx.load(folder / "models" / "alexnet.onnx").graph.name == "Small"

    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    answer = run(folder, "python", "-m", "alexnet", "predict", "--json", str(tmp_path / "red.png"))
    assert len(json.loads(answer)["predictions"][0]["classes"]) == 3

    shutil.copy(folder / "models" / "alexnet.ckpt", folder / "pretrained.ckpt")
    still = {"learning_rate": 1e-40, "lr_schedule": "constant", "weight_decay": 0.0, "epoch_size": 1}
    change(folder, model={"num_classes": 10}, train=still | {"initial_weights": "pretrained.ckpt"})
    assert "so classes.bias and classes.weight are left out" in run(folder, *TRAIN)
    first, second = (read_checkpoint(folder / name) for name in ("pretrained.ckpt", "models/alexnet.ckpt"))
    for name in ("convolution.weight", "convolution.bias"):
        assert np.allclose(second[name], first[name], rtol=0, atol=1e-30)
    assert second["classes.weight"].shape == (10, 6 * 7 * 8)
