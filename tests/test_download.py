import gzip
import hashlib
import io
import logging
import os
import re
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from alexnet import cifar10
from alexnet.archive import download as library
from alexnet.archive.download import download
from alexnet.archive.verify import verify
from alexnet.runtime.errors import InputError
from alexnet.training.launcher import free_port
from stages import download as download_stage
from stages.__main__ import run
from tests import archives
from tests.conftest import one_line
from tests.workspaces import ROOT, change


def _packed(seed: int) -> bytes:
    files = archives.files(50, 10)
    files["readme.html"] = bytes([seed])
    return archives.packed(files)


GOOD, OTHER = _packed(0), _packed(1)
MD5 = hashlib.md5(GOOD, usedforsecurity=False).hexdigest()


PAGE = b"<html>please log in</html>"
SECRET = "Basic dXNlcjpwYXNzd29yZA=="  # noqa: S105  # not a real password
"""The Authorization header of the user `user` with the password `password`."""

CONTENT = {
    "/good": GOOD,
    "/other": OTHER,
    "/cut": GOOD,
    "/once": GOOD,
    "/page?x=good": GOOD,
    "/page.html": PAGE,
    "/no-length-cut": GOOD[: len(GOOD) // 2],
    "/secret": GOOD,
    "/encoded": gzip.compress(bytes(300_000_000), 1),
}


class _Handler(BaseHTTPRequestHandler):
    # Serves CONTENT. /cut ends early, /once fails the first time, /secret needs a password, /endless, /slow and
    # /slow-headers never end, /redirect leads to another protocol, /long-length has a length of 5000 digits, /empty has
    # no content, and /escape, /no-http and /bad-header send text that moves the cursor.

    server: "_Server"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        first = self.server.asked.count(self.path) == 1
        with suppress(OSError):  # the client is gone
            self.answer(first)

    def answer(self, first: bool) -> None:
        content = CONTENT.get(self.path)
        match self.path:
            case "/endless":
                self.send_response(200)
                self.end_headers()
                while True:
                    self.wfile.write(os.urandom(1 << 16))
                    self.server.sent += 1 << 16
            case "/slow" | "/slow-headers":
                if self.path == "/slow":
                    self.send_response(200)
                    self.send_header("Content-Length", "400000")
                    self.end_headers()
                while True:
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            case "/redirect":
                self.send_response(302)
                self.send_header("Location", "ftp://127.0.0.1/good")
                self.end_headers()
            case "/long-length":
                self.send_response(200)
                self.send_header("Content-Length", "9" * 5000)
                self.end_headers()
                self.wfile.write(GOOD)
            case "/empty":
                self.send_response(204)
                self.end_headers()
            case "/escape":
                self.send_response(404, "\x1b[2J")
                self.end_headers()
            case "/no-http":
                self.wfile.write(b"\x1b[2J is what I say\r\n")
            case "/bad-header":
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\x1b[2J is what I say\r\n\r\n")
            case "/silent":
                pass
            case "/secret" if self.headers.get("Authorization") != SECRET:
                self.send_error(401)
            case "/once" if first:
                self.send_error(503)
            case _ if content is None:
                self.send_error(404)
            case _:
                self.send_response(200)
                if self.path == "/encoded":
                    self.send_header("Content-Encoding", "gzip")
                if self.path != "/no-length-cut":
                    self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write((content or b"")[: 1000 if self.path == "/cut" else None])

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.sent = 0
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
    """The address of a port on which nothing listens."""
    return f"http://127.0.0.1:{free_port()}/archive.tar.gz"


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try every address only once, so that no test waits for a second try."""
    monkeypatch.setattr(library, "RETRIES", 0)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "PAUSE_SECONDS", 0)


Get = Callable[..., Path]


@pytest.fixture
def get(tmp_path: Path) -> Get:
    """Return a function that downloads to data/archive.tar.gz. Relative paths start at the folder `root`."""

    def start(*urls: str, md5: str | None = MD5, images: tuple[int, int] = (50, 10)) -> Path:
        path = tmp_path / "data" / "archive.tar.gz"
        download(urls, path, md5, *images, tmp_path / "root", 1000)
        return path

    return start


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder at which paths start. It has the archive at sub/good.tar.gz and another one at other.tar.gz."""
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "good.tar.gz").write_bytes(GOOD)
    (folder / "a b.tar.gz").write_bytes(GOOD)
    (folder / "other.tar.gz").write_bytes(OTHER)
    return folder


def is_whole(path: Path, content: bytes = GOOD) -> bool:
    """Return whether the file has this content and is the only one in its folder."""
    return path.read_bytes() == content and list(path.parent.iterdir()) == [path]


def test_an_archive_from_a_server(server: _Server, get: Get) -> None:
    assert is_whole(get(f"{server.url}/good"))
    assert server.asked == ["/good"]


def test_an_address_with_a_query(server: _Server, get: Get) -> None:
    assert is_whole(get(f"{server.url}/page?x=good"))


@pytest.mark.parametrize("present", [GOOD, OTHER, b""], ids=["the same", "another", "nothing"])
@pytest.mark.parametrize("md5", [MD5, None], ids=["its MD5", "any MD5"])
def test_an_existing_file_is_replaced(
    present: bytes, md5: str | None, server: _Server, get: Get, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "archive.tar.gz").write_bytes(present)
    assert is_whole(get(f"{server.url}/good", md5=md5))


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns the logged lines."""
    caplog.set_level(logging.INFO, "alexnet")
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("alexnet")]


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
def test_the_next_address_is_tried_after_an_invalid_one(bad: str, root: Path, get: Get) -> None:
    assert root.is_dir()
    assert is_whole(get(bad, "sub/good.tar.gz"))


def test_a_server_that_fails_once_is_tried_again(server: _Server, get: Get) -> None:
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


def test_a_path_with_another_md5_is_skipped(root: Path, get: Get) -> None:
    assert root.is_dir()
    assert is_whole(get("other.tar.gz", "sub", "none.tar.gz", "sub/good.tar.gz"))


def test_any_archive_is_accepted_without_an_md5(server: _Server, root: Path, get: Get) -> None:
    assert root.is_dir()
    assert is_whole(get(f"{server.url}/other", f"{server.url}/good", md5=None), OTHER)
    assert is_whole(get("sub/good.tar.gz", md5=None))


def test_generated_images_need_no_md5(get: Get, tmp_path: Path) -> None:
    path = get("generated", images=(70, 20))
    assert list(path.parent.iterdir()) == [path]
    report = verify(path, tmp_path / "train", tmp_path / "test", md5=None, train_images=70, test_images=20)
    assert report["generated"] is True


@pytest.mark.usefixtures("once")
def test_generated_images_when_no_server_answers(closed: str, get: Get, tmp_path: Path) -> None:
    path = get(closed, cifar10.GENERATED)
    report = verify(
        path, tmp_path / "train", tmp_path / "test", md5=MD5, train_images=50, test_images=10, allow_generated=True
    )
    assert report["generated"] is True


Lines = Callable[[], list[str]]


@pytest.mark.usefixtures("once")
def test_each_failure_is_one_line_and_the_last_says_what_to_do(
    closed: str, server: _Server, root: Path, get: Get, lines: Lines, tmp_path: Path
) -> None:
    places = {
        closed: "Connection refused",
        f"{server.url}/none": "the server answered 404 Not Found",
        f"{server.url}/other": f"the archive has MD5 {hashlib.md5(OTHER, usedforsecurity=False).hexdigest()}",
        f"{server.url}/cut": "the connection ended before the archive did",
        "missing.tar.gz": "cannot be read: No such file or directory",
        "other.tar.gz": f"expected {MD5}",
        (root / "gone").as_uri(): "cannot be read: No such file or directory",
    }
    with pytest.raises(InputError) as caught:
        get(*places)
    one_line(
        caught,
        "no place in urls has the archive",
        "put its path into urls",
        "set urls to [generated]",
    )
    assert len(lines()) == len(places)
    for line, (place, reason) in zip(lines(), places.items(), strict=True):
        assert line.startswith(f"{place}: ")
        assert reason in line
        assert ".partial" not in line
        assert place not in str(caught.value)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("name", ["cut", "none"])
def test_nothing_is_left_without_an_md5_either(name: str, server: _Server, get: Get, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        get(f"{server.url}/{name}", md5=None)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_wrong_md5_is_downloaded_once(server: _Server, get: Get) -> None:
    assert is_whole(get(f"{server.url}/other", f"{server.url}/good"))
    assert server.asked == ["/other", "/good"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("page.html", "not a .tar.gz"),
        ("no-length-cut", "cut short"),
        ("empty", "the server answered 204 No Content"),
        ("encoded", "sends more than the|not a .tar.gz"),
    ],
)
def test_a_file_that_is_not_an_archive_fails_without_an_md5_too(
    name: str, reason: str, server: _Server, get: Get, lines: Lines
) -> None:
    assert is_whole(get(f"{server.url}/{name}", f"{server.url}/good", md5=None))
    assert server.asked == [f"/{name}", "/good"]
    assert lines()[0].startswith(f"{server.url}/{name}: ")
    assert re.search(reason, lines()[0])


def test_a_file_that_is_not_an_archive_fails(root: Path, get: Get, lines: Lines) -> None:
    (root / "page.html").write_bytes(PAGE)
    os.mkfifo(root / "pipe")
    assert is_whole(get("page.html", "pipe", "sub/good.tar.gz", md5=None))
    assert "not a .tar.gz" in lines()[0]
    assert lines()[1] == "pipe: is a named pipe or a device, expected a file"


def test_the_advice_for_paths_is_not_to_download(get: Get) -> None:
    with pytest.raises(InputError) as caught:
        get("missing.tar.gz")
    one_line(caught, "correct urls or md5, or set urls to [generated]")
    assert "download it" not in str(caught.value)


def test_a_file_that_is_too_large_is_not_copied(root: Path, get: Get, lines: Lines) -> None:
    with (root / "large.tar.gz").open("wb") as file:
        file.truncate(10**12)
    assert is_whole(get("large.tar.gz", "/dev/zero", "sub/good.tar.gz"))
    allowed = r"more than the \d+ bytes that train_images and test_images allow"
    assert re.fullmatch(rf"large.tar.gz: has 1000000000000 bytes, {allowed}", lines()[0])
    assert lines()[1] == "/dev/zero: is a named pipe or a device, expected a file"


def test_an_endless_response_is_cut_off(server: _Server, get: Get, lines: Lines) -> None:
    assert is_whole(get(f"{server.url}/endless", f"{server.url}/good"))
    assert re.search("/endless: sends more than the [0-9]+ bytes", lines()[0])
    assert server.sent < 20_000_000, "what is on its way in buffers included"


@pytest.mark.parametrize("name", ["encoded", "endless"])
def test_what_is_too_large_fills_no_disk(name: str, server: _Server, get: Get) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        assert is_whole(get(f"{server.url}/{name}", f"{server.url}/good", md5=None))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_stage_takes_the_minimum_rate_from_the_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(download_stage, "download", lambda *arguments: taken.extend(arguments))
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    change(tmp_path, run={"minimum_download_rate": 31415})
    monkeypatch.chdir(tmp_path)
    download_stage.main()
    assert taken[-1] == 31415


@pytest.mark.parametrize("name", ["slow", "slow-headers"])
def test_a_slow_server_is_abandoned(
    name: str, server: _Server, get: Get, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "WINDOW_SECONDS", 0.5)
    start = time.monotonic()
    assert is_whole(get(f"{server.url}/{name}", f"{server.url}/good"))
    assert time.monotonic() - start < 60
    assert re.search(r"sent \d+ bytes/s over 0.5 s, expected at least 1000 \(minimum_download_rate\)", lines()[0])
    assert server.asked == [f"/{name}", "/good"]


def test_the_bar_shows_the_rate(server: _Server, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", terminal)
    get(f"{server.url}/good")
    assert "B/s" in terminal.getvalue()


def test_text_of_a_server_is_not_printed(server: _Server, get: Get, lines: Lines) -> None:
    get(f"{server.url}/escape", f"{server.url}/good")
    assert lines()[0] == f"{server.url}/escape: the server answered 404 Not Found"


def test_an_unreadable_header_is_not_printed(server: _Server, get: Get, caplog: pytest.LogCaptureFixture) -> None:
    def stage() -> None:
        get(f"{server.url}/bad-header", f"{server.url}/good")

    run(stage)
    assert server.asked == ["/bad-header", "/good"]
    assert "[2J" not in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no-http", "the server's answer is not HTTP"),
        ("silent", "the server closed the connection without an answer"),
        ("redirect", "the server redirects to an address that cannot be used"),
    ],
)
def test_an_answer_that_cannot_be_read(name: str, reason: str, server: _Server, get: Get, lines: Lines) -> None:
    get(f"{server.url}/{name}", f"{server.url}/good")
    assert lines()[0] == f"{server.url}/{name}: {reason}"


def test_a_length_that_is_no_number_of_bytes_is_ignored(server: _Server, get: Get) -> None:
    assert is_whole(get(f"{server.url}/long-length"))


@pytest.mark.parametrize("bad", ["http://me:hush\u2100@host/x", "http://[::1/x"])
def test_invalid_addresses_alone_are_one_line_each(bad: str, get: Get, lines: Lines) -> None:
    with pytest.raises(InputError) as caught:
        get(bad)
    one_line(caught, "no place in urls has the archive", "put its path into urls")
    (line,) = lines()
    assert line.endswith("is not a valid URL or path")
    assert "hush" not in line


class _Proxy(BaseHTTPRequestHandler):
    # A proxy that refuses every tunnel, and says why.

    def do_CONNECT(self) -> None:
        self.send_error(403, "a word of the proxy")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:PORT", "http://"])
def test_a_failure_of_the_proxy_shows_no_secret(
    proxy: str, get: Get, root: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Proxy) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        monkeypatch.setenv("https_proxy", proxy.replace("PORT", str(server.server_port)))
        assert is_whole(get("https://me:hush@example.org/a.tar.gz?token=hush", "sub/good.tar.gz"))
        server.shutdown()
    reasons = {"http://": "the environment names a proxy whose address is not valid"}
    reason = reasons.get(proxy, "the proxy refused the connection")
    assert lines()[0] == f"https://***@example.org/a.tar.gz?***: {reason}"


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(
    "address",
    [
        "http://me:hush@HOST/none?token=hush#hush",
        "http://me:hush@CLOSED/?token=hush",
        "http://me:hush@[/",
        "http://me:hu/sh@CLOSED/",
        "http://me:hush\u2100@HOST/good",
        "http:/me:hush@HOST/good",
        "htps://me:hush@HOST/good",
    ],
)
def test_no_secret_is_logged(address: str, server: _Server, get: Get, lines: Lines) -> None:
    good = "http://me:hush@HOST/page?x=good"
    address = address.replace("CLOSED", f"127.0.0.1:{free_port()}")
    get(*(text.replace("HOST", server.url.removeprefix("http://")) for text in (address, good)))
    assert len(lines()) == 2
    assert lines()[1].endswith(f" from {server.url}/page?***".replace("//", "//***@"))
    for secret in ("me:", "hu", "token"):
        assert secret not in lines()[0] + lines()[1].partition(" from ")[2]


def test_a_password_in_netrc(server: _Server, get: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secrets").write_text("machine 127.0.0.1 login user password password\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "secrets"))
    assert is_whole(get(f"{server.url}/secret"))


def test_a_password_in_netrc_of_the_home_folder(
    server: _Server, get: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password password\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert is_whole(get(f"{server.url}/secret"))


@pytest.mark.usefixtures("once")
def test_the_log_says_what_failed_and_where_it_came_from(closed: str, server: _Server, get: Get, lines: Lines) -> None:
    get(closed, f"{server.url}/good")
    assert len(lines()) == 2
    assert lines()[0].startswith(f"{closed}: ")
    assert re.search(rf"archive\.tar\.gz from {server.url}/good$", lines()[1])
