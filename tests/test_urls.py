import pytest

from alexnet.runtime.urls import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://example.org/a/b.tar.gz", "https://example.org/a/b.tar.gz"),
        ("https://example.org:8080/a@b", "https://example.org:8080/a@b"),
        ("https://[::1]:80/a@b", "https://[::1]:80/a@b"),
        ("https://user:hush@example.org/a", "https://***@example.org/a"),
        ("https://user:hush@hush@example.org/a", "https://***@example.org/a"),
        ("https://hush@example.org/a", "https://***@example.org/a"),
        ("https://user:hu/sh@example.org/a", "https://***@example.org/a"),
        ("https://user:hu?sh@example.org/a", "https://***@example.org/a"),
        ("https://user:hu#sh@example.org/a?hush", "https://***@example.org/a?***"),
        ("https://example.org/a?token=hush", "https://example.org/a?***"),
        ("https://example.org/a?token=hush hush", "https://example.org/a?***"),
        ("https://example.org/a#hush", "https://example.org/a#***"),
        ("HTTPS:/user:hush@example.org/a", "HTTPS:/***@example.org/a"),
        (" https://user:hush@example.org/a", " https://***@example.org/a"),
        ("htps://user:hush@example.org/a", "htps://***@example.org/a"),
        ("no https://hush@a/b?hush and http://hush@c", "no https://***@a/b?*** and http://***@c"),
        ("user:hush@example.org/a", "***@example.org/a"),
        ("//user:hush@example.org/a", "//***@example.org/a"),
        ("https:user:hush@example.org/a", "***@example.org/a"),
        ('["user:hush@example.org/a"] cannot be read', '["***@example.org/a"] cannot be read'),
        ("a/path@home?x", "a/path@home?x"),
        ("10:30 me@home", "10:30 me@home"),
        ("generated", "generated"),
        ("", ""),
    ],
)
def test_what_may_be_secret_is_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
