"""All imported packages are required, and all required packages are locked to versions and hashes."""

import ast
import re
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

from alexnet.kernels import onednn
from tests.workspaces import ROOT

OWN = {"alexnet", "benchmarks", "stages", "tests", "tools"}
OPTIONAL = {"onnxruntime", "torch"}
"""`predict` says how to install ONNX Runtime. PyTorch is only used for comparison, in a Python of its own."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(name: str) -> dict[str, str]:
    """Return the names in a file of requirements and in those that it includes, and the rest of each line."""
    found: dict[str, str] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if included := re.match(r"-r (\S+)", line):
            found |= required(included[1])
        elif match := re.match(r"(\w[\w.-]*)(.*)", line):
            found[normal(match[1])] = match[2]
    return found


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
        (("benchmarks", "tests"), ("requirements-dev.in",)),
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
    wanted = required(f"{name}.in")
    assert set(wanted) <= set(locked)
    for package, rest in wanted.items():
        if version := re.match(r"==([\w.]+)", rest):
            assert locked[package].startswith(f"=={version[1]} ")


def test_onednn_is_only_for_machines_that_its_wheel_is_for() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        rest = required(name)["onednn-cpu-gomp"]
        assert "platform_machine == 'x86_64'" in rest
        assert "sys_platform == 'linux'" in rest


def test_the_versions_that_decide_a_result_stand_in_one_file_and_are_installed() -> None:
    decisive = required("versions.txt")
    assert set(decisive) == {"mindspore", "numpy", onednn.DISTRIBUTION}
    for name, rest in decisive.items():
        (wanted,) = re.findall(r"^==([\w.]+)", rest)
        assert required("requirements.txt")[name].startswith(f"=={wanted} ")
        if name != onednn.DISTRIBUTION or onednn.available():
            assert version(name) == wanted
        for file in ("requirements.in", "requirements-dev.in"):
            assert not re.search(rf"^{name}\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_both_locks_have_the_same_versions() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^[\w.-]+==\S+", Path(ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))

    assert pins("requirements.txt") < pins("requirements-dev.txt")
