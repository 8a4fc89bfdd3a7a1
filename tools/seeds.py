"""Running one recipe with several seeds, to see how much of a result is chance."""

import json
import re
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Literal

from tools import experiments, recipes
from tools.experiments import Experiment

Format = Literal["text", "markdown", "json"]

METRICS: dict[str, Callable[[Experiment], float]] = {
    "test_accuracy": lambda experiment: experiment.evaluation["accuracy"],
    "test_loss": lambda experiment: experiment.evaluation["loss"],
    "train_accuracy": lambda experiment: experiment.train["train_accuracy"],
    "minutes": lambda experiment: experiment.minutes,
}
"""The metrics of each experiment. The loss is in nats; the minutes are those of the training alone."""


def main(recipe: str, seeds: Sequence[int], overrides: Sequence[str], format: Format) -> None:
    """Run a recipe once for each seed, as experiments RECIPE-seed-SEED, and print means and standard deviations.

    An experiment that was run before with the same parameters and code is not run again. The output of the stages goes
    to standard error.

    Raises InputError when there is no such recipe, and InputError and SystemExit as `experiments.run` does.
    """
    settings = [*recipes.load(recipe), *overrides]
    finished = {}
    with experiments.output_to_stderr():
        experiments.check_repository()
        settings_of = {seed: [*settings, f"train.seed={seed}"] for seed in seeds}
        for seed_settings in settings_of.values():  # a wrong seed is refused before the first is run
            experiments.read_parameters(seed_settings)
        for seed, seed_settings in settings_of.items():
            name = experiment_name(recipe, seed)
            if experiments.is_current(name, seed_settings):
                finished[seed] = experiments.read(experiments.reference_of(name))
            else:
                finished[seed] = experiments.run(name, seed_settings)
    values = {name: [metric(finished[seed]) for seed in finished] for name, metric in METRICS.items()}
    print(render(recipe, list(finished), values, format))


def experiment_name(recipe: str, seed: int) -> str:
    """Return the name of the experiment that runs a recipe with a seed."""
    return f"{recipe}-seed-{seed}"


def recipe_of(experiment: str) -> str | None:
    """Return the recipe of an experiment named RECIPE-seed-SEED, and None for any other name."""
    found = re.fullmatch(r"(.+)-seed-\d+", experiment)
    return found[1] if found else None


def summarize(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean, the sample standard deviation (None for a single value) and the values themselves."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "standard_deviation": deviation, "values": list(values)}


def render(recipe: str, seeds: Sequence[int], values: dict[str, list[float]], format: Format) -> str:
    """Return a table with a row for each metric, or a JSON object.

    `values` has the values of each metric by its name, in the order of `seeds`.
    """
    summaries = {name: summarize(metric_values) for name, metric_values in values.items()}
    if format == "json":
        return json.dumps({"recipe": recipe, "seeds": list(seeds), "metrics": summaries}, indent=2)
    header = [recipe, "mean", "standard deviation", *(f"seed {seed}" for seed in seeds)]
    rows = [header]
    for name, summary in summaries.items():
        numbers = (summary["mean"], summary["standard_deviation"], *summary["values"])
        digits = 1 if name == "minutes" else 4
        rows.append(
            [name.replace("_", " "), *("-" if number is None else f"{number:.{digits}f}" for number in numbers)]
        )
    if format == "markdown":
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join((lines[0], f"|{' --- |' * len(header)}", *lines[1:]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if column == 0 else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
