"""Run a command on experiments: `python -m tools recipe five-minutes`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from alexnet.runtime.errors import exit_on_failure


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what a command line says; its `command` is the function to call with the result."""
    from tools import compare, demo, recipes, seeds  # here, so that Ctrl-C while they load is told in one line

    parser = argparse.ArgumentParser(
        prog="python -m tools", description="Run whole experiments and compare them, in the repository's folder."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False)

    settings = argparse.ArgumentParser(add_help=False)
    settings.add_argument(
        "-S", "--set-param", action="append", default=[], metavar="SECTION.KEY=VALUE", help="overrides a recipe's value"
    )
    recipe = argparse.ArgumentParser(add_help=False)
    recipe.add_argument("recipe", metavar="NAME", nargs="?", default="", help=", ".join(recipes.names()))

    add("demo", "train on pictures drawn here").set_defaults(command=lambda _: demo.main())

    one = commands.add_parser("recipe", parents=[recipe, settings], help="run a recipe as an experiment")
    one.add_argument("--name", default=None, help="the experiment's name; by default, the recipe's")
    one.set_defaults(command=lambda given: recipes.main(given.recipe, given.set_param, given.name))

    several = commands.add_parser("seeds", parents=[recipe, settings], help="run a recipe once for each seed")
    several.add_argument("--seeds", type=int, nargs="+", required=True, metavar="SEED")
    several.add_argument("--format", choices=get_args(seeds.Format), default="text", help="of what is printed")
    several.set_defaults(command=lambda given: seeds.main(given.recipe, given.seeds, given.set_param, given.format))

    table = add("compare", "show the experiments: accuracy, cost and the parameters that differ")
    table.add_argument("-A", "--all-commits", action="store_true", help="also those of older commits")
    table.add_argument("names", nargs="*", metavar="NAME", help="only these experiments, or recipes run by seeds")
    table.add_argument("--figure", type=Path, metavar="PATH", help="also draw accuracy against cost, as an SVG file")
    table.set_defaults(command=lambda given: compare.main(given.all_commits, given.names, given.figure))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Run the command that the arguments name. A failure ends the process, see `exit_on_failure`."""
    with exit_on_failure():
        given = parse(arguments)
        given.command(given)


if __name__ == "__main__":
    main(sys.argv[1:])
