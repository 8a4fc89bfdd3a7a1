"""Hiding secrets in URLs: the user name, the password, the query and the fragment."""

import re

HIDDEN = "***"
"""What is shown in place of a hidden part."""

# Matches the whole text if it begins like a URL, and otherwise every word that does. A mistyped URL may have one slash.
_URL = re.compile(r"(?is)\A\s*[a-z][a-z0-9+.-]*:/.*|[a-z][a-z0-9+.-]*:/\S*")
# Matches a user name and password without a scheme before them, as where it was forgotten.
_LOGIN = re.compile(r"(?<![^\s\"'\[(,/])[^\s/@:\"'\[(,]+:[^\s/@]+@(?=\S)")
_HOST = re.compile(r"(\[[^\]]*\]|[^:@\[]*)(:\d*)?")


def masked(text: str) -> str:
    """Return a URL, or a text with URLs in it, without the parts that may be secret.

    `https://user:password@host/file?token=1` becomes `https://***@host/file?***`.
    """
    return _LOGIN.sub(f"{HIDDEN}@", _URL.sub(_mask, text))


def _mask(match: re.Match[str]) -> str:
    scheme, _, rest = match[0].partition(":")
    slashes = re.match("/*", rest)[0]  # type: ignore[index]  # it always matches
    rest = rest[len(slashes) :]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        rest = HIDDEN + rest[authority.rindex("@") :]
    elif "@" in rest and not _HOST.fullmatch(authority):  # an invalid URL: there is one of /?# in the password
        rest = HIDDEN + rest[rest.rindex("@") :]
    return f"{scheme}:{slashes}" + re.sub("(?s)([?#]).+", rf"\1{HIDDEN}", rest)
