"""Pure: which address a request comes from, when proxies that we trust stand in between."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Address = IPv4Address | IPv6Address
Networks = tuple[IPv4Network | IPv6Network, ...]


def client_address(
    peer_address: str | None,
    headers: Iterable[tuple[bytes, bytes]],
    trusted: Sequence[IPv4Network | IPv6Network],
) -> str | None:
    """The nearest address that is no trusted proxy, for limits and the record.

    X-Forwarded-For counts only from a trusted peer, and only as far from its right end as the
    proxies that wrote it are trusted: the rest is what the client claims. None where the server
    itself knows no peer (a Unix socket).
    """
    if not is_trusted(peer_address, trusted):
        return peer_address
    nearest = peer_address
    for claimed in reversed(_forwarded_for(headers)):
        address = parse_address(claimed)
        if address is None:
            # What stands left of nonsense is not worth more than it.
            return nearest
        nearest = str(address)
        if not _within(address, trusted):
            return nearest
    return nearest


def is_trusted(peer_address: str | None, trusted: Sequence[IPv4Network | IPv6Network]) -> bool:
    if not trusted or peer_address is None:
        return False
    address = parse_address(peer_address)
    return address is not None and _within(address, trusted)


def parse_address(text: str) -> Address | None:
    """`192.0.2.1`, `192.0.2.1:1234`, `2001:db8::1` or `[2001:db8::1]:1234`; None for the rest."""
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket or (port and not (port[0] == ":" and port[1:].isdecimal())):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not port.isdecimal():
            return None
    if "%" in text:  # a zone names an interface of the sender's machine
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        # A socket that listens on both shows IPv4 peers so; networks are written in IPv4.
        return address.ipv4_mapped
    return address


def _within(address: Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)


def _forwarded_for(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """All lines in order: proxies append to the last, or add one of their own."""
    lines = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
    return [entry.strip(" \t") for line in lines for entry in line.split(",")]
