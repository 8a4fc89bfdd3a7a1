"""The commands in README.md, its Chinese version and docs/."""

import re
from pathlib import Path

from tests.workspaces import ROOT

README = ROOT / "README.md"
CHINESE = ROOT / "README.zh.md"
DOCUMENTS = (README, CHINESE, *sorted((ROOT / "docs").glob("*.md")))

BLOCK = re.compile(r"(<!-- needs: [^\n]+ -->\n)?```sh\n(.*?)```", re.DOTALL)
"""Commands; those that need hardware which the tests do not have say so in a comment before them."""


def commands(text: str) -> list[tuple[str, bool]]:
    """Return a document's lines of shell without their comments, and whether they need other hardware."""
    return [
        (re.sub(r"\s+#.*", "", line).strip(), bool(needs))
        for needs, block in BLOCK.findall(text)
        for line in block.replace("\\\n", " ").splitlines()
    ]


def inline_commands(text: str) -> list[str]:
    """Return the commands that stand in a line of text or in a table."""
    found = re.findall(r"`((?:dvc exp run|make|python -m (?!stages\.)|dvc repro)\b[^`…]*)`", text)
    return [" ".join(command.split()) for command in found]


def section(heading: str, path: Path = README) -> str:
    """Return a section of a document, its subsections included."""
    (text,) = re.findall(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return text
