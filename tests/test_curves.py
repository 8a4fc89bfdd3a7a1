from pathlib import Path

import pytest

from alexnet.report.curves import read_curve
from alexnet.runtime.errors import InputError
from tests.conftest import one_line


def write(folder: Path, content: str) -> Path:
    path = folder / "train" / "loss.tsv"
    path.parent.mkdir()
    path.write_text(content, encoding="utf-8")
    return path


def test_a_curve_of_dvclive_is_read(tmp_path: Path) -> None:
    write(tmp_path, "step\tloss\n10\t2.5\n20\t1e-05\n")
    curve = read_curve(tmp_path, "train/loss")
    assert (curve.steps.tolist(), curve.values.tolist()) == ([10, 20], [2.5, 1e-5])


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    write(tmp_path, "timestamp\tstep\tloss\n1700000000000\t3\t0.5\n")
    curve = read_curve(tmp_path, "train/loss")
    assert (curve.steps.tolist(), curve.values.tolist()) == ([3], [0.5])


@pytest.mark.parametrize("content", ["step\taccuracy\n1\t2\n", "step\tloss\n1\tmuch\n", "step\tloss\n1\n"])
def test_another_table_is_refused(content: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_curve(tmp_path, "train/loss")
    one_line(caught, str(path), "expected a table with the columns step and loss")


@pytest.mark.parametrize("content", ["", "step\tloss\n", "step\tloss\n1\tnan\n", "step\tloss\n1\tinf\n"])
def test_a_curve_without_points_or_with_nan_is_refused(content: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_curve(tmp_path, "train/loss")
    one_line(caught, str(path), "train again")


def test_a_missing_curve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_curve(tmp_path, "learning_rate")
    one_line(caught, str(tmp_path / "learning_rate.tsv"), "train first")
