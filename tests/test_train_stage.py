"""How the stage uses its parameters and flags, without training, and where it writes."""

import inspect
import json
import re
import subprocess
from dataclasses import asdict, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mindspore as ms
import numpy as np
import pytest
import yaml

from alexnet import cifar10
from alexnet.kernels import onednn
from alexnet.kernels.choice import Kernels
from alexnet.model.checkpoint import InitialWeights
from alexnet.runtime import device
from alexnet.runtime.errors import InputError
from alexnet.runtime.stop import ParentWatch, StopRequest
from alexnet.training import loop
from alexnet.training.batches import Batches
from alexnet.training.dvclive_callback import DVCLiveCallback
from alexnet.training.progress import Progress
from alexnet.training.recipe import Recipe
from stages import params, train, train_outputs
from stages.__main__ import parse
from tests import archives
from tests.conftest import Run, needs_onednn, one_line
from tests.test_commands import files_of
from tests.workspaces import TINY, change, put_parameters

OTHER: dict[str, dict[str, Any]] = {
    "model": {
        "name": "alexnet",
        "num_classes": 11,
        "image_height": 68,
        "image_width": 70,
        "dropout_rate": 0.3,
        "batch_norm": False,
    },
    "train": {
        "device_target": "GPU",
        "threads": 7,
        "kernels": "auto",
        "amp_level": "auto",
        "seed": 5,
        "epoch_size": 3,
        "batch_size": 8,
        "validation_images": 20,
        "crop_padding": 3,
        "crop_padding_mode": "reflect",
        "flip": "random",
        "cutout_size": 12,
        "weight_init": "default",
        "whitening": True,
        "identity_init": True,
        "initial_weights": "a.ckpt",
        "learning_rate": 0.04,
        "lr_schedule": "step",
        "warmup_ratio": 0.1,
        "momentum": 0.8,
        "use_nesterov": True,
        "weight_decay": 0.002,
        "batch_norm_bias_lr_factor": 16,
        "label_smoothing": 0.2,
        "ema_decay": 0.5,
    },
    "run": {
        "dataset_sink_mode": "auto",
        "log_steps": 9,
        "save_checkpoint_steps": 4,
        "keep_checkpoint_max": 6,
        "keep_state": True,
    },
}


SHARED = (params.Train.model_fields.keys() & inspect.signature(Batches).parameters.keys()) - {"workers"}
"""The parameters of the section `train` that `Batches` takes as they are."""


def put_training_images(folder: Path) -> None:
    folder.mkdir()
    for name, content in archives.files().items():
        (folder / name).write_bytes(content)


class Reached(Exception):  # noqa: N818  # how far a test goes
    """Raised where the training would start."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, a folder with params.yaml and training images in `images`."""
    put_parameters(tmp_path)
    (tmp_path / "a.ckpt").touch()
    put_training_images(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """The arguments of the library's functions, by their names, until the training starts, on a pretended GPU."""
    calls: dict[str, dict[str, Any]] = {}

    def watch(module: Any, name: str, answer: Any) -> None:
        real = getattr(module, name)
        signature = inspect.signature(real)

        def call(*arguments: Any, **named: Any) -> Any:
            calls[name] = dict(signature.bind(*arguments, **named).arguments)
            return answer(real, *arguments, **named)

        monkeypatch.setattr(module, name, call)

    def reached(*_: Any, **__: Any) -> None:
        raise Reached

    watch(device, "select", lambda *_: ("GPU", 7))
    watch(train, "hold_out", lambda real, *arguments: real(*arguments))
    watch(train, "Batches", lambda real, *arguments, **named: real(*arguments, **named))
    watch(train, "create", lambda *_, **__: SimpleNamespace(dropout_shape=(2, 4096)))
    watch(train, "whiten", lambda *_: None)
    watch(train, "begin_with_identity", lambda *_: None)
    watch(train, "load_initial_weights", lambda _, __, path: InitialWeights(path, "0" * 32, []))
    watch(loop, "train", reached)
    return calls


def test_every_parameter_is_passed_on(
    folder: Path, calls: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "CURVE_POINTS", 10)
    change(folder, **OTHER)
    before = params.read()
    handled = {"device_target", "workers", "threads", "kernels", "amp_level", "validation_images", "initial_weights"}
    handled |= {"weight_init", "whitening", "identity_init"}
    used = handled | SHARED | {field.name for field in fields(Recipe)}
    assert used == params.Train.model_fields.keys(), "what is checked below"
    for section, values in OTHER.items():
        assert getattr(before, section).model_dump().keys() - values.keys() <= {"workers", "minimum_download_rate"}
    with pytest.raises(Reached):
        train.train(before, Path("images"), folder, StopRequest(), ParentWatch())
    model, config, run = OTHER["model"], OTHER["train"], OTHER["run"]
    assert calls["select"] == {"device_target": "GPU", "threads": 7, "workers": 1}
    assert {key: calls["hold_out"][key] for key in ("validation_images", "seed")} == {
        "validation_images": 20,
        "seed": 5,
    }
    batches = calls["Batches"]
    assert len(batches.pop("split")) == 80
    expected = {key: config[key] for key in SHARED} | {
        "dropout_rate": 0.3,
        "rank": 0,
        "workers": 1,
        "dropout_shape": (2, 4096),
    }
    assert batches == expected
    name, arguments = calls["create"]["name"], calls["create"]["arguments"]
    kernels = Kernels("mindspore", "O2")  # auto, on a GPU
    assert {"name": name} | arguments == model | {"weight_init": "default", "seed": 5, "kernels": kernels}
    asked = calls["train"]
    assert not {"whiten", "begin_with_identity"} & calls.keys(), "the initial weights are given"
    assert calls["load_initial_weights"] == {"network": asked["network"], "path": Path("a.ckpt")}
    assert asdict(asked["recipe"]) == {field.name: config[field.name] for field in fields(Recipe)}
    assert len(asked["validation"]) == 20
    assert asked["dataset_sink_mode"] is True, "auto, on a GPU"
    assert asked["save_checkpoint_steps"] == 4
    assert [type(callback) for callback in asked["callbacks"]] == [Progress, DVCLiveCallback]
    assert asked["callbacks"][0]._log_steps == run["log_steps"]
    steps = len(asked["batches"])
    assert (steps - 1) // asked["callbacks"][1]._log_steps < 10 < steps, "a curve has at most 10 points"
    assert asked["states"]._keep == run["keep_checkpoint_max"]


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        ({"run": {"dataset_sink_mode": False}}, "dataset_sink_mode", False),
        ({"run": {"save_checkpoint_steps": "epoch"}}, "save_checkpoint_steps", None),
        ({"train": {"validation_images": 0}}, "validation", None),
    ],
)
def test_other_values_are_passed_on_too(
    changes: dict[str, Any], key: str, value: object, folder: Path, calls: dict[str, dict[str, Any]]
) -> None:
    change(folder, **OTHER)
    change(folder, **changes)
    with pytest.raises(Reached):
        train.train(params.read(), Path("images"), folder, StopRequest(), ParentWatch())
    assert calls["train"][key] == value


@pytest.mark.parametrize("whitening", [False, True])
def test_whitening_uses_some_of_the_training_images(
    whitening: bool, folder: Path, calls: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "WHITENING_IMAGES", 30)
    change(folder, **OTHER)
    change(folder, train={"initial_weights": None, "whitening": whitening})
    with pytest.raises(Reached):
        train.train(params.read(), Path("images"), folder, StopRequest(), ParentWatch())
    assert ("whiten" in calls) == whitening
    if whitening:
        assert calls["whiten"]["network"] is calls["train"]["network"]
        np.testing.assert_array_equal(calls["whiten"]["images"], calls["Batches"]["split"].images[:30])


@pytest.mark.parametrize("identity_init", [False, True])
def test_the_identity_is_set_if_asked_for(identity_init: bool, folder: Path, calls: dict[str, dict[str, Any]]) -> None:
    change(folder, **OTHER)
    change(folder, train={"initial_weights": None, "identity_init": identity_init})
    with pytest.raises(Reached):
        train.train(params.read(), Path("images"), folder, StopRequest(), ParentWatch())
    assert ("begin_with_identity" in calls) == identity_init
    if identity_init:
        assert calls["begin_with_identity"]["network"] is calls["train"]["network"]


@pytest.mark.parametrize(
    ("kernels", "amp_level"), [("mindspore", "O2"), pytest.param("onednn", "O0", marks=needs_onednn)]
)
def test_kernels_and_precision_are_those_asked_for(
    kernels: str, amp_level: str, folder: Path, calls: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "select", lambda *_: ("CPU", 7))
    monkeypatch.setattr(onednn, "_threads", 1)  # the stage sets it for the whole process; this restores it
    change(folder, **OTHER)
    change(folder, train={"kernels": kernels, "amp_level": amp_level})
    with pytest.raises(Reached):
        train.train(params.read(), Path("images"), folder, StopRequest(), ParentWatch())
    assert calls["create"]["arguments"]["kernels"] == Kernels(kernels, amp_level)  # type: ignore[arg-type]
    assert onednn._threads == (7 if kernels == "onednn" else 1)


@pytest.mark.parametrize("value", [".", "models/..", "absolute"])
def test_the_flags_cannot_write_over_dvcs_outputs(value: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files_of(workspace)
    given = value if value != "absolute" else str(workspace)
    monkeypatch.chdir(workspace)
    with pytest.raises(InputError) as caught:
        train.main(parse(["train", "--ckpt_path", given])[1], StopRequest(), ParentWatch())
    one_line(caught, f"--ckpt_path is {given}, the folder of DVC's own outputs: give another, such as ckpt")
    assert files_of(workspace) == before


@pytest.mark.parametrize(("flag", "expected"), [("--ckpt_path", "elsewhere"), ("--image_width", "ckpt")])
def test_with_a_flag_dvcs_outputs_are_left_alone(flag: str, expected: str, workspace: Path, run: Run) -> None:
    put_training_images(workspace / "images")
    change(workspace, **TINY)
    keep = flag == "--image_width"
    change(workspace, train={"amp_level": "O0"}, run={"keep_state": keep})
    value = {"--ckpt_path": "elsewhere", "--image_width": "68"}[flag]
    before = files_of(workspace)
    result = run(
        "-m",
        "stages",
        "train",
        "--data_path",
        "images",
        "--epoch_size",
        "1",
        flag,
        value,
        GIT_CEILING_DIRECTORIES=str(workspace.parent),
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert re.match(
        r"training on CPU, 1 thread, kernels: \w+, amp_level: O0\nepoch: 1 step: 1, loss is ", result.stdout
    )
    timing = json.loads((workspace / expected / "metrics" / "timing.json").read_text(encoding="utf-8"))
    assert timing["amp_level"] == "O0"
    written = {name for name in files_of(workspace) - before if not name.startswith(".dvc/")}
    assert {name.partition("/")[0] for name in written} == {expected}
    assert bool(list(workspace.rglob("checkpoint_alexnet-*"))) == keep, "no state is left unless it is to be kept"
    assert f"{expected}/models/alexnet.ckpt" in written
    metrics = json.loads((workspace / expected / "metrics" / "train.json").read_text(encoding="utf-8"))
    assert metrics["epochs"] == 1
    timing = json.loads((workspace / expected / "metrics" / "timing.json").read_text(encoding="utf-8"))
    assert timing["commit"] == "unknown"
    assert timing["name"] == "unknown"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", timing["finished"])
    given = yaml.safe_load((workspace / "params.yaml").read_text(encoding="utf-8"))["train"]
    split = cifar10.read(workspace / "images", cifar10.TRAIN_FILES)
    batches = Batches(split, dropout_rate=0, **{name: given[name] for name in SHARED} | {"epoch_size": 1})
    shown = np.load(workspace / expected / "plots" / "augmented.npy")
    np.testing.assert_array_equal(shown, [batches.originals(0)[:12], batches[0].images[:12]])
    onednn_too = {"oneDNN": onednn.version()} if timing["kernels"] == "onednn" else {}
    assert timing["versions"] == {"MindSpore": ms.__version__, "NumPy": np.__version__} | onednn_too


def commit_code(folder: Path) -> str:
    """Commit the code of a folder that is not a repository yet; return the short name of the commit."""
    git = ["git", "-C", str(folder), "-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    for arguments in (["init", "-q"], ["add", "stages", "alexnet"], ["commit", "-qm", "code"]):
        subprocess.run([*git, *arguments], check=True)
    return subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_changes_of_code_since_the_commit_are_recorded(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(workspace.parent))
    assert train_outputs.commit() == "unknown"
    code = commit_code(workspace)
    change(workspace, train={"seed": 2})
    assert train_outputs.commit() == code
    with (workspace / "alexnet" / "model" / "network.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert train_outputs.commit() == f"{code}, with changes since"
