"""Run a stage of the pipeline, such as `python -m stages train`, or the tool `states`.

Signal handlers are installed before the stage is imported, because MindSpore takes seconds to import and starts
threads.
"""

import argparse
import ast
import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

from alexnet.runtime.errors import InputError, exit_on_failure
from alexnet.runtime.stop import ParentWatch, StopRequest
from stages import paths, zoo_flags

STAGES = ("download", "verify", "train", "evaluate", "report", "export")
"""The stages of dvc.yaml, in their order."""

TOOLS = ("states",)
"""The modules that are run by hand and are not stages of dvc.yaml."""


def main(arguments: Sequence[str]) -> None:
    """Run the stage or tool that the arguments name. A failure ends the process, see `exit_on_failure`."""
    request, parent = StopRequest(), ParentWatch()
    request.listen()
    parent.start(when_gone=request.ask)
    with exit_on_failure():
        stage, flags = parse(arguments)
        if stage in STAGES:  # a wrong value is reported before MindSpore is imported, which takes seconds
            importlib.import_module("stages.params").read(getattr(flags, "overrides", {}))
    module = importlib.import_module(f"stages.{stage}")
    if stage == "train":  # it handles the request itself: it saves its state first
        run(partial(module.main, flags, request, parent))
    elif vars(flags):
        run(partial(module.main, flags), request)
    else:  # a stage without flags
        run(module.main, request)


def parse(arguments: Sequence[str]) -> tuple[str, argparse.Namespace]:
    """Return the name of the stage or tool, and its flags. Raises InputError when there is no such stage or tool."""
    descriptions = {name: description(name) for name in STAGES + TOOLS}
    summaries = {name: text.partition("\n")[0].removeprefix(f"Stage {name}: ") for name, text in descriptions.items()}
    parser = argparse.ArgumentParser(
        prog="python -m stages",
        description="Run one stage of the pipeline in the repository's folder.",
        epilog="\n\n".join(
            f"{title}:\n" + "\n".join(f"  {name:<10}{summaries[name]}" for name in group)
            for title, group in (("stages", STAGES), ("tools", TOOLS))
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stage", nargs="?", help="one of those below; `python -m stages STAGE --help` explains it")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the arguments of the stage")
    command = parser.parse_args(arguments)
    stage = command.stage
    if stage not in STAGES + TOOLS:
        problem = f"there is no stage {stage}" if stage else "no stage is given"
        raise InputError(f"{problem}, expected one of {', '.join(STAGES + TOOLS)}; see python -m stages --help")

    stage_parser = argparse.ArgumentParser(
        prog=f"python -m stages {stage}", description=descriptions[stage], allow_abbrev=False
    )
    if stage in zoo_flags.PATHS:
        return stage, zoo_flags.parse(stage_parser, stage, command.arguments)
    if stage == "states":
        stage_parser.add_argument(
            "--clear", action="store_true", help="remove everything that no running training uses"
        )
    return stage, stage_parser.parse_args(command.arguments)


def description(stage: str) -> str:
    """Return the docstring of a stage's module without importing it."""
    return ast.get_docstring(ast.parse(Path(__file__).with_name(f"{stage}.py").read_bytes())) or ""


def run(stage: Callable[[], None], request: StopRequest | None = None) -> None:
    """Run a stage. Its log goes to standard output, and a failure is reported in one line, see `exit_on_failure`.

    If a request is given, a signal interrupts the stage.
    """
    handler = logging.StreamHandler(sys.stdout)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger(paths.LIBRARY).setLevel(logging.INFO)
    logging.raiseExceptions = False  # if nobody reads standard output any more, the stage goes on without a log
    # Its warning of a malformed header has the URL, with any password in it, and text from the server.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    interruptions = request.raising() if request else nullcontext()
    with exit_on_failure(), interruptions, logging_redirect_tqdm():  # which prints log lines above a progress bar
        stage()


if __name__ == "__main__":
    main(sys.argv[1:])
