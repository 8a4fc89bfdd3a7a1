"""URLs as they may be shown to others: without the user, the password, the query and the fragment."""

import re

HIDDEN = "***"
"""What stands for a part that is not shown."""

# The whole text when it begins as a URL does, else each word that does. A mistyped URL may have a single slash.
_URL = re.compile(r"(?is)\A\s*[a-z][a-z0-9+.-]*:/.*|[a-z][a-z0-9+.-]*:/\S*")
_HOST = re.compile(r"(\[[^\]]*\]|[^:@\[]*)(:\d*)?")


def masked(text: str) -> str:
    """Return a URL, or a text with URLs in it, without what may be secret.

    `https://user:password@host/file?token=1` becomes `https://***@host/file?***`.
    """
    return _URL.sub(_mask, text)


def _mask(match: re.Match[str]) -> str:
    scheme, _, rest = match[0].partition(":")
    slashes = re.match("/*", rest)[0]  # type: ignore[index]  # it always matches
    rest = rest[len(slashes) :]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        rest = HIDDEN + rest[authority.rindex("@") :]
    elif "@" in rest and not _HOST.fullmatch(authority):  # a password with one of /?# in it, which no URL may have
        rest = HIDDEN + rest[rest.rindex("@") :]
    return f"{scheme}:{slashes}" + re.sub("(?s)([?#]).+", rf"\1{HIDDEN}", rest)
