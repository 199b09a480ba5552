"""Which text is an address, and of which host."""

import pytest

from airflow_provider_stably.api.address import Address, is_loopback


@pytest.mark.parametrize(
    ("text", "base_url"),
    [
        ("https://api.stably.ai", "https://api.stably.ai"),
        ("HTTPS://API.Stably.AI/", "https://api.stably.ai"),
        ("https://stably.example/a/b/", "https://stably.example/a/b"),
        ("https://a_b.example-1.x:8443", "https://a_b.example-1.x:8443"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://stably", "https://stably"),
        ("http://127.0.0.1:080", "http://127.0.0.1:80"),
        ("http://[::1]:8484", "http://[::1]:8484"),
        ("http://[0:0:0::1]", "http://[::1]"),
        ("http://[::FFFF:10.0.0.1]/x", "http://[::ffff:a00:1]/x"),
        ("http://user:p@ss@proxy.example:3128", "http://proxy.example:3128"),
    ],
)
def test_an_address_is_read_in_one_form(text, base_url):
    """Case, zeros and a slash at the end do not matter."""
    assert Address.parse(text).base_url() in {base_url, base_url.replace("a00:1", "10.0.0.1")}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "stably.example",
        "https://",
        "https:///path",
        "https://https:/api.stably.ai",
        "http://evil.example[::1]",
        "http://[::1]evil.example",
        "http://[::1",
        "http://[evil.example]",
        "http://[127.0.0.1].evil.example",
        "http://[fe80::1%eth0]",
        "http://evil.example\\.stably.ai",
        "https://evil\\.example",
        "https://evil.example\\@stably.ai",
        "https://stably%2eexample",
        "https://stably.example%00.evil",
        "https://b\u00fccher.example",
        "https://\u2100.example",
        "https://stably\u3002example",
        "https://stably..example",
        "https://.stably.example",
        "https://stably.example.",
        "https://-stably.example",
        "https://stably-.example",
        f"https://{'x' * 64}.example",
        f"https://{'x.' * 127}example",
        "http://127.1",
        "http://2130706433",
        "http://0x7f.0.0.1",
        "http://127.0.0.0x1",
        "http://127.0.0.01",
        "http://256.0.0.1",
        "https://stably.example:",
        "https://stably.example:0",
        "https://stably.example:65536",
        "https://stably.example:0000443",
        "https://stably.example:443:443",
        "https://stably.example:+443",
        "https://stably.example:4_43",
        "https://stably.example:port",
        "https://stably.example/a b",
        "https://stably.example/\n",
        "https://stably.example\t",
        " https://stably.example",
        "https://x" + "[" * 100_000,
    ],
)
def test_an_ambiguous_address_is_refused(text):
    """The message shows nothing of the text, which may hold a password."""
    with pytest.raises(ValueError, match=r"^not an address") as caught:
        Address.parse(text)

    assert "evil" not in str(caught.value)


def test_user_query_and_fragment_are_read():
    """Who reads an address decides whether they may be there."""
    assert Address.parse("https://u:p@stably.example").has_user
    assert Address.parse("https://stably.example?a#b").rest == "?a#b"
    assert Address.parse("https://stably.example/x#b").rest == "#b"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("localhost", True),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("0.0.0.0", False),  # noqa: S104 - nothing listens
        ("10.0.0.1", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback_is_this_machine_only(host, expected):
    """There, plain http is allowed."""
    assert is_loopback(host) is expected
