r"""Client certificates that a TLS-terminating proxy checked: X-Forwarded-Client-Cert.

Pure. The header is Envoy's (HTTP connection manager, "x-forwarded-client-cert"): elements
separated by commas, each `Key=value;Key=value`, values in double quotes where they hold `,`, `;`
or `=`, and a double quote inside written `\"`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.config.model import CertificateIdentity
from app.errors import Unreadable
from app.identity.caller import Caller, IdentityRef
from app.identity.refusal import Unrecognised

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.config.model import Caller as CallerConfig
    from app.identity.uses import Use, Uses

HEADER: Final = b"x-forwarded-client-cert"
HEADER_BYTES_MAX: Final = 32 * 1024
"""A whole chain in PEM fits; a proxy that sends more is none of ours."""

_PAIR: Final = re.compile(
    r"""(?P<key>[A-Za-z]+)=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^",;=\\]*))"""
)
_KEYS: Final = frozenset({"by", "hash", "cert", "chain", "subject", "uri", "dns"})


@dataclass(frozen=True, slots=True)
class ForwardedCertificate:
    """The alternative names of the one certificate that the proxy saw."""

    uris: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()


def read_forwarded_certificate(
    headers: Iterable[tuple[bytes, bytes]],
) -> ForwardedCertificate | None:
    """The certificate in a trusted proxy's header; None where there is none.

    Raises `Unreadable` for a header given twice, and `Unrecognised` for one that is not exactly
    one well-formed element: with more, some were written by whoever came before the proxy.
    Proxies must be set to replace the header (Envoy: SANITIZE_SET).
    """
    values = [value for name, value in headers if name == HEADER]
    if not values:
        return None
    if len(values) > 1:
        raise Unreadable(
            "duplicate-header", "X-Forwarded-Client-Cert is given twice: only one can count."
        )
    text = values[0].decode("latin-1")
    if len(text) > HEADER_BYTES_MAX or not text.isascii() or not text.isprintable():
        raise Unrecognised("certificate-malformed")
    names: dict[str, list[str]] = {"uri": [], "dns": []}
    seen: set[str] = set()
    position = 0
    while True:
        pair = _PAIR.match(text, position)
        if pair is None:
            raise Unrecognised("certificate-malformed")
        key = pair["key"].lower()
        if key not in _KEYS or (key in seen and key not in names):
            raise Unrecognised("certificate-malformed")
        seen.add(key)
        if key in names:
            names[key].append(_value(pair))
        position = pair.end()
        if position == len(text):
            break
        if text[position] != ";":
            raise Unrecognised("certificate-malformed")
        position += 1
    return ForwardedCertificate(
        uris=tuple(uri for uri in names["uri"] if uri),
        dns_names=tuple(name.lower() for name in names["dns"] if name),
    )


def _value(pair: re.Match[str]) -> str:
    if pair["quoted"] is None:
        return pair["bare"]
    if not re.fullmatch(r'(?:[^\\]|\\["\\])*', pair["quoted"]):
        raise Unrecognised("certificate-malformed")
    return re.sub(r'\\(["\\])', r"\1", pair["quoted"])


@dataclass(frozen=True, slots=True)
class _Named:
    """A name of the configuration, and whose it is."""

    caller: Caller
    use: Use


class Certificates:
    """The certificate names of one configuration, and whose they are."""

    def __init__(self, callers: Mapping[str, CallerConfig], uses: Uses) -> None:
        self._by_uri: dict[str, _Named] = {}
        self._by_dns_name: dict[str, _Named] = {}
        for name, config in callers.items():
            for identity in config.identities:
                if isinstance(identity, CertificateIdentity):
                    match = identity.certificate
                    caller = Caller(name, IdentityRef("certificate", match.san), config)
                    by_name = self._by_uri if match.is_uri else self._by_dns_name
                    by_name[match.name] = _Named(caller, uses.of(name, identity))

    def caller(self, certificate: ForwardedCertificate, *, now: float) -> Caller:
        """Whose certificate this is. Raises `Unrecognised`, also where it could be two callers'."""
        names = (
            *(self._by_uri.get(uri) for uri in certificate.uris),
            *(self._by_dns_name.get(name) for name in certificate.dns_names),
        )
        found = [named for named in names if named is not None]
        if not found:
            raise Unrecognised("certificate-matches-nobody")
        caller = found[0].caller
        if any(named.caller.name != caller.name for named in found):
            raise Unrecognised("certificate-matches-several")
        if caller.config.disabled:
            raise Unrecognised("caller-disabled", caller=caller.name)
        found[0].use.last_at = now
        return caller
