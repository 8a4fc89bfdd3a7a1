"""The files of recipes/: their values are valid, and those of zoo.yaml are the model zoo's."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from alexnet.model.alexnet_layers import training_pflop
from alexnet.runtime.errors import InputError
from stages import params
from tests.conftest import one_line
from tests.workspaces import ROOT, change, put_parameters, run
from tools import recipes

NAMES = ["demo", "five-minutes", "hour", "quarter-of-an-hour", "zoo"]


def values(name: str) -> dict[str, dict[str, Any]]:
    """Return the content of a recipe's file."""
    return yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")) or {}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    put_parameters(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe_of(folder: Path, name: str) -> params.Params:
    """Return all parameters of a recipe."""
    put_parameters(folder)
    change(folder, **values(name))
    return params.read()


def test_the_names_of_the_recipes() -> None:
    assert recipes.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_has_only_values_that_are_allowed(name: str, folder: Path) -> None:
    config = recipe_of(folder, name).model_dump()
    for section, changes in values(name).items():
        for key, value in changes.items():
            assert config[section][key] == value


def test_the_sizes_of_the_short_recipes(folder: Path) -> None:
    found = {}
    for name in ("five-minutes", "quarter-of-an-hour", "hour"):
        config = recipe_of(folder, name)
        found[name] = (config.model.image_height, config.model.image_width, config.train.epoch_size)
    assert found == {"five-minutes": (67, 67, 5), "quarter-of-an-hour": (99, 99, 8), "hour": (147, 147, 16)}


def test_the_zoos_recipe_is_the_one_that_the_zoo_publishes(folder: Path) -> None:
    config = recipe_of(folder, "zoo")
    model, train = config.model, config.train
    assert (model.image_height, model.image_width, model.num_classes) == (227, 227, 10)
    assert (train.epoch_size, train.batch_size) == (30, 32)
    steps = 50_000 // train.batch_size
    assert steps == 1562
    assert (train.learning_rate, train.lr_schedule, train.warmup_ratio) == (0.002, "step", 0)
    assert (train.momentum, train.use_nesterov) == (0.9, False)
    assert (model.dropout_rate, model.batch_norm) == (0, False)
    assert (train.crop_padding, train.crop_padding_mode) == (4, "constant")
    assert (train.flip, train.cutout_size) == ("random", 0)
    assert (train.weight_init, train.whitening, train.identity_init) == ("TruncatedNormal", False, False)
    assert not any((train.weight_decay, train.label_smoothing, train.ema_decay))
    assert train.batch_norm_bias_lr_factor == 1
    images = train.epoch_size * steps * train.batch_size
    assert training_pflop(10, model.image_height, model.image_width, images) == pytest.approx(9.9, abs=0.05)


@pytest.mark.skipif((ROOT / "dvc.lock").exists(), reason="params.yaml has the values of the results in this folder")
def test_the_hour_is_the_default(folder: Path) -> None:
    shutil.copy(ROOT / "params.yaml", folder)
    default = params.read()
    assert recipe_of(folder, "hour") == default


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_does_not_depend_on_what_params_yaml_holds(name: str) -> None:
    """`dvc exp apply` leaves the values of one recipe in params.yaml, and then another one is run."""
    machine = {"device_target", "workers", "threads", "kernels", "amp_level"}
    free = machine | {"seed", "num_classes"}
    for section in (params.Model, params.Train):
        assert set(values(name)[section.__name__.lower()]) == set(section.model_fields) - free


def test_the_arguments_of_dvc() -> None:
    assert recipes.load("five-minutes")[:2] == ['model.name="alexnet"', "model.image_height=67"]
    assert recipes.load("demo")[0] == 'data.urls=["generated"]'


def test_a_value_may_have_any_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    (tmp_path / "mine.yaml").write_text("train:\n  initial_weights: 模型.ckpt\n", encoding="utf-8")
    assert recipes.load("mine") == ['train.initial_weights="模型.ckpt"']


@pytest.mark.parametrize(
    "content", ["", "train:\n  # nothing\n", "- train\n", "train: [1", "train:\n  seed: 2026-01-01\n", b"\xff"]
)
def test_a_file_that_is_no_recipe_is_one_line(
    content: str | bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    (tmp_path / "mine.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        recipes.load("mine")
    one_line(caught, f"the recipe {tmp_path / 'mine.yaml'} cannot be read", "expected sections of values in YAML")


@pytest.mark.parametrize(("arguments", "found"), [((), "no recipe is given"), (("week",), "there is no recipe week")])
@pytest.mark.parametrize("command", [("recipe",), ("seeds", "--seeds", "1", "--")])
def test_an_unknown_recipe_is_one_line(command: tuple[str, ...], arguments: tuple[str, ...], found: str) -> None:
    output = run(ROOT, "python", "-m", "tools", *command, *arguments, code=2)
    assert output == f"ERROR: {found}, expected one of {', '.join(NAMES)}\n"


@pytest.mark.parametrize("command", [("recipe", "demo", "--na", "mine"), ("seeds", "demo", "--seed", "1")])
def test_an_abbreviated_flag_is_refused(command: tuple[str, ...]) -> None:
    assert ": error: " in run(ROOT, "python", "-m", "tools", *command, code=2)


def test_without_git_one_line_says_what_is_missing(tmp_path: Path) -> None:
    for name in ("alexnet", "recipes", "stages", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for command in (("demo",), ("recipe", "hour"), ("seeds", "hour", "--seeds", "1"), ("compare",)):
        output = run(tmp_path, "python", "-m", "tools", *command, code=2)
        assert output.count("\n") == 1
        assert output.startswith("ERROR: this folder's dvc.yaml is not in a git commit")
        assert "`git init && git add . && git commit -m start`" in output
