"""A training that starts from the weights of a checkpoint, in real processes."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from alexnet.model.checkpoint import SETTINGS, read_checkpoint
from alexnet.runtime.errors import InputError
from alexnet.runtime.files import digest
from stages.train import set_initial_weights
from tests import workspaces
from tests.conftest import one_line
from tests.trainings import TRAIN, duplicate, no_outputs, outputs, verified, wait_for
from tests.workspaces import change, run, start

STILL = {"learning_rate": 1e-40, "lr_schedule": "constant", "weight_decay": 0.0}
"""A recipe that changes no weight by more than 1e-30, so that a training ends with those that it started from."""


@pytest.fixture(scope="module")
def original(module_path: Path) -> Path:
    """A workspace with its data verified, a checkpoint of its network and one of a network with twelve classes."""
    folder = verified(module_path / "alexnet", model={"batch_norm": False}, train={"epoch_size": 1})
    for classes, name in ((12, "twelve.ckpt"), (10, "ten.ckpt")):
        change(folder, model={"num_classes": classes}, train={"seed": classes})
        run(folder, *TRAIN)
        shutil.move(folder / "models" / "alexnet.ckpt", folder / name)
    for name in ("dvclive", "metrics", ".dvc/tmp"):
        shutil.rmtree(folder / name)
    change(folder, train={"seed": 1})
    return folder


@pytest.fixture
def workspace(original: Path, tmp_path: Path) -> Path:
    return duplicate(original, tmp_path)


def weights(path: Path) -> dict[str, Any]:
    """Return the weights of a checkpoint, without its settings."""
    return {name: value for name, value in read_checkpoint(path).items() if not name.startswith(SETTINGS)}


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return np.allclose(one, other, rtol=0, atol=1e-30)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_weights_are_those_of_the_checkpoint(workers: int, workspace: Path) -> None:
    change(workspace, train=STILL | {"initial_weights": "ten.ckpt", "workers": workers})
    output = run(workspace, *TRAIN)
    file = digest(workspace / "ten.ckpt", "md5")
    assert output.count(f"starting from the weights of ten.ckpt, MD5 {file}\n") == 1
    expected, found = weights(workspace / "ten.ckpt"), weights(workspace / "models" / "alexnet.ckpt")
    assert expected.keys() == found.keys()
    assert all(same(found[name], expected[name]) for name in expected)
    timing = json.loads((workspace / "metrics" / "timing.json").read_text(encoding="utf-8"))
    assert timing["initial_weights_md5"] == file


def test_a_checkpoint_of_the_zoos_with_other_classes(workspace: Path) -> None:
    expected = weights(workspace / "twelve.ckpt")
    values = [{"name": name, "data": ms.Tensor(value)} for name, value in expected.items()]
    ms.save_checkpoint(values, str(workspace / "zoo.ckpt"))
    change(workspace, train=STILL | {"initial_weights": str(workspace / "zoo.ckpt")})
    output = run(workspace, *TRAIN)
    (line,) = (line for line in output.splitlines() if "zoo.ckpt" in line)
    assert line.endswith("; it has another number of classes, so fc3.bias and fc3.weight are left out")
    found = weights(workspace / "models" / "alexnet.ckpt")
    assert {name for name in expected if found[name].shape != expected[name].shape} == {"fc3.bias", "fc3.weight"}
    assert all(same(found[name], expected[name]) for name in expected if not name.startswith("fc3"))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("none.ckpt", "train.initial_weights is none.ckpt, but there is no file none.ckpt"),
        ("cut.ckpt", "train.initial_weights: cut.ckpt is damaged or not a MindSpore checkpoint"),
        ("altered.ckpt", "train.initial_weights: altered.ckpt is damaged or was altered"),
        (
            "models/../models/alexnet.ckpt",
            "train.initial_weights is models/../models/alexnet.ckpt, the checkpoint that",
        ),
    ],
)
def test_what_cannot_be_started_from_is_one_line(
    name: str, part: str, workspace: Path, narrow_network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (workspace / "ten.ckpt").read_bytes()
    (workspace / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 2
    altered = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    (workspace / "altered.ckpt").write_bytes(altered)
    monkeypatch.chdir(workspace)
    with pytest.raises(InputError) as caught:
        set_initial_weights(narrow_network, name, Path())
    one_line(caught, part)


def test_a_killed_training_resumes_until_the_file_changes(workspace: Path, tmp_path: Path) -> None:
    whole = duplicate(workspace, tmp_path / "whole")
    for folder in (whole, workspace):
        change(folder, train={"initial_weights": "ten.ckpt"})
    run(whole, *TRAIN)

    process = start(workspace, *TRAIN, pause=0.3)
    wait_for(process, "epoch: 1 step: 3,")
    process.kill()
    process.communicate()
    assert no_outputs(workspace)
    killed = duplicate(workspace, tmp_path / "killed")
    shutil.move(workspace / "ten.ckpt", workspace / "renamed.ckpt")
    change(workspace, train={"initial_weights": "renamed.ckpt"})
    assert "resuming after epoch 1 step" in run(workspace, *TRAIN)
    assert outputs(workspace) == outputs(whole)

    shutil.move(killed / "twelve.ckpt", killed / "ten.ckpt")
    output = run(killed, *TRAIN)
    assert "left out" in output
    assert "resuming" not in output
    assert outputs(killed) != outputs(whole)


def test_how_dvc_sees_the_file(tmp_path: Path, original: Path) -> None:
    """As docs/experiments.md says: a relative path starts at the workspace, and its content is no dep by itself."""
    folder = tmp_path / "alexnet"
    workspaces.repository(folder)
    change(folder, model={"batch_norm": False}, train={"epoch_size": 1})
    shutil.copy(original / "ten.ckpt", folder / "pretrained.ckpt")
    run(folder, "dvc", "add", "pretrained.ckpt")
    workspaces.commit(folder)
    settings = ("-S", "train.initial_weights=pretrained.ckpt")
    output = run(folder, "dvc", "exp", "run", "--temp", "--name", "fine", *settings, "train")
    assert f"starting from the weights of {folder / 'pretrained.ckpt'}, MD5 " in output
    run(folder, "dvc", "exp", "apply", "fine", code=None)  # it misses the outputs of the stages that were not run

    def stale() -> bool:
        return "train" in json.loads(run(folder, "dvc", "status", "--json", "train"))

    assert not stale()
    os.replace(shutil.copy(original / "twelve.ckpt", tmp_path), folder / "pretrained.ckpt")
    assert not stale(), "DVC compares the path"
    pipeline = folder / "dvc.yaml"
    text = pipeline.read_text(encoding="utf-8")
    line = "      - stages/train.py\n"
    pipeline.write_text(text.replace(line, f"{line}      - pretrained.ckpt\n"), encoding="utf-8")
    run(folder, "dvc", "commit", "--force", "train")
    assert not stale()
    shutil.copy(original / "ten.ckpt", folder / "pretrained.ckpt")
    assert stale()
