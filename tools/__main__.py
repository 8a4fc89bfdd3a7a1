"""Run whole experiments and compare them, as in `python -m tools recipe five-minutes`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from alexnet.runtime.errors import exit_on_failure


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the arguments of a command line. Their `command` is the function to call with them."""
    from tools import compare, demo, recipes, seeds  # here, so that Ctrl-C while they load gives one line

    parser = argparse.ArgumentParser(
        prog="python -m tools", description="Run whole experiments and compare them, in the repository's folder."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, parents=parents, help=text, description=text, allow_abbrev=False)

    settings = argparse.ArgumentParser(add_help=False)
    settings.add_argument(
        "-S", "--set-param", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a parameter"
    )
    recipe = argparse.ArgumentParser(add_help=False)
    recipe.add_argument("recipe", metavar="NAME", nargs="?", default="", help=", ".join(recipes.names()))

    add("demo", "run the whole pipeline on generated images").set_defaults(command=lambda _: demo.main())

    run = add("recipe", "run a recipe as an experiment", recipe, settings)
    run.add_argument("--name", default=None, help="name of the experiment (default: that of the recipe)")
    run.set_defaults(command=lambda options: recipes.main(options.recipe, options.set_param, options.name))

    repeat = add("seeds", "run a recipe once for each seed", recipe, settings)
    repeat.add_argument("--seeds", type=int, nargs="+", required=True, metavar="SEED", help="the seeds")
    repeat.add_argument("--format", choices=get_args(seeds.Format), default="text", help="output format (%(default)s)")
    repeat.set_defaults(
        command=lambda options: seeds.main(options.recipe, options.seeds, options.set_param, options.format)
    )

    table = add("compare", "show the experiments: accuracy, cost and the parameters that differ")
    table.add_argument("-A", "--all-commits", action="store_true", help="show those of older commits too")
    table.add_argument("names", nargs="*", metavar="NAME", help="only these experiments, or recipes run by seeds")
    table.add_argument("--figure", type=Path, metavar="PATH", help="also draw accuracy against cost, as an SVG file")
    table.set_defaults(command=lambda options: compare.main(options.all_commits, options.names, options.figure))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Run the command that the arguments name. A failure ends the process, see `exit_on_failure`."""
    with exit_on_failure():
        options = parse(arguments)
        options.command(options)


if __name__ == "__main__":
    main(sys.argv[1:])
