"""A network that is added as one file runs through the whole pipeline."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from alexnet.model.checkpoint import read_checkpoint
from tests import workspaces
from tests.workspaces import change, run, start

CODE = '''
"""A network of one convolution and one fully connected layer."""

import mindspore as ms
from mindspore import nn

from alexnet.model.network import Network


class Small(Network):
    """Takes the images as they are, and has dropout between its two layers."""

    dropout_shape = (392,)
    output_parameters = frozenset({"classes.weight", "classes.bias"})

    def __init__(self, num_classes, kernels, dropout_rate, seed=0, **_):
        super().__init__({"num_classes": num_classes}, kernels)
        ms.set_seed(seed)
        self.dropout_rate = dropout_rate
        self.convolution = nn.Conv2d(3, 8, 5, stride=4, pad_mode="valid", has_bias=True)
        block = kernels.convolution_block(self.convolution, None, None, first=True)
        self.insert_child_to_cell("block", block)
        self.classes = kernels.dense(392, num_classes, relu=False)

    def construct(self, images, keep=None):
        x = self.block(images.astype(ms.float32) / 255).reshape(-1, 392)
        return self.classes(x if keep is None else x * keep / (1 - self.dropout_rate))

    def filters(self):
        return self.convolution.weight.asnumpy()

    def training_pflop(self, images):
        return 2 * (2 * 7 * 7 * 8 * 75 + 3 * 392 * self.num_classes) * images / 1e15


NETWORK = Small
'''


def test_another_network_in_one_file(tmp_path: Path) -> None:
    folder = workspaces.copy(tmp_path / "copy")
    (folder / "alexnet" / "model" / "networks" / "small.py").write_text(CODE, encoding="utf-8")
    change(
        folder,
        data={"urls": ["generated"]},
        model={"name": "small", "dropout_rate": 0.25, "num_classes": 12},
        train={"epoch_size": 100},
        run={"save_checkpoint_steps": "epoch"},
    )
    for stage in ("download", "verify"):
        run(folder, "python", "-m", "stages", stage)

    train = ("python", "-m", "stages", "train")
    process = start(folder, *train, pause=0.05)
    assert process.stdout
    for line in process.stdout:
        if line.startswith("epoch: "):
            break
    process.send_signal(signal.SIGTERM)
    stopped, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, stopped
    assert "resuming after epoch" in run(folder, *train)
    metrics = json.loads((folder / "metrics" / "train.json").read_text(encoding="utf-8"))
    assert metrics["parameters"] == 8 * 76 + 393 * 12
    assert metrics["pflop"] == 2 * (2 * 7 * 7 * 8 * 75 + 3 * 392 * 12) * 500 * 20 / 1e15

    for stage in ("evaluate", "report", "export"):
        run(folder, "python", "-m", "stages", stage)
    accuracy = json.loads((folder / "metrics" / "eval.json").read_text(encoding="utf-8"))["accuracy"]
    assert accuracy > 0.2, "more than by chance"
    assert np.load(folder / "predictions" / "filters.npy").shape == (8, 3, 5, 5)
    assert "<h1>Small on generated images</h1>" in (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert onnx.load(folder / "models" / "alexnet.onnx").graph.name == "Small"

    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    answer = run(folder, "python", "-m", "alexnet", "predict", "--json", str(tmp_path / "red.png"))
    assert len(json.loads(answer)["predictions"][0]["classes"]) == 3

    shutil.copy(folder / "models" / "alexnet.ckpt", folder / "pretrained.ckpt")
    still = {"learning_rate": 1e-40, "lr_schedule": "constant", "weight_decay": 0.0, "epoch_size": 1}
    change(folder, model={"num_classes": 10}, train=still | {"initial_weights": "pretrained.ckpt"})
    assert "so classes.bias and classes.weight are left out" in run(folder, *train)
    first, second = (read_checkpoint(folder / name) for name in ("pretrained.ckpt", "models/alexnet.ckpt"))
    for name in ("convolution.weight", "convolution.bias"):
        assert np.allclose(second[name], first[name], rtol=0, atol=1e-30)
    assert second["classes.weight"].shape == (10, 392)
