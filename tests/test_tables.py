from collections import Counter

import pytest

from tests import tables


def test_the_table_counts_each_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_COUNTS", dict[str, Counter[str]]())
    assert tables.lines() == []
    for attack, outcome in (("one", "refused"), ("one", "answered"), ("another", "bad"), ("one", "refused")):
        tables.tally(attack, outcome)
    assert tables.lines() == [
        "attack    tried   refused   answered   bad",
        "one           3         2          1     0",
        "another       1         0          0     1",
        "all           4         2          1     1",
    ]
