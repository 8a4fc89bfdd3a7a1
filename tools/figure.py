"""The figure of experiments: test accuracy against the cost of training, beside the model zoo's own results."""

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
    """Return the accuracies and costs of the experiments, those of a recipe with several seeds together.

    Left out are those that have not finished, those on drawn pictures, and those that were evaluated with mirror
    images: their accuracies cannot be compared with the others.
    """
    found: dict[tuple[str, str, float], list[float]] = {}
    for commit in commits:
        for experiment in commit["experiments"] or []:
            newest = experiment["revs"][0]
            data = newest["data"] or {}
            evaluation, train = compare.metrics(data, "eval"), compare.metrics(data, "train")
            if "accuracy" not in evaluation or "pflop" not in train:
                continue
            if evaluation.get("generated") or compare.parameters(data).get("evaluate.mirror"):
                continue
            name = newest["name"] or newest["rev"][:7]
            place = commit["rev"], seeds.recipe_of(name) or name, train["pflop"]
            found.setdefault(place, []).append(evaluation["accuracy"])
    return [Trainings(name, pflop, accuracies) for (_, name, pflop), accuracies in found.items()]
