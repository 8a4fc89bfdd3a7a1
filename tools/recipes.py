"""Recipes: files with parameters that replace those in params.yaml. Each one is run as an experiment."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from alexnet.runtime.errors import InputError
from tools import experiments

FOLDER = Path(__file__).parents[1] / "recipes"


def main(recipe: str, overrides: Sequence[str], name: str | None = None) -> None:
    """Run a recipe as an experiment and print its result. The name of the experiment is the recipe's by default.

    Raises InputError when there is no such recipe, and InputError and SystemExit as `experiments.run` does.
    """
    settings = [*load(recipe), *overrides]
    experiment = experiments.run(name or recipe, settings)
    page = experiments.take_report(experiment)
    print(f"\n{experiments.summary(experiment, page)}")
    print(f"To get its model and metrics into the workspace: dvc exp apply {experiment.name}")


def names() -> list[str]:
    """Return the names of all recipes."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def load(name: str) -> list[str]:
    """Return the values of a recipe as `dvc exp run -S` takes them.

    Raises InputError when there is no such recipe, or its file is not sections of values in YAML.
    """
    if name not in names():
        problem = f"there is no recipe {name}" if name else "no recipe is given"
        raise InputError(f"{problem}, expected one of {', '.join(names())}")
    file = FOLDER / f"{name}.yaml"
    try:
        values: dict[str, dict[str, Any]] = YAML(typ="safe").load(file)
        return [
            f"{section}.{key}={json.dumps(value, ensure_ascii=False)}"
            for section, changes in values.items()
            for key, value in changes.items()
        ]
    except (YAMLError, ValueError, AttributeError, TypeError):
        raise InputError(
            f"the recipe {file} cannot be read: expected sections of values in YAML, as in params.yaml"
        ) from None
