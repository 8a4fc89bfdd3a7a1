"""All imported packages are required, and all required packages are locked to versions and hashes."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.workspaces import ROOT

OWN = {"alexnet", "benchmarks", "stages", "tests", "tools"}
OPTIONAL = {"torch"}
"""Packages that are only used for comparison, in a Python of their own."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(name: str) -> dict[str, str]:
    """Return the names in a file of requirements, and the rest of each line."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = (re.match(r"([\w.-]+)(.*)", line) for line in lines if not line.startswith("-"))
    return {normal(match[1]): match[2] for match in found if match}


def imported(*folders: str) -> set[str]:
    """Return the packages that the code in some folders imports, except for Python's own and ours."""
    found: set[str] = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).partition(".")[0])
    return found - OWN - OPTIONAL - set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("folders", "files"),
    [
        (("alexnet", "stages", "tools"), ("requirements.in",)),
        (("benchmarks", "tests"), ("requirements.in", "requirements-dev.in")),
    ],
)
def test_what_is_imported_is_required(folders: tuple[str, ...], files: tuple[str, ...]) -> None:
    names = {name for file in files for name in required(file)}
    providers = packages_distributions()
    for package in imported(*folders):
        if package == "google":  # a namespace
            package = "google.protobuf"
            assert "protobuf" in names
        else:
            assert {normal(name) for name in providers[package]} & names, package


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_the_lock_has_each_requirement_with_hashes(name: str) -> None:
    text = (ROOT / f"{name}.txt").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    assert all(re.match(r"[\w.-]+==\S+ ", block) and "--hash=sha256:" in block for block in blocks)
    assert "://" not in text
    assert "--index-url" not in text
    locked = required(f"{name}.txt")
    wanted = required(f"{name}.in") | (required("requirements.in") if name == "requirements-dev" else {})
    assert set(wanted) <= set(locked)
    for package, rest in wanted.items():
        if version := re.match(r"==([\w.]+)", rest):
            assert locked[package].startswith(f"=={version[1]} ")


def test_onednn_is_only_for_machines_that_its_wheel_is_for() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        rest = required(name)["onednn-cpu-gomp"]
        assert "platform_machine == 'x86_64'" in rest
        assert "sys_platform == 'linux'" in rest


def test_both_locks_have_the_same_versions() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^[\w.-]+==\S+", Path(ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))

    assert pins("requirements.txt") < pins("requirements-dev.txt")
