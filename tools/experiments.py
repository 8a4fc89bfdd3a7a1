"""Running DVC experiments, and reading their results."""

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

from filelock import FileLock, Timeout
from ruamel.yaml import YAML

from alexnet.runtime.errors import InputError
from alexnet.runtime.files import replacing
from alexnet.runtime.urls import masked
from stages import params, paths

REFERENCES = "refs/exps"
"""Where git keeps the commits of DVC's experiments.

The path below it is: the first two digits of the commit they start from, its other digits, the experiment's name."""


@dataclass(frozen=True)
class Experiment:
    """A finished experiment.

    name: its name in DVC.
    commit: its commit in git.
    train: the content of metrics/train.json.
    evaluation: the content of metrics/eval.json.
    timing: the content of metrics/timing.json.
    data: the content of metrics/data.json.
    """

    name: str
    commit: str
    train: dict[str, Any]
    evaluation: dict[str, Any]
    timing: dict[str, Any]
    data: dict[str, Any]

    @property
    def minutes(self) -> float:
        """How long the training took, in minutes."""
        return float(self.timing["train_seconds"]) / 60


def run(name: str, settings: Sequence[str]) -> Experiment:
    """Run the pipeline as an experiment, in a copy of the workspace.

    The experiment starts from HEAD and the uncommitted changes of files that git tracks. An experiment of the same name
    on HEAD is replaced once this one succeeds. Until then it is called NAME.replaced, also if this process is killed.
    The output of the stages goes to standard output.

    Args:
        name: the name of the experiment.
        settings: the values of parameters, as `dvc exp run -S` takes them. If there are several for one parameter, the
            last one is used.

    Raises:
        InputError: there is no commit to start from, git does not know the author of a new commit, git does not track a
            file of the code, a value is not allowed, or another process is running an experiment of this name.
        SystemExit: the experiment failed, and DVC or the stage has printed why. The exit code is DVC's.
        OSError: the lock file of the experiment cannot be created.
    """
    check_repository()
    code_files = (f"{paths.LIBRARY}/*.py", f"{paths.LIBRARY}/*.j2", "stages/*.py")  # also in their subfolders
    if untracked := git("-c", "core.quotePath=false", "ls-files", "--others", "--exclude-standard", "--", *code_files):
        file = untracked.splitlines()[0]
        raise InputError(f"git does not track {file}, so an experiment would not have it: type `git add {file}` first")
    config = read_parameters(settings)  # before DVC starts, which takes a while
    if config.train.initial_weights:
        paths.initial_weights(config.train.initial_weights)
    reference, replaced = reference_of(name), reference_of(f"{name}.replaced")
    with only_run(name):
        rename(reference, replaced)  # because DVC refuses a name that is taken
        print(f"Experiment {name}: DVC copies this folder and works in the copy; the files here stay as they are.\n")
        try:
            code = dvc("exp", "run", "--temp", "--name", name, *(part for text in settings for part in ("-S", text)))
        finally:
            if git("rev-parse", "--quiet", "--verify", reference):
                git("update-ref", "-d", replaced)
            else:
                rename(replaced, reference)
        if code:
            sys.exit(code)
        return read(reference)  # HEAD may be another commit by now


@contextmanager
def only_run(name: str) -> Iterator[None]:
    """Keep other processes from running an experiment of this name. Raises InputError when one does already."""
    file = paths.states() / f"experiment-{name.replace('/', '-')}.lock"  # DVC refuses a name with a slash later
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(file).acquire(timeout=0)
    except Timeout:
        raise InputError(f"another process is running the experiment {name}: wait until it has ended") from None
    with held:
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def rename(old: str, new: str) -> None:
    """Rename a git reference, if it exists. If git cannot, nothing changes."""
    if commit := git("rev-parse", "--quiet", "--verify", old):
        git("update-ref", "--stdin", given=f"update {new} {commit}\ndelete {old}\n")


def parsed(settings: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return the values of settings, as YAML texts by section and key. Raises InputError when one has another form."""
    values = {}
    for text in settings:
        place, equals, value = text.partition("=")
        section, _, key = place.partition(".")
        if not equals or not key or section not in params.Params.model_fields:
            expected = f"expected SECTION.KEY=VALUE with a section of {', '.join(params.Params.model_fields)}"
            raise InputError(f"{masked(text)} is not a setting, {expected}")
        values[section, key] = value
    return values


def read_parameters(settings: Sequence[str]) -> params.Params:
    """Return the workspace's parameters, changed by settings. Raises InputError when a value is not allowed."""
    return params.read(parsed(settings), override="{section}.{key}")


def is_current(name: str, settings: Sequence[str]) -> bool:
    """Return whether an experiment on HEAD has the workspace's code, and its parameters changed by these settings.

    Raises InputError when a value is not allowed.
    """
    values = read_parameters(settings).model_dump()
    reference = reference_of(name)
    stored = git("show", f"{reference}:./{params.PATH}")
    if not stored or git("diff", "--name-only", reference, "--", paths.LIBRARY, "stages", "dvc.yaml", "versions.txt"):
        return False
    return bool(YAML(typ="safe").load(stored) == values)


def check_repository() -> None:
    """Raise InputError unless an experiment can start from HEAD."""
    try:
        refusal = _run_git("rev-parse").stderr
        if "safe.directory" in refusal:  # git says in the user's language why, and which command allows it
            raise InputError(f"git refuses to read this folder: {refusal}")
        if not git("rev-parse", "--quiet", "--verify", "HEAD:./dvc.yaml"):
            raise InputError(
                "this folder's dvc.yaml is not in a git commit, and an experiment starts from a commit: clone the "
                "repository, or make a commit here with `git init && git add . && git commit -m start`"
            )
        if not git("var", "GIT_COMMITTER_IDENT"):
            raise InputError(
                "git does not know who you are, and an experiment is a commit: run "
                "`git config user.name NAME && git config user.email ADDRESS`"
            )
    except FileNotFoundError:
        raise InputError("git is not installed, and experiments are stored in git: install it") from None


def git(*arguments: str, given: str = "") -> str:
    """Return the output of a git command, or an empty text if it fails. `given` is its standard input."""
    result = _run_git(*arguments, given=given)
    return result.stdout.strip() if result.returncode == 0 else ""


def _run_git(*arguments: str, given: str = "") -> "subprocess.CompletedProcess[str]":
    # Names of files need not be UTF-8.
    return subprocess.run(
        ["git", *arguments], input=given, capture_output=True, encoding="utf-8", errors="surrogateescape", check=False
    )


def reference_of(name: str) -> str:
    """Return the git reference of an experiment on HEAD."""
    head = git("rev-parse", "HEAD")
    return f"{REFERENCES}/{head[:2]}/{head[2:]}/{name}"


def dvc(*arguments: str) -> int:
    """Run a command of DVC in this process, so that Ctrl-C works as it does under DVC, and return its exit code.

    It differs from the command line of DVC 3.67 in these things:

    - The configuration of the copied workspace is written in UTF-8. DVC writes ASCII, and fails if the path of the
      cache has other letters.
    - DVC names the stages, but says nothing of outputs that do not exist yet, of lock files, and of how to apply the
      experiment.
    - The failure of a stage is reported once, not twice.
    """
    import configobj
    from dvc.cli import main
    from dvc.repo.experiments.executor import local
    from dvc.ui import ui

    local.ConfigObj = functools.partial(configobj.ConfigObj, encoding="utf-8")
    for name in ("dvc_data.index.checkout", "dvc_data.hashfile.checkout", "dvc.dvcfile"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("dvc.repo.experiments.executor.base").setLevel(logging.CRITICAL)
    ui.enable = lambda: None
    # DVC runs the stages with the first `python` on PATH, which must be this one.
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    print(end="", flush=True)  # there is no sys.stdout if the shell closed it
    code: int = main(list(arguments))
    print(end="", flush=True)
    return code


@contextmanager
def output_to_stderr() -> Iterator[None]:
    """Redirect the standard output of the body, and of the processes that it starts, to standard error."""
    print(end="", flush=True)
    stdout = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        print(end="", flush=True)
        os.dup2(stdout, 1)
        os.close(stdout)


def read(reference: str) -> Experiment:
    """Return the results of the experiment with this git reference. Raises InputError when there is none."""
    files = (paths.TRAIN_METRICS, paths.EVAL_METRICS, paths.TIMING, paths.DATA_REPORT)
    name, commit = reference.rpartition("/")[2], git("rev-parse", "--quiet", "--verify", reference)
    texts = [git("show", f"{commit}:./{file}") for file in files]
    if not commit or not all(texts):
        raise InputError(f"there is no experiment {name} with metrics on this commit; `make compare` lists them")
    return Experiment(name, commit, *map(json.loads, texts))


def take_report(experiment: Experiment) -> Path:
    """Copy the report of an experiment from DVC's cache to report-NAME; return its page's absolute path."""
    from dvc.api import DVCFileSystem

    folder = Path(f"report-{experiment.name}")
    with replacing(folder) as new:
        DVCFileSystem(rev=experiment.commit).get(str(paths.REPORT), str(new), recursive=True)
    return (folder / "index.html").resolve()


def summary(experiment: Experiment, page: Path) -> str:
    """Return a table with the data, the accuracy and the cost of an experiment."""
    train, data = experiment.train, experiment.data
    source = "generated images" if data["generated"] else "images"
    epochs = f"{train['epochs']} epoch{'s' if train['epochs'] != 1 else ''}"
    evaluation = experiment.evaluation
    rows = {
        "trained on": f"{train['images']:,} {source} of {len(data['train']['per_class'])} classes, {epochs}",
        "test accuracy": f"{evaluation['accuracy']:.4f} on {evaluation['images']:,} other {source}",
        "minutes": f"{experiment.minutes:.1f} of training",
        "images/s": f"{experiment.timing['images_per_second']:,.0f} in training",
        "report": str(page),
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())
