"""Experiments of DVC: how they are run, what they measured, and the report that they leave."""

import functools
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from alexnet.runtime.errors import InputError
from alexnet.runtime.files import replacing
from stages import params, paths

REFERENCES = "refs/exps"
"""Where git keeps the commits of DVC's experiments: below this, HEAD's first two digits, the others, the name."""


@dataclass(frozen=True)
class Experiment:
    """A finished experiment.

    name: as `dvc exp` knows it.
    train, evaluation, timing, data: the contents of its files in metrics/.
    """

    name: str
    train: dict[str, Any]
    evaluation: dict[str, Any]
    timing: dict[str, Any]
    data: dict[str, Any]

    @property
    def minutes(self) -> float:
        """The time that its training took."""
        return float(self.timing["train_seconds"]) / 60


def run(name: str, settings: Sequence[str]) -> Experiment:
    """Run the pipeline as an experiment on top of HEAD and of what has changed since, in a copy of the workspace.

    An experiment of that name on the same commit is replaced when this one succeeds. What the stages print goes to
    standard output.

    Args:
        name: the experiment's.
        settings: values of parameters as `dvc exp run -S` takes them; of several for one parameter the last holds.

    Raises:
        InputError: there is no commit to start from, or no author for the experiment's commit.
        SystemExit: with DVC's exit code when the experiment fails; DVC and the stage have said why.
    """
    check_repository()
    reference = reference_of(name)
    before = git("rev-parse", "--quiet", "--verify", reference)
    if before:
        git("update-ref", "-d", reference)
    print(f"Experiment {name}, in a copy of this folder, which stays as it is:\n")
    try:
        code = dvc("exp", "run", "--temp", "--name", name, *(part for text in settings for part in ("-S", text)))
    finally:
        if before and not git("rev-parse", "--quiet", "--verify", reference):
            git("update-ref", reference, before)
    if code:
        sys.exit(code)
    return read(name)


def is_current(name: str, settings: Sequence[str]) -> bool:
    """Return whether an experiment on HEAD has the code of the workspace, and its parameters with these settings."""
    check_repository()
    reference = reference_of(name)
    stored = git("show", f"{reference}:./{params.PATH}")
    if not stored or git("diff", "--name-only", reference, "--", "alexnet", "stages", "dvc.yaml", "versions.txt"):
        return False
    yaml = YAML(typ="safe")
    values = yaml.load(params.PATH)
    for text in settings:
        place, _, value = text.partition("=")
        section, _, key = place.partition(".")
        values.setdefault(section, {})[key] = yaml.load(value)
    return bool(yaml.load(stored) == values)


def check_repository() -> None:
    """Raise InputError unless an experiment can start from HEAD."""
    try:
        if not git("rev-parse", "--quiet", "--verify", "HEAD:./dvc.yaml"):
            raise InputError(
                "no git commit has this folder's dvc.yaml, and an experiment starts from a commit: clone the "
                "repository, or make one here with `git init && git add . && git commit -m start`"
            )
        if not git("var", "GIT_COMMITTER_IDENT"):
            raise InputError(
                "git does not know who you are, and an experiment is a commit: "
                "`git config user.name NAME && git config user.email ADDRESS`"
            )
    except FileNotFoundError:
        raise InputError("git is not installed, and experiments are kept in git") from None


def git(*arguments: str) -> str:
    """Return what a git command prints, and nothing when it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, encoding="utf-8", check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def reference_of(name: str) -> str:
    """Return the git reference of an experiment on HEAD."""
    head = git("rev-parse", "HEAD")
    return f"{REFERENCES}/{head[:2]}/{head[2:]}/{name}"


def dvc(*arguments: str) -> int:
    """Run a command of DVC and return its exit code; in this process, so that Ctrl-C does what it does under DVC.

    Two things differ from DVC 3.67's own command. It writes the copy's configuration in UTF-8: DVC writes it in ASCII,
    which fails where the path of its cache has other letters. And it names only the stages and what they print: it does
    not warn of each output that has not been made yet, as all have not before the first run, nor speak of lock files,
    nor tell how to apply the experiment.
    """
    import configobj
    from dvc.cli import main
    from dvc.repo.experiments.executor import local
    from dvc.ui import ui

    local.ConfigObj = functools.partial(configobj.ConfigObj, encoding="utf-8")
    for name in ("dvc_data.index.checkout", "dvc_data.hashfile.checkout", "dvc.dvcfile"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ui.enable = lambda: None
    # Stages are run with the `python` found on PATH: this one.
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    sys.stdout.flush()
    code: int = main(list(arguments))
    sys.stdout.flush()
    return code


@contextmanager
def output_to_stderr() -> Iterator[None]:
    """Send what the body and the processes that it starts print on standard output to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def read(name: str) -> Experiment:
    """Return what an experiment on HEAD measured. Raises InputError when there is none of that name."""
    files = (paths.TRAIN_METRICS, paths.EVAL_METRICS, paths.TIMING, paths.DATA_REPORT)
    texts = [git("show", f"{reference_of(name)}:./{file}") for file in files]
    if not all(texts):
        raise InputError(f"there is no experiment {name} with metrics on this commit; `make compare` lists them")
    return Experiment(name, *map(json.loads, texts))


def take_report(name: str) -> Path:
    """Copy the report of an experiment on HEAD from DVC's cache to report-NAME; return its page's absolute path."""
    from dvc.api import DVCFileSystem

    folder = Path(f"report-{name}")
    with replacing(folder) as new:
        DVCFileSystem(rev=git("rev-parse", reference_of(name))).get(str(paths.REPORT), str(new), recursive=True)
    return (folder / "index.html").resolve()


def summary(experiment: Experiment, page: Path) -> str:
    """Return a table of what an experiment was trained on, what it came to and what it cost."""
    train, data = experiment.train, experiment.data
    source = "drawn pictures" if data["generated"] else "images"
    epochs = f"{train['epochs']} epoch{'s' if train['epochs'] != 1 else ''}"
    evaluation = experiment.evaluation
    rows = {
        "trained on": f"{data['train']['images']:,} {source} of {len(data['train']['per_class'])} classes, {epochs}",
        "test accuracy": f"{evaluation['accuracy']:.3f} on {evaluation['images']:,} other {source}",
        "minutes": f"{experiment.minutes:.1f} of training",
        "images/s": f"{experiment.timing['images_per_second']:,.0f} in training",
        "report": str(page),
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())
