"""The broker believes a forwarded address only as far as trusted proxies wrote it."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.identity.proxies import client_address, is_trusted, parse_address

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "lines", "expected"),
    [
        pytest.param("192.0.2.1", [b"198.51.100.7"], "192.0.2.1", id="untrusted-peer"),
        pytest.param("10.0.0.1", [], "10.0.0.1", id="nothing-forwarded"),
        pytest.param("10.0.0.1", [b"198.51.100.7"], "198.51.100.7", id="one-proxy"),
        pytest.param("10.0.0.1", [b"1.1.1.1, 198.51.100.7"], "198.51.100.7", id="spoofed-left"),
        pytest.param("10.0.0.1", [b"198.51.100.7, 10.0.0.2"], "198.51.100.7", id="two-proxies"),
        pytest.param(
            "10.0.0.1", [b"1.1.1.1", b"198.51.100.7,10.0.0.2"], "198.51.100.7", id="two-lines"
        ),
        pytest.param("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], "10.0.0.3", id="all-trusted"),
        pytest.param("10.0.0.1", [b"198.51.100.7, nonsense"], "10.0.0.1", id="nonsense"),
        pytest.param(
            "10.0.0.1", [b"198.51.100.7, x, 10.0.0.2"], "10.0.0.2", id="nonsense-behind-a-proxy"
        ),
        pytest.param("10.0.0.1", [b""], "10.0.0.1", id="empty"),
        pytest.param("10.0.0.1", [b"198.51.100.7:443"], "198.51.100.7", id="with-port"),
        pytest.param("fd00::1", [b"[2001:db8::7]:443"], "2001:db8::7", id="ipv6-with-port"),
        pytest.param("::ffff:10.0.0.1", [b"198.51.100.7"], "198.51.100.7", id="mapped-peer"),
        pytest.param(None, [b"198.51.100.7"], None, id="unix-socket"),
        pytest.param("testclient", [b"198.51.100.7"], "testclient", id="no-address"),
    ],
)
def test_the_client_is_the_nearest_address_that_is_no_trusted_proxy(
    peer: str | None, lines: list[bytes], expected: str | None
) -> None:
    headers = [(b"x-forwarded-for", line) for line in lines]
    assert client_address(peer, headers, TRUSTED) == expected


def test_without_trusted_proxies_nobody_is_trusted() -> None:
    assert not is_trusted("127.0.0.1", ())
    assert client_address("127.0.0.1", [(b"x-forwarded-for", b"1.1.1.1")], ()) == "127.0.0.1"


@pytest.mark.parametrize(
    "text",
    ["", "1.2.3", "1.2.3.4:", "1.2.3.4:x", "[::1", "[::1]x", "[::1]:", "fe80::1%eth0", "01.2.3.4"],
)
def test_what_is_no_address_is_not_read_as_one(text: str) -> None:
    assert parse_address(text) is None


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_none(text: str) -> None:
    address = parse_address(text)
    assert address is None or parse_address(str(address)) == address
