"""What README.md tells people to type."""

import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from alexnet.model.alexnet_layers import training_pflop
from stages import params
from tests.workspaces import ROOT, change

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("dvc exp run")
]


def settings(command: list[str]) -> dict[str, dict[str, Any]]:
    """The values that the -S of a command set, by section; of several values, the first."""
    found: dict[str, dict[str, Any]] = {}
    for flag, text in itertools.pairwise(command):
        if flag == "-S" and "=" in text:
            name, _, value = text.partition("=")
            section, key = name.split(".")
            listed = value if value.startswith("[") else value.split(",")[0]
            found.setdefault(section, {})[key] = yaml.safe_load(listed)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_experiment_sets_parameters_that_there_are(command: list[str], folder: Path) -> None:
    change(folder, **settings(command))
    params.read()


def test_the_zoos_recipe_is_the_zoos(folder: Path) -> None:
    (command,) = (command for command in COMMANDS if "model.image_height=227" in command)
    change(folder, **settings(command))
    given = params.read()
    model, train = given.model, given.train
    assert (model.image_height, model.image_width, model.dropout_rate, model.batch_norm) == (227, 227, 0, False)
    assert (train.epoch_size, train.batch_size, train.learning_rate, train.momentum) == (30, 32, 0.002, 0.9)
    assert (train.crop_padding, train.flip, train.weight_init, train.lr_schedule, train.warmup_ratio) == (
        4,
        "random",
        "default",
        "constant",
        0,
    )
    assert not any((train.use_nesterov, train.weight_decay, train.label_smoothing, train.ema_decay))
    images = train.epoch_size * (given.data.train_images // train.batch_size) * train.batch_size
    assert training_pflop(10, model.image_height, model.image_width, images) == pytest.approx(9.9, abs=0.05)
