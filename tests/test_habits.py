"""The files for developers agree with the Makefile and with the code."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import workspaces
from tests.workspaces import ROOT, run

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ADDITIONS = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^##)", CONTRIBUTING, re.MULTILINE | re.DOTALL))
"""The sections of CONTRIBUTING.md that say where to add what, by their headings."""


def recipe(target: str) -> list[str]:
    """Return the commands of a target of the Makefile."""
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
    lines = {name: " ".join(step.get("run", "") for step in job["steps"]) for name, job in jobs.items()}
    assert {name: re.findall(r"make (\w+)", line) for name, line in lines.items()} == {
        "test": ["test"],
        "demo": ["demo"],
    }
    for target in ("test", "demo"):
        assert recipe(target)
    assert "GITHUB_STEP_SUMMARY" in lines["demo"]
    assert "python${{ matrix.python }}" in lines["test"]


def commands(*arguments: str) -> list[str]:
    """Return the commands that make would run for a target if `.venv` is up to date."""
    stamps = ("--old-file=.venv/run.stamp", "--old-file=.venv/dev.stamp")
    return run(ROOT, "make", "--dry-run", "--no-print-directory", *stamps, *arguments).splitlines()


def words(*arguments: str) -> str:
    """Return the one command that make would run, with single spaces."""
    (command,) = commands(*arguments)
    return " ".join(command.split())


def test_the_makefiles_targets_pass_on_their_variables() -> None:
    assert commands("demo") == ["python -m tools demo"]
    assert commands("repro") == ["dvc repro"]
    assert commands("bench") == ["python -m benchmarks"]
    settings = "SET=data.urls=[/a.tar.gz] data.md5=null"
    given = "-S 'data.urls=[/a.tar.gz]' -S 'data.md5=null'"
    assert words("recipe", "NAME=zoo") == "python -m tools recipe 'zoo'"
    assert words("recipe") == "python -m tools recipe ''"
    assert words("recipe", "NAME=zoo", settings) == f"python -m tools recipe 'zoo' {given}"
    assert words("seeds", "NAME=hour", "SEEDS=1 2 3") == "python -m tools seeds 'hour' --format 'text' --seeds 1 2 3"
    assert (
        words("seeds", "NAME=hour", "SEEDS=4", "FORMAT=json", settings)
        == f"python -m tools seeds 'hour' {given} --format 'json' --seeds 4"
    )
    assert words("compare") == "python -m tools compare"
    assert words("compare", "ALL=1") == "python -m tools compare --all-commits"
    assert words("compare", "NAME=hour zoo", "FIGURE=a.svg") == "python -m tools compare --figure 'a.svg' hour zoo"


def test_variables_of_the_environment_are_not_those_of_the_makefile(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NAME", "SEEDS", "SET", "ALL", "FIGURE", "FORMAT"):
        monkeypatch.setenv(name, "mine")
    assert words("compare") == "python -m tools compare"
    assert words("recipe") == "python -m tools recipe ''"
    assert words("seeds") == "python -m tools seeds '' --format 'text' --seeds"


def test_the_long_tests_get_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MINUTES", "KILLS", "SEED"):
        monkeypatch.setenv(name, "of another program")
    names = ("FUZZ_MINUTES", "CHAOS_KILLS", "CHAOS_SEED")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    shutil.copy(ROOT / "Makefile", tmp_path)
    program = tmp_path / ".venv" / "bin" / "pytest"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho {' '.join(f'{name}=${name}' for name in names)}\n", encoding="utf-8")
    program.chmod(0o755)
    for arguments, expected in (
        (("fuzz",), "FUZZ_MINUTES=20 CHAOS_KILLS= CHAOS_SEED="),
        (("fuzz", "MINUTES=3"), "FUZZ_MINUTES=3 CHAOS_KILLS= CHAOS_SEED="),
        (("chaos",), "FUZZ_MINUTES= CHAOS_KILLS=100 CHAOS_SEED="),
        (("chaos", "KILLS=7", "SEED=5"), "FUZZ_MINUTES= CHAOS_KILLS=7 CHAOS_SEED=5"),
    ):
        assert run(tmp_path, "make", "--silent", "--old-file=.venv/dev.stamp", *arguments) == f"{expected}\n"


@pytest.mark.parametrize("uv", [True, False])
def test_setup_makes_only_the_virtual_environment(uv: bool, tmp_path: Path) -> None:
    """Python, pip and uv are replaced by scripts that record how they were called."""
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "echo", "touch", "mkdir", "cp"):
        (programs / name).symlink_to(str(shutil.which(name)))
    written = {"python3": 'mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo >> .venv/pyvenv.cfg; echo "$0 $@" >> log'}
    written |= {"uv": 'echo "uv $@" >> log'} if uv else {}
    for name, line in written.items():
        (programs / name).write_text(f"#!{shutil.which('sh')}\n{line}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    environment = {"PATH": str(programs)}
    for _ in range(2):  # the second time there is nothing to do
        result = subprocess.run(
            [str(shutil.which("make")), "setup"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
    assert 'export PATH="$PWD/.venv/bin:$PATH"' in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"Makefile", "requirements.txt", "programs", ".venv", "log"}
    installed = [line for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines() if "requirement" in line]
    assert len(installed) == 1
    assert installed[0].startswith("uv pip install") == uv
    assert installed[0].endswith("--require-hashes --requirement requirements.txt")


def test_a_virtual_environment_that_was_not_finished_is_made_again(tmp_path: Path) -> None:
    """`python -m venv` may fail after it has written pyvenv.cfg, for instance where ensurepip is missing."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ntest "$2" != venv || { mkdir -p .venv; echo >> .venv/pyvenv.cfg; exit 1; }\n')
    python.chmod(0o755)
    command = ["make", f"PYTHON={python}", ".venv/pyvenv.cfg"]
    for _ in range(2):
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 2
        assert not (tmp_path / ".venv" / "pyvenv.cfg").exists()


@pytest.mark.parametrize(("version", "accepted"), [("3, 9", False), ("3, 10", True), ("3, 12", True), ("3, 13", False)])
def test_the_makefile_refuses_other_versions_of_python(version: str, accepted: bool, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    program = f"import sys; sys.version_info = ({version}); exec(sys.argv[1])"
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\ntest \"$1\" = -m || exec '{sys.executable}' -c '{program}' \"$2\"\n", encoding="utf-8"
    )
    python.chmod(0o755)
    command = ["make", f"PYTHON={python}", ".venv/pyvenv.cfg"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == accepted
    assert ("3.10 to 3.12 needed: make PYTHON=python3.12" in done.stderr) != accepted


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


@pytest.mark.parametrize("thing", ADDITIONS)
def test_the_files_and_names_of_an_addition_exist(thing: str) -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in named(ADDITIONS[thing]))
    for word in re.findall(r"`([A-Za-z_]+)`", ADDITIONS[thing]):
        assert re.search(rf"\b{word}\b", code), word


def test_the_package_can_be_renamed(tmp_path: Path) -> None:
    """The commands in CONTRIBUTING.md leave nothing in the code that depends on the old name."""
    folder = workspaces.repository(tmp_path / "project")
    (commands,) = re.findall(r"## To rename the package\n.*?```sh\n(.*?)```", CONTRIBUTING, re.DOTALL)
    run(folder, "bash", "-c", commands)
    for stage in ("download", "verify", "train"):
        output = run(folder, "python", "-m", "stages", stage)
    assert output.startswith("training on CPU"), "the library's log is shown"
    (identity,) = (folder / ".dvc" / "tmp" / "mynet").glob("*/identity.json")
    assert "mynet.training.loop" in json.loads(identity.read_text(encoding="utf-8"))["code"]
    timing = json.loads((folder / "metrics" / "timing.json").read_text(encoding="utf-8"))
    assert timing["commit"].endswith(", with changes since")
    assert "mynet predict" in run(folder, "python", "-m", "mynet", "predict", "--help")
    run(folder, "ruff", "check", ".")
    run(folder, "ruff", "format", "--check", ".")
    for page in (folder / "docs").glob("*.md"):
        for target in re.findall(r"\]\((\.\./[^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def named(text: str) -> list[Path]:
    """Return the files that a text names, and assert that they are there."""
    found = [ROOT / name for name in re.findall(r"`([\w./]+\.\w+)`", text) if name != "stages/NAME.py"]
    assert found
    for path in found:
        assert path.is_file(), path
    return found


def test_there_is_a_section_for_each_kind_of_thing() -> None:
    for thing in ("augmentation", "schedule", "metric", "network", "stage", "parameter", "chart"):
        assert any(thing in heading for heading in ADDITIONS), thing


def test_the_diagram_has_every_stage_and_folder() -> None:
    (picture,) = re.findall(r"```mermaid\n(.*?)```", CONTRIBUTING, re.DOTALL)
    (stages,) = re.findall(r'subgraph stages\["stages/: one script a stage"\]\n(.*?)\n  end', picture, re.DOTALL)
    for stage in load("dvc.yaml")["stages"]:
        assert re.search(rf"\b{stage}\b", stages)
    for folder in (ROOT / "alexnet").iterdir():
        if (folder / "__init__.py").exists():
            assert f'"{folder.name}/"' in picture
