"""The figure of experiments: test accuracy against the cost of training, beside the model zoo's own results."""

import json
from pathlib import Path
from typing import Any

from alexnet.report.charts import Trainings, accuracy_by_cost
from alexnet.report.page import ZOO, ZOO_PFLOP
from alexnet.runtime.errors import InputError
from alexnet.runtime.files import write_text
from tools import compare, seeds


def draw(commits: list[dict[str, Any]], path: Path) -> list[str]:
    """Draw what `dvc exp show --json` prints as an SVG file, and return the names that are in it.

    Raises InputError when nothing of it can be drawn.
    """
    drawn = trainings(commits)
    if not drawn:
        raise InputError(
            "there is nothing to draw: no experiment here has an accuracy on CIFAR-10 without mirror images"
        )
    zoo = Trainings("the model zoo's README", ZOO_PFLOP, [float(quoted.accuracy) for quoted in ZOO], quoted=True)
    write_text(path, accuracy_by_cost([*drawn, zoo]).decode())
    return [given.name for given in drawn]


def trainings(commits: list[dict[str, Any]]) -> list[Trainings]:
    """Return the accuracies and costs of the experiments. Those that differ only in the seed are put together.

    Left out are those that have not finished, those on generated images, and those that were evaluated with mirror
    images: their accuracies cannot be compared with the others.
    """
    found: dict[tuple[str, str, str], dict[int, float]] = {}
    costs: dict[tuple[str, str, str], float] = {}
    for commit in commits:
        for experiment in commit["experiments"] or []:
            data = experiment["revs"][0]["data"] or {}
            evaluation, train = compare.metrics(data, "eval"), compare.metrics(data, "train")
            if compare.state(experiment) or "accuracy" not in evaluation or "pflop" not in train:
                continue
            parameters = compare.parameters(data)
            if evaluation.get("generated") or parameters.get("evaluate.mirror"):
                continue
            name = compare.name_of(experiment)
            seed = parameters.pop("train.seed", 0)
            place = commit["rev"], seeds.recipe_of(name) or name, json.dumps(parameters)
            # `make recipe` and `make seeds` may both have run a recipe with the same seed. It counts once.
            found.setdefault(place, {}).setdefault(seed, evaluation["accuracy"])
            costs[place] = train["pflop"]
    return [Trainings(place[1], costs[place], list(accuracies.values())) for place, accuracies in found.items()]
