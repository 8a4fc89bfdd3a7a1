"""Getting the archive from the first of several places that has the right one."""

import http.client
import logging
import queue
import shutil
import stat
import threading
import time
from collections.abc import Callable, Sequence
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

TIMEOUT = 30
"""Seconds without an answer after which a server is given up on."""
WINDOW = 30
"""Seconds over which the rate of a download is measured."""
RETRIES = 2
"""Tries after the first, where the server or the connection failed."""
PAUSE = 2
"""Seconds before another try."""

_BLOCK = 1 << 16
_BUSY = {408, 429, 500, 502, 503, 504}
"""HTTP statuses after which another try may succeed."""

log = logging.getLogger(__name__)


class _TransientError(Exception):
    # A failure after which another try may succeed.
    pass


class _Receiver(threading.Thread):
    # Receives an answer's body in a thread of its own. A server that sends single bytes keeps a read from returning,
    # of the headers as well as of the body, and would keep the main thread from measuring the rate.

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._blocks: queue.Queue[bytes | Exception] = queue.Queue(maxsize=64)
        self._stopped = threading.Event()
        self.size: int | None = None

    def run(self) -> None:
        try:
            # The bytes are taken as they are sent, so that nothing is decompressed on the way.
            with requests.get(
                self._url, stream=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}
            ) as answer:
                status = answer.status_code
                if status != 200:
                    text = f"the server answered {status} {http.client.responses.get(status, '')}".rstrip()
                    raise (_TransientError if status in _BUSY else InputError)(text)
                length = answer.headers.get("Content-Length", "")
                self.size = int(length) if length.isascii() and length.isdigit() else None
                while not self._stopped.is_set():
                    block = answer.raw.read1(_BLOCK, decode_content=False)
                    self._blocks.put(block)
                    if not block:
                        break
        except Exception as error:  # it is raised again by `next`, in the main thread
            self._blocks.put(error)

    def next(self, seconds: float) -> bytes:
        # The next bytes, none at the end. Raises queue.Empty when there are none within this time.
        block = self._blocks.get(timeout=max(0, seconds))
        if isinstance(block, Exception):
            raise block
        return block

    def stop(self) -> None:
        self._stopped.set()
        try:
            while True:  # empty the queue, so that the thread does not wait for room in it
                self._blocks.get_nowait()
        except queue.Empty:
            pass


def _receive(url: str, new: Path, limit: int, minimum_rate: float) -> None:
    receiver = _Receiver(url)
    receiver.start()
    received, of_window, end = 0, 0, time.monotonic() + WINDOW
    too_large = InputError(f"sends {_most(limit)}")
    try:
        with new.open("wb") as file, tqdm(unit="B", unit_scale=True, disable=None) as bar:
            while True:
                try:
                    block = receiver.next(end - time.monotonic())
                except queue.Empty:
                    block = None
                if block == b"":
                    return
                if block:
                    bar.total = receiver.size
                    received += len(block)
                    of_window += len(block)
                    if max(received, receiver.size or 0) > limit:
                        raise too_large
                    file.write(block)
                    bar.update(len(block))
                if time.monotonic() >= end:
                    if of_window < minimum_rate * WINDOW:
                        raise InputError(
                            f"sent {of_window / WINDOW:.0f} bytes/s over {WINDOW} s, "
                            f"expected at least {minimum_rate:g} (run.minimum_download_rate)"
                        )
                    of_window, end = 0, time.monotonic() + WINDOW
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise _TransientError(_reason(error)) from None
    except requests.TooManyRedirects as error:
        raise InputError(str(error)) from None
    finally:
        receiver.stop()


def _reason(error: BaseException) -> str:
    # What went wrong, without the URL that the texts of most of these exceptions repeat.
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
    if any(isinstance(cause, (requests.Timeout, urllib3.exceptions.TimeoutError)) for cause in chain):
        return f"no answer within {TIMEOUT} s"
    return str(error)


def _fetch(url: str, new: Path, limit: int, minimum_rate: float) -> None:
    for left in reversed(range(RETRIES + 1)):
        try:
            return _receive(url, new, limit, minimum_rate)
        except _TransientError as error:
            if not left:
                raise InputError(str(error)) from None
            time.sleep(PAUSE)


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
    return f"more than the {limit} bytes that an archive of so many images can have"


def download(
    urls: Sequence[str],
    path: Path,
    md5: str | None,
    train_images: int,
    test_images: int,
    root: Path,
    minimum_rate: float,
) -> None:
    """Write to `path` the archive of the first of `urls` that gives the right one.

    It is the right one when its MD5 is right and it can be read to its end as CIFAR-10's binary version with at most
    so many images. Each place that has none is logged with the reason, without passwords and queries. A failing
    connection or server is asked again, one that gives the wrong archive or is too slow is not. The user and the
    password for a host can stand in `~/.netrc`, or in the file that the environment variable NETRC names.

    Args:
        urls: http:// or https://, file://, a path, relative ones being relative to `root`, or `generated`, which
            draws train_images and test_images pictures and to which the MD5 does not apply.
        md5: in hexadecimal; None accepts any archive.
        minimum_rate: in bytes/s over WINDOW seconds; a slower server is given up. 0: any rate will do.

    Raises InputError when no place is left, and OSError as the file system does.
    """
    unpacked = unpacked_limit(train_images, test_images)
    limit = unpacked + unpacked // 1000 + 1000  # data that cannot be compressed becomes a little larger

    def write(url: str) -> Callable[[Path], None]:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https"):
            return lambda new: _fetch(url, new, limit, minimum_rate)
        source = Path(url2pathname(parts.path)) if parts.scheme == "file" else root / Path(url).expanduser()
        return lambda new: _copy(source, new, limit)

    for url in urls:
        shown = printable(masked(url))
        try:
            if url == GENERATED:
                generated.write_archive(path, train_images, test_images)
            else:
                with replacing(path) as new:
                    write(url)(new)
                    check_md5(new, md5, "the archive")
                    check_layout(new, train_images, test_images, "the archive")
        except ValueError:  # its text may repeat any part of the URL
            log.warning("%s: is no valid URL or path", shown)
        except (InputError, RuntimeError) as error:
            log.warning("%s: %s", shown, printable(masked(str(error))))
        else:
            log.info("%s from %s", path, shown)
            return
    raise InputError(
        f"none of the {len(urls)} places in data.urls has the archive, for the reasons above: put it at a path and "
        f"name it in data.urls, or set data.urls=[{GENERATED}] for drawn pictures"
    )
