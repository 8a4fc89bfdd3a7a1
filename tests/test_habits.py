"""The files for people who work on the project agree with the Makefile and with the code."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workspaces import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", CONTRIBUTING, re.MULTILINE)[2:])


def recipe(target: str) -> list[str]:
    """Return the commands of one of the Makefile's targets."""
    (lines,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    return [line.strip() for line in lines.splitlines()]


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_pre_commit_runs_the_lint_of_make_test() -> None:
    hooks = [hook for repo in load(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert [hook["entry"].removeprefix(".venv/bin/") for hook in hooks] == recipe("test")[:-1]
    assert all(hook["language"] == "system" for hook in hooks), "the versions are those of .venv"


def test_the_workflow_runs_the_makefiles_targets() -> None:
    jobs = load(".github/workflows/ci.yaml")["jobs"]
    commands = {name: " ".join(step.get("run", "") for step in job["steps"]) for name, job in jobs.items()}
    assert {name: re.findall(r"make (\w+)", command) for name, command in commands.items()} == {
        "test": ["test"],
        "demo": ["demo"],
    }
    for target in ("test", "demo"):
        assert recipe(target)
    assert "GITHUB_STEP_SUMMARY" in commands["demo"]
    assert "python${{ matrix.python }}" in commands["test"]


def test_the_python_versions_are_those_of_the_makefile() -> None:
    (first, last) = re.findall(r"\(3, (\d+)\) <= v <= \(3, (\d+)\)", MAKEFILE)[0]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">=3.{first},<3.{int(last) + 1}"' in project
    versions = load(".github/workflows/ci.yaml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert versions == [f"3.{first}", f"3.{last}"]
    assert (ROOT / ".python-version").read_text(encoding="utf-8") == f"3.{last}\n"


def test_the_container_ends_with_the_setup() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert container["postCreateCommand"] == "make setup"


@pytest.mark.parametrize("row", ROWS)
def test_what_a_row_names_is_there(row: str) -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in named(ROWS[row]) if path.is_file())
    for word in re.findall(r"`([A-Za-z_]+)`", ROWS[row]):
        assert re.search(rf"\b{word}\b", code), word


def named(text: str) -> list[Path]:
    """Return the files that a text names, and assert that they are there."""
    paths = [name for name in re.findall(r"`([\w./]+\.\w+)`", text) if name != "stages/NAME.py"]
    found = [ROOT / ("alexnet/report/page.html.j2" if name == "page.html.j2" else name) for name in paths]
    assert found
    for path in found:
        assert path.is_file(), path
    return found


def test_there_is_a_row_for_each_kind_of_thing() -> None:
    for thing in ("augmentation", "schedule", "metric", "network", "stage", "parameter", "chart"):
        assert any(thing in row for row in ROWS), thing


def test_the_picture_has_every_stage_and_room() -> None:
    (picture,) = re.findall(r"```mermaid\n(.*?)```", CONTRIBUTING, re.DOTALL)
    for stage in load("dvc.yaml")["stages"]:
        assert re.search(rf"\b{stage}\b", picture)
    for room in (ROOT / "alexnet").iterdir():
        if (room / "__init__.py").exists():
            assert f'"{room.name}/"' in picture
