import errno
import os
from pathlib import Path

import pytest

from alexnet.runtime.errors import exit_on_failure
from alexnet.runtime.files import replacing, write_text


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_the_error_of_a_full_disk_names_the_file(code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "models" / "a.ckpt"
    with pytest.raises(SystemExit) as caught, exit_on_failure(), replacing(path):
        raise OSError(code, os.strerror(code))
    assert caught.value.code == 1
    assert capsys.readouterr().err == f"ERROR: {os.strerror(code)}: {path}\n"
    assert list(path.parent.iterdir()) == []


def test_other_errors_are_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError) as caught, replacing(tmp_path / "a"):
        raise ConnectionError("no file has to do with it")
    assert caught.value.filename is None


@pytest.mark.parametrize(("words", "told"), [("Unable to allocate 9 TiB", "9 TiB"), ("", "a smaller batch_size")])
def test_too_little_memory_is_told_in_one_line(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, exit_on_failure():
        raise MemoryError(*[words] * bool(words))
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ERROR: there is too little memory: ")
    assert told in line


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page").write_text("kept", encoding="utf-8")
    with pytest.raises(IsADirectoryError) as caught:
        write_text(tmp_path / "docs", "new")
    assert str(tmp_path / "docs") in (caught.value.filename, caught.value.filename2)
    assert (tmp_path / "docs" / "page").read_text(encoding="utf-8") == "kept"
    assert list(tmp_path.iterdir()) == [tmp_path / "docs"]
