"""The tables that `make fuzz` and `make chaos` end with: of each attack, how often it was tried and what came of it."""

from collections import Counter

_COUNTS: dict[str, Counter[str]] = {}


def tally(attack: str, outcome: str) -> None:
    """Count one try of an attack; the outcome `bad` is one that must not be."""
    _COUNTS.setdefault(attack, Counter())[outcome] += 1


def lines() -> list[str]:
    """Return the lines of the table, or none if nothing was counted.

    Its columns are the attack, the number of tries, those of each outcome, and the bad ones.
    """
    if not _COUNTS:
        return []
    outcomes = list(dict.fromkeys(outcome for counts in _COUNTS.values() for outcome in counts if outcome != "bad"))
    columns = ["attack", "tried", *outcomes, "bad"]
    rows = [(attack, counts.total(), *(counts[name] for name in columns[2:])) for attack, counts in _COUNTS.items()]
    table = [columns, *rows, ("all", *map(sum, zip(*(row[1:] for row in rows), strict=True)))]
    width = max(len(str(row[0])) for row in table)
    return [
        f"{row[0]!s:<{width}}"
        + "".join(f"{cell!s:>{len(name) + 3}}" for cell, name in zip(row[1:], columns[1:], strict=True))
        for row in table
    ]
