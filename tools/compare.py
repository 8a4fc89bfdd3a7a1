"""The table of experiments: accuracy, cost and the parameters that differ, in 80 columns."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from alexnet.runtime.errors import InputError
from alexnet.runtime.urls import masked
from tools import experiments, seeds

WIDTH = 80
"""The number of columns of the table, which are those of a standard terminal."""


def main(all_commits: bool, names: Sequence[str] = (), figure: Path | None = None) -> None:
    """Print the experiments of HEAD, or of all commits, including those in the queue; draw the finished ones.

    Args:
        all_commits: whether to take the experiments of all commits.
        names: the experiments to take, from all commits, or recipes, which stand for all experiments that `seeds` has
            run with them. Without names, all are taken.
        figure: the SVG file to draw, or None.

    Raises InputError when `figure` is not the name of an SVG file or there is nothing to draw, when a name is unknown,
    or when DVC or git refuses.
    """
    if figure and (figure.suffix != ".svg" or figure.is_dir()):
        raise InputError(f"cannot draw to {figure}, expected the name of an SVG file, such as accuracy.svg")
    experiments.check_repository()
    all_commits = all_commits or bool(names)
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", *(["--all-commits"] if all_commits else [])]
    shown = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if shown.returncode:
        raise InputError(f"dvc exp show failed: {shown.stderr.strip()}")
    commits = chosen(json.loads(shown.stdout), names)
    # The width does not depend on the terminal, so that a file gets the same table.
    result = table(commits)
    if result.row_count:
        console = Console(width=WIDTH, highlight=False)
        with console.capture() as printed:
            console.print(result)
        print("\n".join(line.rstrip() for line in printed.get().splitlines()))
    else:
        place = "" if all_commits else " on this commit"
        print(f"there is no experiment{place} yet: make recipe NAME=five-minutes runs one")
    if not all_commits and (hidden := count_older()):
        print(f"{hidden} more experiment{'s' if hidden != 1 else ''} on older commits: make compare ALL=1")
    if figure:
        from tools.figure import draw  # here, because the table does without Matplotlib, which takes a second to load

        drawn = draw(commits, figure)
        print(f"{figure}: accuracy against cost of {', '.join(drawn)}")


def chosen(commits: list[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the named experiments of what `dvc exp show --json` prints; without names, everything that it prints.

    Raises InputError when a name is neither that of an experiment nor that of a recipe that `seeds` has run.
    """
    if not names:
        return commits
    found: set[str] = set()
    kept = []
    for commit in commits:
        below = []
        for experiment in commit["experiments"] or []:
            name = name_of(experiment)
            if both := {name, seeds.recipe_of(name) or name} & set(names):
                found |= both
                below.append(experiment)
        if below:
            kept.append(commit | {"experiments": below})
    if missing := set(names) - found:
        raise InputError(
            f"there is no experiment {', '.join(sorted(missing))}; `make compare ALL=1` shows all there are"
        )
    return kept


def table(commits: list[dict[str, Any]]) -> Table:
    """Return a table of the commits and experiments that `dvc exp show --json` prints."""
    result = Table(box=None, pad_edge=False, header_style="bold")
    result.add_column("experiment", overflow="fold", max_width=26)
    result.add_column("accuracy", justify="right", no_wrap=True)
    result.add_column("PFLOP", justify="right", no_wrap=True)
    result.add_column("parameters that differ from the commit's", overflow="fold")
    for cells in rows(commits):
        result.add_row(*map(Text, cells))
    return result


def rows(commits: list[dict[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the cells of each row: each commit that has metrics or experiments, followed by its experiments."""
    for commit in commits:
        if commit["rev"] == "workspace":
            continue
        base, commit_experiments = commit["data"] or {}, commit["experiments"] or []
        if not commit_experiments and not metric(base, "eval", "accuracy"):
            continue
        name = f"{commit['name']} " if commit["name"] else ""
        yield f"{name}({commit['rev'][:7]})", metric(base, "eval", "accuracy"), metric(base, "train", "pflop"), ""
        for experiment in commit_experiments:
            data = experiment["revs"][0]["data"] or {}
            accuracy = metric(data, "eval", "accuracy")
            unfinished = state(experiment) or ("" if accuracy else "no metrics")
            yield (
                f"  {name_of(experiment)}",
                unfinished or accuracy,
                "" if unfinished else metric(data, "train", "pflop"),
                ", ".join(differences(parameters(base), parameters(data))),
            )


def name_of(experiment: dict[str, Any]) -> str:
    """Return the name of an experiment, or the first digits of its commit if it has none."""
    newest = experiment["revs"][0]
    return str(newest["name"] or newest["rev"][:7])


def state(experiment: dict[str, Any]) -> str:
    """Return `queued`, `running` or `failed`, or an empty text for an experiment that has finished.

    DVC shows one that has not finished with the metrics of the commit from which it starts.
    """
    name = str((experiment.get("executor") or {}).get("state", "")).lower()
    return "" if name == "success" else name


def metrics(data: dict[str, Any], file: str) -> dict[str, Any]:
    """Return a file of metrics of a revision, empty where it has none."""
    values: dict[str, Any] = data.get("metrics", {}).get(f"metrics/{file}.json", {}).get("data", {})
    return values


def metric(data: dict[str, Any], file: str, name: str) -> str:
    """Return a metric of a revision as the table shows it, or an empty text if the revision does not have it."""
    value = metrics(data, file).get(name)
    return "" if value is None else f"{value:.3g}" if name == "pflop" else f"{value:.4f}"


def parameters(data: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a revision, by `section.key`; a value outside any section has only its own name."""
    values: dict[str, Any] = {}
    for section, content in (data.get("params", {}).get("params.yaml", {}).get("data") or {}).items():
        if isinstance(content, dict):
            values |= {f"{section}.{key}": value for key, value in content.items()}
        else:  # `dvc exp run -S +KEY=VALUE` writes one, and the stages refuse it
            values[section] = content
    return values


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the changed parameters as `dvc exp run -S` takes them, without secrets in URLs."""

    def shown(value: Any) -> Any:
        if isinstance(value, list):
            return [shown(entry) for entry in value]
        return masked(value) if isinstance(value, str) else value

    return [f"{name}={json.dumps(shown(value))}" for name, value in after.items() if before.get(name) != value]


def count_older() -> int:
    """Return how many experiments start from other commits than HEAD, of those that `--all-commits` shows."""
    older = set(experiments.git("rev-list", "HEAD", "--branches", "--tags", "--remotes").split())
    older.discard(experiments.git("rev-parse", "HEAD"))
    commits = re.findall(
        rf"^{experiments.REFERENCES}/([0-9a-f]{{2}})/([0-9a-f]{{38}})/.+$",
        experiments.git("for-each-ref", "--format=%(refname)", experiments.REFERENCES),
        re.MULTILINE,
    )
    return sum("".join(parts) in older for parts in commits)
