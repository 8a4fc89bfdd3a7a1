"""The demo: the whole pipeline on generated images."""

import sys
from pathlib import Path

from tools import experiments, recipes

NAME = "demo"


def main() -> None:
    """Run the recipe `demo`, print its result, and say what to type next.

    Raises InputError and SystemExit as `experiments.run` does.
    """
    experiment = experiments.run(NAME, recipes.load(NAME))
    page = experiments.take_report(experiment)
    python = Path(sys.executable)
    shown = str(python.relative_to(Path.cwd())) if python.is_relative_to(Path.cwd()) else "python"
    print(f"\n{experiments.summary(experiment, page)}\n")
    print(f"Next, on generated images: {shown} -m tools recipe demo --name demo-low-rate -S train.learning_rate=0.005")
    print("For CIFAR-10, a download of 170 MB: make recipe NAME=five-minutes")
