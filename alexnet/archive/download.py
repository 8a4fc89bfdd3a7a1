"""Downloading the archive, from the first of several places that has the right one."""

import http.client
import logging
import queue
import re
import shutil
import stat
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
import urllib3
from tqdm import tqdm

from alexnet.archive import generated
from alexnet.archive.verify import check_layout, check_md5, unpacked_limit
from alexnet.cifar10 import GENERATED
from alexnet.runtime.errors import InputError, printable
from alexnet.runtime.files import replacing
from alexnet.runtime.urls import masked

TIMEOUT_SECONDS = 30
"""How long to wait for an answer from a server."""
WINDOW_SECONDS = 30
"""How long the rate of a download is measured before it is judged."""
RETRIES = 2
"""How often to try again after the server or the connection failed."""
PAUSE_SECONDS = 2
"""How long to wait before trying again."""

_BLOCK = 1 << 16
_BUSY = {408, 429, 500, 502, 503, 504}
"""HTTP status codes after which another try may succeed."""

log = logging.getLogger(__name__)


class _TransientError(Exception):
    # A failure after which another try may succeed.
    pass


class _Receiver(threading.Thread):
    # Receives a response in a thread of its own. A server that sends one byte at a time keeps `read` from returning,
    # for the headers as well as for the body, so the main thread could not measure the rate if it read by itself.

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._blocks: queue.Queue[bytes | Exception] = queue.Queue(maxsize=64)
        self._stopped = threading.Event()
        self.size: int | None = None

    def run(self) -> None:
        try:
            # The bytes are stored as they are sent: nothing is decompressed on the way.
            with requests.get(
                self._url, stream=True, timeout=TIMEOUT_SECONDS, headers={"Accept-Encoding": "identity"}
            ) as response:
                status = response.status_code
                if status != 200:
                    text = f"the server answered {status} {http.client.responses.get(status, '')}".rstrip()
                    raise (_TransientError if status in _BUSY else InputError)(text)
                length = response.headers.get("Content-Length", "")
                self.size = int(length) if re.fullmatch("[0-9]{1,18}", length) else None
                while not self._stopped.is_set():
                    block = response.raw.read1(_BLOCK, decode_content=False)
                    self._blocks.put(block)
                    if not block:
                        break
        except Exception as error:  # `next` raises it again, in the main thread
            self._blocks.put(error)

    def next(self, seconds: float) -> bytes | None:
        # Returns the next bytes, b"" at the end, and None when nothing arrives within this many seconds.
        try:
            block = self._blocks.get(timeout=max(0, seconds))
        except queue.Empty:
            return None
        if isinstance(block, Exception):
            raise block
        return block

    def stop(self) -> None:
        self._stopped.set()
        try:
            while True:  # empty the queue, because the thread may be waiting for room in it
                self._blocks.get_nowait()
        except queue.Empty:
            pass


def _receive(url: str, new: Path, limit: int, minimum_download_rate: float) -> None:
    receiver = _Receiver(url)
    receiver.start()
    received, received_in_window, window_end = 0, 0, time.monotonic() + WINDOW_SECONDS
    try:
        with new.open("wb") as file, tqdm(unit="B", unit_scale=True, disable=None) as bar:
            while (block := receiver.next(window_end - time.monotonic())) != b"":
                if block:
                    bar.total = receiver.size
                    received += len(block)
                    received_in_window += len(block)
                    if max(received, receiver.size or 0) > limit:
                        raise InputError(f"sends {_most(limit)}")
                    file.write(block)
                    bar.update(len(block))
                if time.monotonic() >= window_end:
                    if received_in_window < minimum_download_rate * WINDOW_SECONDS:
                        raise InputError(
                            f"sent {received_in_window / WINDOW_SECONDS:.0f} bytes/s over {WINDOW_SECONDS} s, "
                            f"expected at least {minimum_download_rate:g} (minimum_download_rate)"
                        )
                    received_in_window, window_end = 0, time.monotonic() + WINDOW_SECONDS
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise _TransientError(_reason(error)) from None
    except requests.TooManyRedirects as error:
        raise InputError(str(error)) from None
    except requests.exceptions.InvalidProxyURL:
        raise InputError("the environment names a proxy whose address is not valid") from None
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):  # `write` has checked the first address
        raise InputError("the server redirects to an address that cannot be used") from None
    finally:
        receiver.stop()


def _reason(error: BaseException) -> str:
    # Says what went wrong, without the URL, which the messages of most of these exceptions repeat.
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    for cause in chain:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        if isinstance(cause, (urllib3.exceptions.IncompleteRead, http.client.IncompleteRead)):
            return "the connection ended before the archive did"
        if isinstance(cause, http.client.RemoteDisconnected):
            return "the server closed the connection without an answer"
        if isinstance(cause, http.client.HTTPException):  # its message quotes the server
            return "the server's answer is not HTTP"
    if any(isinstance(cause, (requests.Timeout, urllib3.exceptions.TimeoutError)) for cause in chain):
        return f"no answer within {TIMEOUT_SECONDS} s"
    if any(isinstance(cause, requests.exceptions.ProxyError) for cause in chain):
        return "the proxy refused the connection"
    return f"the connection failed ({type(error).__name__})"


def _fetch(url: str, new: Path, limit: int, minimum_download_rate: float) -> None:
    for retries_left in reversed(range(RETRIES + 1)):
        try:
            return _receive(url, new, limit, minimum_download_rate)
        except _TransientError as error:
            if not retries_left:
                raise InputError(str(error)) from None
            time.sleep(PAUSE_SECONDS)


def _copy(source: Path, new: Path, limit: int) -> None:
    try:
        status = source.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise InputError("is a named pipe or a device, expected a file")
        if status.st_size > limit:
            raise InputError(f"has {status.st_size} bytes, {_most(limit)}")
        shutil.copyfile(source, new)
    except OSError as error:
        if error.filename != str(source):
            raise
        raise InputError(f"cannot be read: {error.strerror}") from None


def _most(limit: int) -> str:
    return f"more than the {limit} bytes that train_images and test_images allow"


def download(
    urls: Sequence[str],
    path: Path,
    md5: str | None,
    train_images: int,
    test_images: int,
    root: Path,
    minimum_download_rate: float,
) -> None:
    """Try `urls` in turn until one gives the right archive, and write it to `path`.

    The archive is right when its MD5 is right and it can be read to its end as CIFAR-10's binary version, with files
    that are not too large. For each URL that fails, a warning gives the reason, without passwords and
    queries. A failing connection or server is tried again; a server that is too slow or has the wrong archive is not.
    A host's user name and password are read from `~/.netrc`, or from the file that the environment variable NETRC
    names.

    Args:
        urls: each one http://, https:// or file://, a path, or `generated`. `generated` makes an archive of
            `train_images` and `test_images` images, whose MD5 is not checked.
        path: where to write the archive.
        md5: the MD5 of the archive, in hexadecimal; None accepts any archive.
        train_images: the most images that each training file may have.
        test_images: the most images that the test file may have.
        root: the folder at which relative paths in `urls` start.
        minimum_download_rate: in bytes/s, measured over WINDOW_SECONDS. A slower download is abandoned; 0 accepts any
            rate.

    Raises InputError when all URLs have failed, and OSError when the file system does.
    """
    unpacked = unpacked_limit(train_images, test_images)
    limit = unpacked + unpacked // 1000 + 1000  # data that cannot be compressed becomes a little larger

    def write(url: str, new: Path) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https"):
            requests.Request("GET", url).prepare()  # raises a ValueError if the address is not valid
            _fetch(url, new, limit, minimum_download_rate)
        else:
            source = Path(url2pathname(parts.path)) if parts.scheme == "file" else root / Path(url).expanduser()
            _copy(source, new, limit)

    for url in urls:
        shown = printable(masked(url))
        try:
            if url == GENERATED:
                generated.write_archive(path, train_images, test_images)
            else:
                with replacing(path) as new:
                    write(url, new)
                    check_md5(new, md5, "the archive")
                    check_layout(new, train_images, test_images, "the archive")
        except ValueError:  # its message may repeat any part of the URL, even the password
            log.warning("%s: is not a valid URL or path", shown)
        except (InputError, RuntimeError) as error:
            log.warning("%s: %s", shown, printable(masked(str(error))))
        else:
            log.info("%s from %s", path, shown)
            return
    remote = any(re.match(r"(?i)\s*https?:", url) for url in urls)
    advice = "download it yourself and put its path into urls" if remote else "correct urls or md5"
    raise InputError(
        f"no place in urls has the archive, see the reasons above: {advice}, or set urls to [{GENERATED}] to use "
        "generated images"
    )
