"""The archive: fetched from the first of several places that has the right one."""

import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pooch
import requests

from alexnet.archive import generated
from alexnet.archive.verify import check_md5
from alexnet.cifar10 import GENERATED
from alexnet.runtime.errors import InputError
from alexnet.runtime.files import replacing

TIMEOUT = 30
"""Seconds without an answer after which a server is given up on."""
RETRIES = 2
"""Tries after the first."""

log = logging.getLogger(__name__)


def _fetch(url: str, path: Path, md5: str | None) -> None:
    known_hash = None if md5 is None else f"md5:{md5}"
    pooch.get_logger().setLevel(logging.WARNING)
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT)
    with replacing(path) as new:
        source = pooch.Pooch(new.parent, "", {new.name: known_hash}, {new.name: url}, retry_if_failed=RETRIES)
        source.fetch(new.name, downloader=downloader)


def _copy(source: Path, path: Path, md5: str | None) -> None:
    check_md5(source, md5)
    with replacing(path) as new:
        shutil.copyfile(source, new)


def download(urls: Sequence[str], path: Path, md5: str | None, train_images: int, test_images: int, root: Path) -> None:
    """Write to `path` the archive of the first of `urls` that gives one of the right MD5.

    Args:
        urls: http:// or https://, file://, a path, relative ones being relative to `root`, or `generated`, which
            draws train_images and test_images pictures and to which the MD5 does not apply.
        md5: in hexadecimal; None accepts any archive.

    Raises InputError, naming every place tried and why it was no use, when none is left.
    """
    failures = []
    for url in urls:
        try:
            if url == GENERATED:
                generated.write_archive(path, train_images, test_images)
            elif urlsplit(url).scheme in ("http", "https"):
                _fetch(url, path, md5)
            elif urlsplit(url).scheme == "file":
                _copy(Path(url2pathname(urlsplit(url).path)), path, md5)
            else:
                _copy(root / Path(url).expanduser(), path, md5)
        except (InputError, ValueError, RuntimeError, requests.RequestException) as error:
            log.warning("%s: %s", url, error)
            failures.append(f"{url} ({error})")
        else:
            log.info("%s from %s", path, url)
            return
    raise InputError(
        f"no archive from {'; '.join(failures)}: put the archive at a path and name it in data.urls, "
        f"or set data.urls=[{GENERATED}] for drawn pictures"
    )
