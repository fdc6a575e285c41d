"""What ``networkProxy`` means. The proxy at work is in ``test_uplink_https`` and ``test_uplink_mqtt``."""

from typing import Any

import pytest

from monodon.errors import ConfigurationError
from monodon.nucleus.proxy import Proxy


@pytest.mark.parametrize(
    ("url", "given", "host", "port", "user", "password"),
    [
        ("http://proxy.example:3128", {}, "proxy.example", 3128, None, None),
        ("proxy.example:3128", {}, "proxy.example", 3128, None, None),
        ("http://proxy.example", {}, "proxy.example", 80, None, None),
        ("http://me:a%40b@proxy.example", {}, "proxy.example", 80, "me", "a@b"),
        ("http://proxy.example", {"username": "me", "password": "x"}, "proxy.example", 80, "me", "x"),
        ("http://me@proxy.example", {"username": "you", "password": "x"}, "proxy.example", 80, "me", "x"),
        ("http://[::1]:8080", {}, "::1", 8080, None, None),
    ],
)
def test_a_proxy_is_read(
    url: str, given: dict[str, Any], host: str, port: int, user: str | None, password: str | None
) -> None:
    proxy = Proxy.read(url, **given)
    assert (proxy.host, proxy.port, proxy.username, proxy.password) == (host, port, user, password)
    assert "a@b" not in repr(proxy)


@pytest.mark.parametrize("url", ["https://p:1", "socks5://p:1", "http://", "http://p:port", "http://u:secret@:1", ":"])
def test_what_cannot_be_used_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"networkProxy\.proxy\.url") as refused:
        Proxy.read(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "is_for"),
    [
        ("example.com", True),
        ("own.example", False),
        ("a.OWN.example", False),
        ("grown.example", True),
        ("10.0.0.1", False),
        ("localhost", True),
    ],
)
def test_some_hosts_are_reached_without_it(host: str, is_for: bool) -> None:
    assert Proxy.read("http://p", exempt=" .own.example, 10.0.0.1,,").is_for(host) is is_for


def test_components_find_it_in_both_cases() -> None:
    environment = Proxy.read("http://p:1", username="a b", password="c:d", exempt="x").environment()
    assert environment["HTTPS_PROXY"] == environment["https_proxy"] == "http://a%20b:c%3Ad@p:1"
    assert environment["NO_PROXY"] == environment["no_proxy"] == "x,localhost"
    assert {name.upper() for name in environment} == {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
