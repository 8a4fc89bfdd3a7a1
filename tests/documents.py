"""The commands in README.md, its Chinese version and docs/."""

import re
from pathlib import Path

from tests.workspaces import ROOT

README = ROOT / "README.md"
CHINESE = ROOT / "README.zh.md"
DOCUMENTS = (README, CHINESE, *sorted((ROOT / "docs").glob("*.md")))

BLOCK = re.compile(r"(<!-- needs: [^\n]+ -->\n)?```sh\n(.*?)```", re.DOTALL)
"""A block of commands. If it needs hardware that the tests do not have, a comment before it says so."""


def commands(text: str) -> list[tuple[str, bool]]:
    """Return the lines of shell in a document without their comments, and whether they need other hardware."""
    return [
        (re.sub(r"\s+#.*", "", line).strip(), bool(needs))
        for needs, block in BLOCK.findall(text)
        for line in block.replace("\\\n", " ").splitlines()
    ]


def inline_commands(text: str) -> list[str]:
    """Return the commands in the text and the tables of a document."""
    found = re.findall(r"`((?:dvc exp run|make|python -m (?!stages\.)|dvc repro)\b[^`…]*)`", text)
    return [" ".join(command.split()) for command in found]


def section(heading: str, path: Path = README) -> str:
    """Return a section of a document, including its subsections."""
    (text,) = re.findall(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return text
