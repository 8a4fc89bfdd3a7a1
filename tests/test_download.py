import hashlib
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from alexnet import cifar10
from alexnet.archive import download as library
from alexnet.archive.download import download
from alexnet.archive.verify import verify
from alexnet.runtime.errors import InputError
from tests.conftest import one_line

GOOD, OTHER = b"the archive" * 9000, b"another archive" * 9000
MD5 = hashlib.md5(GOOD, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    # /good, /other, /cut (ends before its length), /once (fails the first time), /page?x=good; 404 for all else.

    server: "_Server"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        first = self.server.asked.count(self.path) == 1
        content = {"/good": GOOD, "/other": OTHER, "/cut": GOOD, "/once": GOOD, "/page?x=good": GOOD}.get(self.path)
        if content is None or (self.path == "/once" and first):
            self.send_error(404 if content is None else 503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:1000] if self.path == "/cut" else content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server() -> Iterator[_Server]:
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def closed() -> str:
    """The address of a port nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/archive.tar.gz"


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every address is tried once, so that no test waits for a second try."""
    monkeypatch.setattr(library, "RETRIES", 0)


Get = Callable[..., Path]


@pytest.fixture
def get(tmp_path: Path) -> Get:
    """Download from addresses to data/archive.tar.gz; paths start at the folder `root`."""

    def start(*urls: str, md5: str | None = MD5, images: tuple[int, int] = (50, 10)) -> Path:
        path = tmp_path / "data" / "archive.tar.gz"
        download(urls, path, md5, *images, tmp_path / "root")
        return path

    return start


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder that paths start at, with the archive at sub/good.tar.gz and another at other.tar.gz."""
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "good.tar.gz").write_bytes(GOOD)
    (folder / "a b.tar.gz").write_bytes(GOOD)
    (folder / "other.tar.gz").write_bytes(OTHER)
    return folder


def is_whole(path: Path, content: bytes = GOOD) -> bool:
    """Whether the file is this, and alone in its folder."""
    return path.read_bytes() == content and list(path.parent.iterdir()) == [path]


def test_an_archive_from_a_server(server: _Server, get: Get) -> None:
    assert is_whole(get(f"{server.url}/good"))
    assert server.asked == ["/good"]


def test_an_address_with_a_query(server: _Server, get: Get) -> None:
    assert is_whole(get(f"{server.url}/page?x=good"))


@pytest.mark.parametrize("present", [GOOD, OTHER, b""])
@pytest.mark.parametrize("md5", [MD5, None])
def test_what_stood_there_is_replaced(
    present: bytes, md5: str | None, server: _Server, get: Get, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "archive.tar.gz").write_bytes(present)
    assert is_whole(get(f"{server.url}/good", md5=md5))


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("first", ["other", "none", "cut"])
def test_the_next_address_is_tried(first: str, server: _Server, get: Get) -> None:
    assert is_whole(get(f"{server.url}/{first}", f"{server.url}/good", f"{server.url}/not-asked"))
    assert server.asked == [f"/{first}", "/good"]


@pytest.mark.usefixtures("once")
def test_the_next_address_is_tried_when_nobody_listens(closed: str, server: _Server, get: Get) -> None:
    assert is_whole(get(closed, f"{server.url}/good"))


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(
    "bad", ["http://", "http://[", "http://127.0.0.1:99999/a", "file://", "~nobody-of-that-name/a", "a\0b"]
)
def test_the_next_place_is_tried_after_one_that_is_none(bad: str, root: Path, get: Get) -> None:
    assert root.is_dir()
    assert is_whole(get(bad, "sub/good.tar.gz"))


def test_a_server_that_fails_once_is_asked_again(server: _Server, get: Get) -> None:
    assert is_whole(get(f"{server.url}/once"))
    assert server.asked == ["/once", "/once"]


@pytest.mark.parametrize("relative", ["sub/good.tar.gz", "./sub/../sub/good.tar.gz"])
def test_a_relative_path_starts_at_the_root(
    relative: str, root: Path, get: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "sub").mkdir(parents=True)
    (elsewhere / "sub" / "good.tar.gz").write_bytes(OTHER)
    monkeypatch.chdir(elsewhere)
    assert root.is_dir()
    assert is_whole(get(relative, md5=None))


def test_an_absolute_path(root: Path, get: Get) -> None:
    assert is_whole(get(str(root / "sub" / "good.tar.gz")))
    assert (root / "sub" / "good.tar.gz").read_bytes() == GOOD


def test_a_path_in_the_home_folder(root: Path, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root / "sub"))
    assert is_whole(get("~/good.tar.gz"))


def test_a_file_address(root: Path, get: Get) -> None:
    assert is_whole(get((root / "a b.tar.gz").as_uri()))
    (root / "a b.tar.gz").rename(root / "a%20b.tar.gz")
    assert is_whole(get((root / "a%20b.tar.gz").as_uri()))


def test_a_path_of_another_md5_is_passed_over(root: Path, get: Get) -> None:
    assert root.is_dir()
    assert is_whole(get("other.tar.gz", "sub", "none.tar.gz", "sub/good.tar.gz"))


def test_any_archive_will_do_without_an_md5(server: _Server, root: Path, get: Get) -> None:
    assert root.is_dir()
    assert is_whole(get(f"{server.url}/other", f"{server.url}/good", md5=None), OTHER)
    assert is_whole(get("sub/good.tar.gz", md5=None))


def test_drawn_pictures_need_no_md5(get: Get, tmp_path: Path) -> None:
    path = get("generated", images=(70, 20))
    assert list(path.parent.iterdir()) == [path]
    report = verify(path, tmp_path / "train", tmp_path / "test", md5=None, train_images=70, test_images=20)
    assert report["generated"] is True


@pytest.mark.usefixtures("once")
def test_drawn_pictures_when_no_server_answers(closed: str, get: Get, tmp_path: Path) -> None:
    path = get(closed, cifar10.GENERATED)
    report = verify(
        path, tmp_path / "train", tmp_path / "test", md5=MD5, train_images=50, test_images=10, allow_generated=True
    )
    assert report["generated"] is True


@pytest.mark.usefixtures("once")
def test_the_error_names_each_place_and_both_ways_on(
    closed: str, server: _Server, root: Path, get: Get, tmp_path: Path
) -> None:
    places = {
        closed: "refused",
        f"{server.url}/none": "404",
        f"{server.url}/other": "MD5",
        f"{server.url}/cut": "",
        "missing.tar.gz": "No such file",
        "other.tar.gz": f"expected {MD5}",
        (root / "gone").as_uri(): "No such file",
    }
    with pytest.raises(InputError) as caught:
        get(*places)
    one_line(
        caught, *places, *places.values(), "put the archive at a path and name it in data.urls", "data.urls=[generated]"
    )
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("name", ["/cut", "/none"])
def test_nothing_is_left_without_an_md5_either(name: str, server: _Server, get: Get, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        get(f"{server.url}{name}", md5=None)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.usefixtures("once")
def test_the_log_says_what_failed_and_where_it_came_from(
    closed: str, server: _Server, get: Get, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "alexnet"):
        get(closed, f"{server.url}/good")
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("alexnet")]
    assert len(lines) == 2
    assert lines[0].startswith(f"{closed}: ")
    assert re.search(rf"archive\.tar\.gz from {server.url}/good$", lines[1])
