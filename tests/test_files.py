import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

from alexnet.runtime import files
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


@pytest.mark.parametrize("killed", [True, False])
def test_a_folder_comes_back_when_its_replacement_is_interrupted(
    killed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report"
    path.mkdir()
    (path / "page").write_text("old", encoding="utf-8")
    rename = os.replace

    def interrupted(source: Path, target: Path) -> None:
        if source.name == path.name and target == path:  # the old folder has been moved by now
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        if killed:  # by kill -9, after which nothing is tidied up
            patch.setattr(files, "_bring_back", lambda *_: None)
            patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt), replacing(path) as new:
            new.mkdir()
    assert path.exists() != killed
    with pytest.raises(ZeroDivisionError), replacing(path):
        raise ZeroDivisionError
    assert (path / "page").read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_is_one_line_where_the_shell_closed_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as caught, exit_on_failure():
        raise PermissionError(errno.EACCES, "Permission denied", "a")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "ERROR: Permission denied: a\n"


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page").write_text("kept", encoding="utf-8")
    with pytest.raises(IsADirectoryError) as caught:
        write_text(tmp_path / "docs", "new")
    assert str(tmp_path / "docs") in (caught.value.filename, caught.value.filename2)
    assert (tmp_path / "docs" / "page").read_text(encoding="utf-8") == "kept"
    assert list(tmp_path.iterdir()) == [tmp_path / "docs"]
